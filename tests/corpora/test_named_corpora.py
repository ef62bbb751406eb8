"""Corpora by name: made-up trees of the official layouts, and the real ones where they are."""

from collections import Counter
from pathlib import Path

import pytest

from ser_features.corpora.table import CORPORA, read_corpus
from ser_features.errors import ManifestError, UsageError
from ser_features.manifest import Manifest

PACKAGE = Path(__file__).resolve().parents[2] / "ser_features" / "corpora"


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def words(manifest: Manifest) -> list[tuple[str, str | None, str | None]]:
    return [(u.id, u.label, u.speaker) for u in manifest.utterances]


def test_emodb_layout(tmp_path: Path) -> None:
    touch(tmp_path, "wav/03a01Wa.wav", "wav/16b10Lb.WAV", "wav/08a02N.wav", "erkennung.txt")
    touch(tmp_path, "wav/._03a01Wa.wav", "wav/noise.wav")
    manifest = read_corpus("emodb", tmp_path, allow_partial=True)
    assert words(manifest) == [
        ("03a01Wa", "anger", "03"),
        ("08a02N", "neutral", "08"),
        ("16b10Lb", "boredom", "16"),
    ]
    assert words(read_corpus("emodb", tmp_path / "wav", allow_partial=True)) == words(manifest)
    assert manifest.notes[0] == ("1 audio file(s) not named SSttteV.wav are left out: 'noise.wav'")
    assert "utterances: found 3, expected 535" in manifest.notes[1]


def test_urdu_layout(tmp_path: Path) -> None:
    touch(tmp_path, "Angry/SM1_F2_A02.wav", "Sad/SF10_F1_S100.wav", "README.md")
    manifest = read_corpus("urdu", tmp_path, allow_partial=True)
    assert words(manifest) == [("SM1_F2_A02", "angry", "SM1"), ("SF10_F1_S100", "sad", "SF10")]
    flat = touch(tmp_path / "flat", "SM1_F2_A02.wav")
    assert len(read_corpus("urdu", flat, allow_partial=True)) == 1


RAVDESS_CODES = ("01", "02", "03", "04", "05", "06", "07", "08")


@pytest.mark.parametrize("above", ["", "Audio_Speech_Actors_01-24/"])
def test_ravdess_complete_tree(tmp_path: Path, above: str) -> None:
    names = [
        f"{above}Actor_{actor:02}/03-01-{code}-{level}-{text}-{again}-{actor:02}.wav"
        for actor in range(1, 25)
        for code in RAVDESS_CODES
        for level in ("01", "02")
        for text in ("01", "02")
        for again in ("01", "02")
        if (code, level) != ("01", "02")
    ]
    touch(tmp_path, *names, f"{above}Actor_01/03-02-03-01-01-01-01.wav")
    # One popular copy holds every file a second time, one folder further down.
    touch(tmp_path, f"{above}audio_speech_actors_01-24/Actor_01/03-01-01-01-01-01-01.wav")
    manifest = read_corpus("ravdess", tmp_path)
    assert len(manifest) == 1440
    assert manifest.utterances[0].speaker == "01"
    assert manifest.label_counts["fearful"] == 192
    assert manifest.notes == ("1 song(s) are left out: only speech is read",)


def test_ravdess_counts_are_emobox_s(shared: Path) -> None:
    lines = (shared / "reference/emobox/ravdess/data.seg.wrd.freq").read_text().split("\n")
    counts = Counter({line.split()[0]: int(line.split()[1]) for line in lines if line})
    published = CORPORA["ravdess"].published
    assert published.utterances == counts.total()
    assert sorted(published.labels.values()) == sorted(counts.values())


def test_cremad_layout_and_count(tmp_path: Path) -> None:
    touch(tmp_path, *(f"AudioWAV/{actor}_DFA_SAD_XX.wav" for actor in range(1001, 1006)))
    with pytest.raises(ManifestError, match="utterances: found 5, expected 7442") as info:
        read_corpus("cremad", tmp_path)
    assert info.value.problems[1] == "speakers: found 5, expected 91"
    touch(tmp_path / "more", "1040_ITH_FEA_X.wav", "1001_DFA_XXX_HI.wav")
    assert words(read_corpus("cremad", tmp_path / "more", allow_partial=True)) == [
        ("1040_ITH_FEA_X", "fear", "1040")
    ]


def test_an_incomplete_corpus_is_refused_with_the_counts_per_label(tmp_path: Path) -> None:
    touch(tmp_path, "wav/03a01Wa.wav", "wav/03a01Wb.wav")
    with pytest.raises(ManifestError) as info:
        read_corpus("emodb", tmp_path)
    assert str(info.value).startswith("this is not the complete corpus 'emodb'")
    assert "is the download complete? --allow-partial reads what is there" in str(info.value)
    assert info.value.problems[:3] == (
        "utterances: found 2, expected 535",
        "speakers: found 1, expected 10",
        "label angry: found 2, expected 127",
    )


@pytest.mark.parametrize("name", [name for name in CORPORA if name != "demo"])
def test_a_wrong_folder_says_what_was_expected(tmp_path: Path, name: str) -> None:
    with pytest.raises(ManifestError, match=f"found no {name} recordings in .*; expected"):
        read_corpus(name, tmp_path, allow_partial=True)
    with pytest.raises(ManifestError):
        read_corpus(name, tmp_path / "none")


def test_the_same_file_name_twice_is_an_error(tmp_path: Path) -> None:
    touch(tmp_path, "Angry/SM1_F2_A02.wav", "Sad/SM1_F2_A02.wav")
    with pytest.raises(ManifestError, match="id 'SM1_F2_A02' is there 2 times"):
        read_corpus("urdu", tmp_path, allow_partial=True)


def test_unknown_corpus() -> None:
    with pytest.raises(UsageError, match="unknown corpus 'emobd'; did you mean 'emodb'"):
        read_corpus("emobd", Path())


def test_every_corpus_file_is_in_the_table() -> None:
    helpers = {
        "__init__",
        "demo_synth",
        "emobox",
        "files",
        "folder",
        "source",
        "spec",
        "superb",
        "table",
        "tree",
    }
    modules = {path.stem for path in PACKAGE.glob("*.py")} - helpers
    assert modules == {name.split("-")[0] for name in CORPORA}


def test_table_entries_are_complete() -> None:
    for name, spec in CORPORA.items():
        assert spec.name == name
        assert all((spec.description, spec.languages, spec.layout, spec.source))
        if spec.published.utterances and spec.published.labels:
            assert sum(spec.published.labels.values()) == spec.published.utterances


def test_real_emodb(shared: Path) -> None:
    manifest = read_corpus("emodb", shared / "data" / "emodb")
    assert (len(manifest), len(manifest.speakers), manifest.notes) == (535, 10, ())
    chosen = manifest.select_labels(["angry", "happy", "neutral", "sad"])
    assert chosen.labels == ("angry", "happy", "neutral", "sad")
    assert chosen.label_counts == {"angry": 127, "happy": 71, "neutral": 79, "sad": 62}
    assert chosen.notes == (
        "196 of 535 utterances are left out by the selection of labels: "
        "boredom 81, disgust 46, fear 69",
    )


def test_real_urdu(shared: Path) -> None:
    manifest = read_corpus("urdu", shared / "data" / "urdu")
    assert (len(manifest), len(manifest.speakers), manifest.notes) == (400, 29, ())
    emotions = {(u.speaker, u.label) for u in manifest.utterances}
    of_one = [n for n in Counter(speaker for speaker, _ in emotions).values() if n == 1]
    assert len(of_one) == 26  # The confound that the docstring warns of.
