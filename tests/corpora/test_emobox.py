import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ser_features.corpora.emobox import emobox_folds, read_emobox
from ser_features.corpora.table import read_corpus
from ser_features.errors import ManifestError
from ser_features.manifest import Manifest
from ser_features.records import Fold, Utterance


def make(root: Path, *, old: bool = False) -> Path:
    """Metadata of a toy corpus of three utterances and two folds, one with a valid side."""
    folder = root / "toy"
    rows = {
        key: {"key": f"toy-{key}", "wav": f"downloads/toy/wav/{key}.wav", "emo": label}
        for key, label in (("a", "A"), ("b", "Neutral"), ("c", "x"))
    }
    if old:
        rows = {
            key: {"key": row["key"], "audio": row["wav"], "label": row["emo"]}
            for key, row in rows.items()
        }
    write(folder / "toy.jsonl", rows.values())
    sep = "" if old else "_"
    for number, (train, valid, test) in {10: ("a", "b", "c"), 2: ("bc", "", "a")}.items():
        for side, keys in (("train", train), ("valid", valid), ("test", test)):
            if keys:
                path = folder / f"fold_{number}" / f"toy_{side}_fold{sep}{number}.jsonl"
                write(path, [rows[key] for key in keys])
    (folder / "label_map.json").write_text('{"A": "Angry", "neutral": "Neutral"}')
    (folder / "data.seg.wrd.stm").write_text(
        "toy-a 1 s1 0 1.5 <id=toy-a,lang=en,spk=s1,emotion=A> A\n"
        "toy-b 1 s2 0 1.5 <id=toy-b,lang=en,spk=s2,emotion=N> N\n"
    )
    return folder


def write(path: Path, rows: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))  # type: ignore[attr-defined]


FOLDS = (
    Fold("fold_2", ("toy-b", "toy-c"), (), ("toy-a",)),
    Fold("fold_10", ("toy-a",), ("toy-b",), ("toy-c",)),
)


@pytest.mark.parametrize("old", [False, True])
def test_both_schemas(tmp_path: Path, old: bool) -> None:
    manifest = read_emobox(make(tmp_path, old=old), tmp_path / "audio")
    assert manifest.corpus == "toy"
    assert [(u.id, u.label, u.speaker) for u in manifest.utterances] == [
        ("toy-a", "Angry", "s1"),
        ("toy-b", "Neutral", "s2"),
        ("toy-c", "x", None),
    ]
    assert manifest.folds["emobox"] == FOLDS


@pytest.mark.parametrize("above", ["downloads/toy/wav", "toy/wav", "wav", ""])
def test_audio_root_may_be_any_folder_of_the_layout(tmp_path: Path, above: str) -> None:
    audio = tmp_path / "audio"
    (audio / above).mkdir(parents=True)
    (audio / above / "b.wav").touch()  # The others are missing: rejected later, not here.
    paths = [u.path for u in read_emobox(make(tmp_path), audio).utterances]
    assert paths == [audio / above / f"{key}.wav" for key in "abc"]


def test_folds_match_another_manifest_by_file_stem(tmp_path: Path) -> None:
    mine = Manifest("mine", tuple(Utterance(f"id-{k}", Path(f"/x/{k}.flac"), "sad") for k in "cab"))
    folds = emobox_folds(make(tmp_path), mine)
    assert folds[0] == Fold("fold_2", ("id-b", "id-c"), (), ("id-a",))
    assert mine.with_folds("emobox", folds).validate().folds["emobox"] == folds


def test_folds_that_do_not_match(tmp_path: Path) -> None:
    mine = Manifest("mine", tuple(Utterance(k, Path(f"/x/{k}.wav"), "sad") for k in "az"))
    with pytest.raises(ManifestError, match="corpus 'mine' does not match the EmoBox") as info:
        emobox_folds(make(tmp_path), mine)
    assert info.value.problems == (
        "1 utterance(s) are not in EmoBox: 'z'",
        "2 are in EmoBox only: 'b', 'c'",
    )
    part = Manifest("mine", (Utterance("a", Path("a.wav"), "sad"),))
    with pytest.raises(ManifestError, match="2 are in EmoBox only"):
        emobox_folds(tmp_path / "toy", part)
    folds = emobox_folds(tmp_path / "toy", part, allow_partial=True)
    assert folds == (Fold("fold_2", (), (), ("a",)), Fold("fold_10", ("a",), (), ()))
    twice = Manifest("mine", tuple(Utterance(i, Path(f"{i}/a.wav"), "sad") for i in "12"))
    with pytest.raises(ManifestError, match="several utterances with one file name"):
        emobox_folds(tmp_path / "toy", twice)


