import json
from dataclasses import replace
from pathlib import Path

import pytest
from msgspec import structs

from ser_features.audit import audit, plain_name
from ser_features.records import Fold, Utterance


def utterance(name, speaker, label="sad", session=None, path=None):
    return Utterance(name, Path(path or f"{name}.wav"), label, speaker, session)


CLEAN = [utterance(f"{s}{i}-{text}", s) for s in "abcd" for i, text in enumerate("xy")]
FOLD = Fold("f1", ("a0-x", "a1-y", "b0-x", "b1-y"), ("c0-x", "c1-y"), ("d0-x", "d1-y"))


def test_a_clean_split_is_clean():
    found = audit([FOLD], CLEAN, {u.id: u.id for u in CLEAN})
    assert (found.leaks, found.shared, found.sentences()) == ((), (), ())
    assert not found.similar_names
    assert not found.dev_shares_speakers


def test_planted_speaker_leak():
    planted = [structs.replace(u, speaker="a") if u.id == "d1-y" else u for u in CLEAN]
    found = audit([FOLD, replace(FOLD, name="f2")], planted)
    assert found.leaks == ("speakers",)
    assert found.sentences() == (
        "1 of 2 test speakers are in train (fold f1, the worst of 2 such folds out of 2)",
    )
    assert found.shared[0].examples == ("a",)


def test_planted_audio_leak_names_the_pair():
    hashes = {u.id: u.id for u in CLEAN} | {"d1-y": "b0-x"}
    found = audit([FOLD], CLEAN, hashes)
    assert found.leaks == ("audio",)
    assert found.shared[0].examples == ("d1-y = b0-x",)
    expected = "1 of 2 test recordings are in train with identical audio (fold f1)"
    assert found.sentences() == (expected,)


def test_sessions_and_dev():
    sessions = {"a": "1", "b": "2", "c": "2", "d": "1"}
    found = audit([FOLD], [structs.replace(u, session=sessions[u.speaker]) for u in CLEAN])
    assert found.leaks == ("sessions",)
    assert found.sentences() == ("1 of 1 test sessions are in train (fold f1)",)
    sides = {(each.first, each.second) for each in found.shared}
    assert sides == {("train", "test"), ("train", "dev")}
    shared = audit(
        [FOLD], [structs.replace(u, speaker="a" if u.speaker == "c" else u.speaker) for u in CLEAN]
    )
    assert shared.dev_shares_speakers
    assert shared.leaks == ()


@pytest.mark.parametrize(
    "name", ["A0-X.WAV", "a0-x (1).wav", "a0-x copy.wav", "a0_x - Copy (2).wav", "copy of a0-x.wav"]
)
def test_a_copied_file_is_found_by_its_name(name):
    planted = [
        structs.replace(u, file=Path(name), speaker="a") if u.id == "d0-x" else u for u in CLEAN
    ]
    found = audit([FOLD], planted)
    assert found.similar_names
    assert "1 of 2 test files are named like one in train (fold f1)" in found.sentences()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("03a01Fa.wav", "03a01Fb.wav"),
        ("Ses01F_impro01_F000.wav", "Ses01F_impro01_F001.wav"),
        ("SM5_F63_N091.wav", "SM5_F63_N092.wav"),
        ("angry_1.wav", "angry_2.wav"),
        ("angry/01.wav", "sad/01.wav"),
    ],
)
def test_numbered_recordings_are_not_copies(one, other):
    assert plain_name(Path(one)) != plain_name(Path(other))


def test_same_name_of_two_speakers_is_no_copy():
    """SAVEE's way: DC/a01.wav and JE/a01.wav."""
    named = [structs.replace(u, file=Path(u.speaker) / f"t{u.id[1]}.wav") for u in CLEAN]
    assert not audit([FOLD], named).similar_names


def test_one_recording_with_two_labels():
    labelled = [structs.replace(u, label="happy") if u.id == "a1-y" else u for u in CLEAN]
    hashes = {u.id: u.id for u in CLEAN} | {"a1-y": "a0-x", "b1-y": "b0-x"}
    found = audit([FOLD], labelled, hashes)
    assert found.two_labels == (("a0-x", "a1-y"),)
    assert found.sentences() == ("1 recordings carry several labels (such as a0-x, a1-y)",)


def test_unknown_speakers_are_said():
    found = audit([FOLD], [structs.replace(u, speaker=None) for u in CLEAN])
    assert found.sentences() == ("8 utterances have no speaker: not audited for them",)
    assert found.leaks == ()


def test_json_of_it():
    planted = [structs.replace(u, speaker="a") for u in CLEAN]
    found = audit([FOLD], planted).to_json()
    assert json.loads(json.dumps(found)) == found
    assert found["leaks"] == ["speakers"]
    assert found["dev_shares_speakers"] is True
    assert found["shared"][0]["count"] == 1


def test_official_fold_of_urdu_leaks(shared):
    folder = shared / "reference" / "emobox" / "urdu"
    lines = {
        side: [
            json.loads(line)["key"]
            for line in (folder / "fold_1" / f"urdu_{side}_fold_1.jsonl").read_text().splitlines()
        ]
        for side in ("train", "test")
    }
    ids = [*lines["train"], *lines["test"]]
    said = [utterance(name, name.split("-")[1].split("_")[0]) for name in ids]
    found = audit([Fold("1", tuple(lines["train"]), (), tuple(lines["test"]))], said)
    assert "18 of 19 test speakers are in train (fold 1)" in found.sentences()
    assert "speakers" in found.leaks
