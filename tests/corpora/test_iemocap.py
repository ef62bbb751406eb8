import json
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from ser_features.corpora.iemocap import speaker_of
from ser_features.corpora.superb import SORTED_NOTE, superb_folds
from ser_features.corpora.table import read_corpus
from ser_features.errors import ManifestError

HEADER = "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n"
VOTES = "C-E2:\tNeutral;\t()\nA-E3:\tval 3; act 2; dom  2;\t()\n\n"


def write_turns(root: Path, turns: dict[str, str]) -> Path:
    """EmoEvaluation files and empty recordings for ``turn name → code``."""
    dialogues: dict[str, list[str]] = defaultdict(list)
    for turn in turns:
        dialogues[turn.rsplit("_", 1)[0]].append(turn)
    for dialogue, names in dialogues.items():
        session = root / f"Session{dialogue[4]}"
        labels = session / "dialog" / "EmoEvaluation"
        labels.mkdir(parents=True, exist_ok=True)
        lines = [f"[6.2901 - 8.2357]\t{n}\t{turns[n]}\t[2.5, 2.5, 2.5]\n{VOTES}" for n in names]
        (labels / f"{dialogue}.txt").write_text(HEADER + "".join(lines))
        (session / "sentences" / "wav" / dialogue).mkdir(parents=True, exist_ok=True)
        for name in names:
            (session / "sentences" / "wav" / dialogue / f"{name}.wav").touch()
    return root


@pytest.fixture(scope="module")
def tree(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole corpus, made up: every turn of EmoBox's metadata, and some of other labels."""
    lines = (shared / "reference/emobox/iemocap/iemocap.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    turns = {row["key"].removeprefix("iemocap-"): row["emo"] for row in rows}
    turns |= {"Ses01F_impro01_F900": "fru", "Ses01F_impro01_F901": "xxx"}
    turns |= {f"Ses02M_impro02_M90{i}": code for i, code in enumerate(("fea", "sur", "dis", "oth"))}
    root = write_turns(tmp_path_factory.mktemp("iemocap"), turns)
    labels = root / "Session1" / "dialog" / "EmoEvaluation"
    (labels / "Categorical").mkdir()
    (labels / "._Ses01F_impro01.txt").write_bytes(b"\0\xff[")
    return root


def superb_metadata(shared: Path, number: int, side: str) -> list[dict[str, str]]:
    path = shared / f"reference/iemocap_superb/Session{number}/{side}_meta_data.json"
    rows: list[dict[str, str]] = json.loads(path.read_text())["meta_data"]
    return rows


def test_superb_labels_and_files_are_s3prl_s(tree: Path, shared: Path) -> None:
    manifest = read_corpus("iemocap", tree)
    words = {"ang": "anger", "hap": "happiness", "neu": "neutral", "sad": "sadness"}
    for number in range(1, 6):
        for row in superb_metadata(shared, number, "test"):
            turn = manifest.by_id[Path(row["path"]).stem]
            assert turn.path == tree / row["path"]
            assert turn.label == words[row["label"]]
            assert turn.session == f"Session{number}"
    assert len(manifest) == 5531
    assert manifest.notes == (
        "6 of 5537 turns have other labels: frustration 1, no agreement 1, fear 1, surprise 1, "
        "disgust 1, other 1",
    )
    assert read_corpus("iemocap", tree.parent / tree.name / ".").utterances == manifest.utterances


def test_superb_folds_come_with_a_note(tree: Path, shared: Path) -> None:
    manifest = read_corpus("iemocap", tree)
    assert manifest.folds["superb"] == superb_folds(manifest)
    assert manifest.fold_notes["superb"] == (SORTED_NOTE,)
    for number, fold in enumerate(superb_folds(manifest, shared / "reference/iemocap_superb"), 1):
        test = [Path(row["path"]).stem for row in superb_metadata(shared, number, "test")]
        assert list(fold.test) == test


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("iemocap", {"angry": 1103, "happy": 1636, "neutral": 1708, "sad": 1084}),
        ("iemocap-exp1", {"angry": 1103, "happy": 595, "neutral": 1708, "sad": 1084}),
        ("iemocap-exp2", {"angry": 1103, "excited": 1041, "neutral": 1708, "sad": 1084}),
        ("iemocap-exp3", {"angry": 1103, "happy": 1636, "neutral": 1708, "sad": 1084}),
    ],
)
def test_label_sets_of_the_papers(tree: Path, name: str, counts: dict[str, int]) -> None:
    manifest = read_corpus(name, tree)
    assert manifest.corpus == name
    assert manifest.select_labels().label_counts == counts
    assert ("superb" in manifest.folds) == (sum(counts.values()) == 5531)


def test_all_labels(tree: Path) -> None:
    manifest = read_corpus("iemocap-all", tree)
    assert len(manifest) == 5536
    assert manifest.label_counts["excited"] == 1041
    merged = manifest.select_labels(["neutral", "happy+excited", "angry", "sad"])
    assert merged.label_counts["happy"] == 1636


def test_speakers_and_sessions(tree: Path) -> None:
    manifest = read_corpus("iemocap", tree)
    assert len(manifest.speakers) == 10
    by_session = Counter((u.session, u.speaker) for u in manifest.utterances)
    assert len(by_session) == 10
    assert manifest.by_id["Ses01F_impro04_M000"].speaker == "Ses01M"
    assert speaker_of("Ses05M_script01_1b_F003") == "Ses05F"
    assert speaker_of("noise") is None


def test_a_part_of_the_corpus(tmp_path: Path) -> None:
    root = write_turns(tmp_path, {"Ses01F_impro01_F000": "neu", "Ses03M_script02_1_M001": "exc"})
    with pytest.raises(ManifestError, match="label neutral: found 1, expected 1708"):
        read_corpus("iemocap", root)
    manifest = read_corpus("iemocap", root, allow_partial=True)
    assert [(u.id, u.label) for u in manifest.utterances] == [
        ("Ses01F_impro01_F000", "neutral"),
        ("Ses03M_script02_1_M001", "happiness"),
    ]
    assert "superb" not in manifest.folds


def test_lines_that_are_not_understood(tmp_path: Path) -> None:
    root = write_turns(tmp_path, {"Ses01F_impro01_F000": "neu", "Ses01F_impro01_F001": "new"})
    with pytest.raises(ManifestError, match="EmoEvaluation lines that are not understood") as info:
        read_corpus("iemocap", root, allow_partial=True)
    assert len(info.value.problems) == 1
    assert info.value.problems[0].startswith("Session1, Ses01F_impro01.txt, line 7: '[6.2901")
    (tmp_path / "Session2").mkdir()
    with pytest.raises(ManifestError, match=r"there is no folder .*EmoEvaluation"):
        read_corpus("iemocap", root, allow_partial=True)