def test_damaged_metadata(tmp_path: Path) -> None:
    folder = make(tmp_path)
    with pytest.raises(ManifestError, match=r"not EmoBox metadata of a corpus: found 0 \.jsonl"):
        read_emobox(tmp_path, tmp_path)
    (folder / "label_map.json").write_text("[]")
    with pytest.raises(ManifestError, match="is not a label map"):
        read_emobox(folder, tmp_path)
    (folder / "label_map.json").unlink()
    (folder / "data.seg.wrd.stm").unlink()
    assert "names no speakers" in read_emobox(folder, tmp_path).notes[0]
    (folder / "fold_2" / "toy_test_fold_2.jsonl").unlink()
    with pytest.raises(ManifestError, match=r"cannot read .*toy_test_fold_2\.jsonl"):
        read_emobox(folder, tmp_path)
    shutil.rmtree(folder / "fold_2")
    write(folder / "fold_10/toy_test_fold_10.jsonl", [{"key": "toy-z", "wav": "z.wav", "emo": "A"}])
    with pytest.raises(ManifestError, match="fold 10 has unknown keys: 'toy-z'"):
        read_emobox(folder, tmp_path)
    shutil.rmtree(folder / "fold_10")
    with pytest.raises(ManifestError, match="has no folds; expected folders fold_1, fold_2"):
        read_emobox(folder, tmp_path)
    (folder / "toy.jsonl").write_text(
        '{"key": "a"}\nnot json\n{"key": 1, "wav": "x", "emo": "A"}\n'
    )
    with pytest.raises(ManifestError, match="expected JSON objects with key, wav and emo") as info:
        read_emobox(folder, tmp_path)
    assert [problem[:7] for problem in info.value.problems] == ["line 1:", "line 2:", "line 3:"]


@settings(deadline=None)
@given(st.text(max_size=60))
def test_no_line_makes_it_crash(tmp_path_factory: pytest.TempPathFactory, line: str) -> None:
    folder = make(tmp_path_factory.mktemp("fuzz", numbered=True))
    (folder / "toy.jsonl").write_text(line, "utf-8")
    with pytest.raises(ManifestError):
        read_emobox(folder, folder)


SIZES = {
    "emodb": (535, 5, 10),
    "urdu": (400, 1, 29),
    "ravdess": (1440, 6, 24),
    "iemocap": (5531, 5, 10),
}


@pytest.mark.parametrize("name", SIZES)
def test_real_metadata(shared: Path, name: str) -> None:
    manifest = read_emobox(shared / "reference/emobox" / name, shared / "data" / name)
    utterances, num_folds, speakers = SIZES[name]
    assert (len(manifest), len(manifest.speakers)) == (utterances, speakers)
    folds = manifest.folds["emobox"]
    assert [fold.name for fold in folds] == [f"fold_{n + 1}" for n in range(num_folds)]
    for fold in folds:
        assert sorted(fold.train + fold.test) == sorted(manifest.by_id)


@pytest.mark.parametrize("name", ["emodb", "urdu"])
def test_real_folds_attach_to_the_corpus_read_by_name(shared: Path, name: str) -> None:
    metadata = shared / "reference/emobox" / name
    by_name = read_corpus(name, shared / "data" / name)
    own = by_name.with_folds("emobox", emobox_folds(metadata, by_name)).select_labels()
    theirs = read_emobox(metadata, shared / "data" / name).select_labels()
    assert all(u.path.exists() for u in theirs.utterances)
    assert {f"{name}-{u.id}": u.label for u in own.utterances} == {
        u.id: u.label for u in theirs.utterances
    }
    for mine, fold in zip(own.folds["emobox"], theirs.folds["emobox"], strict=True):
        assert [f"{name}-{i}" for i in mine.test] == list(fold.test)


def test_the_older_schema_of_emodb_has_the_same_folds(shared: Path, tmp_path: Path) -> None:
    metadata = shared / "reference/emobox/emodb"
    old = tmp_path / "emodb"
    shutil.copytree(metadata, old, ignore=shutil.ignore_patterns("*_fold_*.jsonl"))
    assert read_emobox(old, tmp_path).folds == read_emobox(metadata, tmp_path).folds


def test_iemocap_speakers_are_who_speaks(shared: Path) -> None:
    manifest = read_emobox(shared / "reference/emobox/iemocap", shared)
    assert manifest.by_id["iemocap-Ses01F_impro04_M000"].speaker == "Ses01M"
