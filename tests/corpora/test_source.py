"""A manifest's source is plain data, and reads the same manifest again."""

import json
from pathlib import Path

import pytest

from ser_features.corpora.source import ManifestSource, source_from_json
from ser_features.errors import UsageError


def test_a_source_survives_json_and_reads_the_same_manifest(tmp_path: Path) -> None:
    (tmp_path / "set.csv").write_text("id,path,label\na,a.wav,sad\n")
    source = ManifestSource("manifest", "mine", str(tmp_path / "set.csv"), root=str(tmp_path / "x"))
    again = source_from_json(json.loads(json.dumps(source.to_json())))
    assert again == source
    assert again.read() == source.read()
    assert again.read().corpus == "mine"
    assert again.read().utterances[0].path == tmp_path / "x" / "a.wav"


@pytest.mark.parametrize("value", [None, {}, {"kind": "corpus"}, {"strange": 1}, [1]])
def test_what_is_no_source_is_said(value: object) -> None:
    with pytest.raises(UsageError, match="does not say where its corpus was read from"):
        source_from_json(value)


def test_a_part_of_a_corpus_has_emobox_folds_where_that_is_allowed(
    shared: Path, tmp_path: Path
) -> None:
    files = sorted((shared / "data" / "emodb" / "wav").glob("*.wav"))[::5]
    for file in files:
        (tmp_path / file.name).symlink_to(file)
    emobox = str(shared / "reference" / "emobox")
    source = ManifestSource("corpus", "emodb", str(tmp_path), emobox=emobox, allow_partial=True)
    folds = source.read().folds["emobox"]
    assert {name for fold in folds for name in fold.test} == {file.stem for file in files}


def test_emobox_metadata_is_a_manifest_with_folds(shared: Path) -> None:
    metadata = shared / "reference" / "emobox" / "urdu"
    source = ManifestSource("manifest", "u", str(metadata), root=str(shared / "data" / "urdu"))
    manifest = source.read()
    assert (manifest.corpus, len(manifest)) == ("u", 400)
    assert [fold.name for fold in manifest.folds["emobox"]] == ["fold_1"]
    assert manifest.utterances[0].path.exists()
