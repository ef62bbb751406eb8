import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from ser_features.corpora.superb import (
    METADATA,
    SESSIONS,
    SORTED_NOTE,
    TEST_SIZES,
    superb_folds,
    torch_permutation,
)
from ser_features.errors import ManifestError
from ser_features.folds import make_folds
from ser_features.manifest import Manifest
from ser_features.records import Fold, Utterance
from ser_features_cli.options import read_sources

CODES = {"ang": "anger", "hap": "happiness", "neu": "neutral", "sad": "sadness"}


def made_up_turns() -> list[tuple[str, str]]:
    """Turn names and label codes, as many as SUPERB has in each session."""
    return [
        (f"Ses0{session}{'FM'[i % 2]}_impro01_{'FM'[i % 3 % 2]}{i:03}", code)
        for session, size in enumerate(TEST_SIZES, 1)
        for i, code in enumerate(list(CODES) * (size // 4 + 1))
        if i < size
    ]


def manifest_of(turns: list[tuple[str, str]], **more: object) -> Manifest:
    utterances = tuple(
        Utterance(name, Path(f"{name}.wav"), CODES[code], name[:6], f"Session{name[4]}")
        for name, code in turns
    )
    return Manifest("iemocap", utterances, **more)  # type: ignore[arg-type]


def write_metadata(root: Path, turns: list[tuple[str, str]]) -> Path:
    """Files laid out as in s3prl's repository, with the turns in the given order."""
    for number, session in enumerate(SESSIONS, 1):
        folder = root / session
        folder.mkdir(parents=True, exist_ok=True)
        for side, wanted in (("test", True), ("train", False)):
            rows = [
                {"path": f"{session}/sentences/wav/x/{name}.wav", "label": code, "speaker": "?"}
                for name, code in turns
                if (name[4] == str(number)) is wanted
            ]
            text = json.dumps(
                {"labels": {"neu": 0, "hap": 1, "ang": 2, "sad": 3}, "meta_data": rows}
            )
            (folder / f"{side}_meta_data.json").write_text(text)
    return root


def s3prl_folds(metadata: Path) -> list[Fold]:
    """What s3prl does with its metadata, word for word."""
    folds = []
    for session in SESSIONS:
        train, test = (
            [
                Path(row["path"]).stem
                for row in json.loads((metadata / session / name).read_text())["meta_data"]
            ]
            for name in ("train_meta_data.json", "test_meta_data.json")
        )
        torch.manual_seed(0)
        num_train = int((1 - 0.2) * len(train))
        parts = torch.utils.data.random_split(train, [num_train, len(train) - num_train])
        folds.append(Fold(session, tuple(parts[0]), tuple(parts[1]), tuple(test)))
    return folds


@pytest.fixture(scope="module")
def turns() -> list[tuple[str, str]]:
    return made_up_turns()


@pytest.fixture(scope="module")
def metadata(turns: list[tuple[str, str]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made-up metadata, in no order."""
    shuffled = random.Random(7).sample(turns, len(turns))
    return write_metadata(tmp_path_factory.mktemp("s3prl"), shuffled)


@pytest.fixture
def spoiled(metadata: Path, tmp_path: Path) -> Path:
    """A copy of the made-up metadata, to be changed."""
    return Path(shutil.copytree(metadata, tmp_path / "spoiled"))


def edit(path: Path, change: object) -> None:
    body = json.loads(path.read_text())
    change(body["meta_data"])  # type: ignore[operator]
    path.write_text(json.dumps(body))


def of_the_real_corpus(shared: Path) -> tuple[Manifest, Path]:
    """The names and labels of SUPERB's turns in sorted order, and its metadata."""
    folder = shared / "reference/iemocap_superb"
    rows = [
        (Path(row["path"]).stem, row["label"])
        for session in SESSIONS
        for row in json.loads((folder / session / "test_meta_data.json").read_text())["meta_data"]
    ]
    return manifest_of(sorted(rows)), folder


def test_with_metadata_every_side_is_s3prl_s_in_order(shared: Path) -> None:
    manifest, folder = of_the_real_corpus(shared)
    assert list(superb_folds(manifest, folder)) == s3prl_folds(folder)


def test_without_metadata_only_dev_is_another(shared: Path) -> None:
    manifest, folder = of_the_real_corpus(shared)
    exact, drawn = superb_folds(manifest, folder), superb_folds(manifest)
    for one, other in zip(exact, drawn, strict=True):
        assert (one.name, sorted(one.test)) == (other.name, list(other.test))
        assert (len(one.train), len(one.dev)) == (len(other.train), len(other.dev))
        assert {*one.train, *one.dev} == {*other.train, *other.dev}
        assert set(one.dev) != set(other.dev)
    assert [len(fold.test) for fold in drawn] == [1085, 1023, 1151, 1031, 1241]
    assert [len(fold.dev) for fold in drawn] == [890, 902, 876, 900, 858]


def test_the_order_of_the_metadata_decides(turns: list[tuple[str, str]], metadata: Path) -> None:
    manifest = manifest_of(turns)
    assert list(superb_folds(manifest, metadata)) == s3prl_folds(metadata)


def test_the_order_of_the_manifest_does_not(turns: list[tuple[str, str]], metadata: Path) -> None:
    one, other = manifest_of(turns), manifest_of(turns[::-1])
    assert superb_folds(one) == superb_folds(other)
    assert superb_folds(one, metadata) == superb_folds(other, metadata)


def test_a_whole_clone_of_s3prl_will_do(
    turns: list[tuple[str, str]], metadata: Path, tmp_path: Path
) -> None:
    shutil.copytree(metadata, tmp_path / METADATA)
    manifest = manifest_of(turns)
    assert superb_folds(manifest, tmp_path) == superb_folds(manifest, metadata)


def test_the_note_is_there_only_where_dev_is_not_superb_s(
    turns: list[tuple[str, str]], metadata: Path
) -> None:
    manifest = manifest_of(turns)
    drawn = manifest.with_folds("superb", superb_folds(manifest), SORTED_NOTE)
    plan = make_folds(drawn.select_labels(), "superb")
    assert plan.folds == superb_folds(manifest)
    assert plan.dev_shares_speakers
    assert plan.notes == (SORTED_NOTE,)
    exact = drawn.with_folds("superb", superb_folds(manifest, metadata))
    assert make_folds(exact.select_labels(), "superb").notes == ()
    assert SORTED_NOTE not in make_folds(drawn, "session").notes


def test_permutation_is_torch_s() -> None:
    before = np.random.get_state()[1].tolist()
    for n in (0, 1, 2, 3, 100, 4446, 5531):
        generator = torch.Generator().manual_seed(0)
        assert torch_permutation(n) == torch.randperm(n, generator=generator).tolist()
    assert np.random.get_state()[1].tolist() == before  # numpy's global generator is untouched


def test_turns_that_are_not_those_of_the_corpus(
    turns: list[tuple[str, str]], spoiled: Path
) -> None:
    edit(
        spoiled / "Session2" / "test_meta_data.json",
        lambda rows: rows.__setitem__(0, rows[0] | {"path": "Session2/x/Ses02F_impro09_F999.wav"}),
    )
    edit(spoiled / "Session4" / "train_meta_data.json", lambda rows: rows.append(rows[0]))
    with pytest.raises(ManifestError, match="does not match SUPERB's metadata in ") as info:
        superb_folds(manifest_of(turns), spoiled)
    strange, lacking, twice = info.value.problems
    assert strange == (
        "Session2/test_meta_data.json: 1 turn(s) are not in the corpus: 'Ses02F_impro09_F999'"
    )
    assert lacking.startswith("Session2/test_meta_data.json: 1 turn(s) of the corpus are not there")
    assert twice == "Session4/train_meta_data.json: 1 turn(s) are there twice"


def test_labels_that_are_not_those_of_the_corpus(
    turns: list[tuple[str, str]], spoiled: Path
) -> None:
    name, code = turns[0]
    other = "sad" if code != "sad" else "ang"
    edit(
        spoiled / "Session1" / "test_meta_data.json",
        lambda rows: [r.update(label=other) for r in rows if name in r["path"]],
    )
    with pytest.raises(ManifestError) as info:
        superb_folds(manifest_of(turns), spoiled)
    assert info.value.problems == (
        f"Session1/test_meta_data.json: 1 turn(s) have another label: '{name}' "
        f"(the first is {other!r} there, 'angry' in the corpus)",
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"meta_data": 5}',
        '{"meta_data": [1]}',
        '{"meta_data": [{"path": "x.wav"}]}',
        '{"meta_data": [{"path": 1, "label": "sad"}]}',
        '{"meta_data": [{"path": "x.wav", "label": null}]}',
        "[" * 100_000,
        "\ud800",
    ],
)
def test_a_file_that_is_not_metadata(
    turns: list[tuple[str, str]], spoiled: Path, text: str
) -> None:
    file = spoiled / "Session3" / "train_meta_data.json"
    file.write_bytes(text.encode(errors="surrogatepass"))
    with pytest.raises(ManifestError, match=r"Session3/train_meta_data.json is not s3prl's metad"):
        superb_folds(manifest_of(turns), spoiled)


def test_a_folder_that_is_not_metadata(turns: list[tuple[str, str]], tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"there is no .*Session1/train_meta_data.json; expec"):
        superb_folds(manifest_of(turns), tmp_path)
    (tmp_path / "Session1" / "train_meta_data.json").mkdir(parents=True)
    with pytest.raises(ManifestError, match=r"cannot read .*Session1/train_meta_data.json: Is a d"):
        superb_folds(manifest_of(turns), tmp_path)


def test_a_part_of_the_corpus_has_no_superb_folds(turns: list[tuple[str, str]]) -> None:
    with pytest.raises(ManifestError, match=r"its 5531 turns.*'iemocap' has \(1084, 1023, 1151,"):
        superb_folds(manifest_of(turns[1:]))


def test_the_command_line_attaches_the_folds(
    turns: list[tuple[str, str]], metadata: Path, tmp_path: Path
) -> None:
    manifest = manifest_of(turns)
    table = tmp_path / "mine.csv"
    lines = [f"{u.id},{u.path},{u.label},{u.speaker},{u.session}" for u in manifest.utterances]
    table.write_text("\n".join(["id,path,label,speaker,session", *lines]))
    (source,) = read_sources(None, [str(table)], superb_metadata=metadata)
    assert source.read().folds == {"superb": superb_folds(manifest, metadata)}
    (source,) = read_sources(None, [str(table)])
    assert "superb" not in source.read().folds
