"""Augmentations at the command line: extracted, listed, looked at, and refused."""

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from cli_runner import good_corpus, noise, report_rows, serfeat
from ser_features.augment import preview as preview_module
from ser_features.augment.table import AUGMENTATIONS
from ser_features.store.catalog import list_feature_sets
from ser_features.store.reader import open_feature_set

RATE = 16000
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def manifest(tmp_path):
    return good_corpus(tmp_path / "corpus", speakers="ab").write()


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "noise"
    path.mkdir()
    soundfile.write(path / "n.wav", noise(20000, 5), RATE)
    return path


def test_extract_makes_every_copy_and_then_nothing(tmp_path, manifest, folder):
    store = tmp_path / "store"
    words = ("extract", "--manifest", manifest, "--upstreams", "fbank", "--store", store)
    augment = ("--augment", "clean", "--augment", f"noise:snr=10,folder={folder}", "--copies", 2)
    done = serfeat(*words, *augment, "--augment-seed", 4)
    assert done.status == 0, done.err
    names = {info.spec.augmentation for info in list_feature_sets(store)}
    assert names == {"clean", "noise-10db-seed4", "noise-10db-seed4+1"}
    assert sum("8 utterances extracted" in line for line in done.lines) == 3
    assert any("fbank · noise-10db-seed4+1: 8 utterances" in line for line in done.lines)
    again = serfeat(*words, *augment, "--augment-seed", 4)
    assert sum("nothing new to extract, 8 already stored" in line for line in again.lines) == 3
    sets = [open_feature_set(store, info.name) for info in list_feature_sets(store)]
    assert len({one.pooled("std").tobytes() for one in sets}) == 3
    hashes = [dict(zip(one.ids, one.audio_sha256, strict=True)) for one in sets]
    assert hashes[0] == hashes[1] == hashes[2]


def test_who_has_no_partner_is_in_the_report(tmp_path, manifest):
    store = tmp_path / "store"
    words = ("extract", "--manifest", manifest, "--upstreams", "fbank", "--store", store)
    done = serfeat(*words, "--augment", "copypaste-n")  # the corpus has no neutral recordings
    assert done.status == 3
    rows = report_rows(store)
    assert len(rows) == 8
    assert {row["reason"] for row in rows.values()} == {"no-partner"}
    row = rows["a-sad-0"]
    assert row["detail"].startswith(f"{row['path']}: no other utterance is labelled 'neutral'")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("nois", "unknown augmentation 'nois'; did you mean 'noise'?"),
        ("noise:snr=10", "noise needs folder"),
        ("noise:snr=10,folder=/none/there", "no folder /none/there"),
        ("clean", "--copies 2 needs an augmentation to draw anew"),
    ],
)
def test_a_wrong_augmentation_costs_nothing(tmp_path, manifest, text, found):
    store = tmp_path / "store"
    words = ("extract", "--manifest", manifest, "--upstreams", "fbank", "--store", store)
    done = serfeat(*words, "--augment", text, "--copies", 2)
    assert done.status == 2
    assert found in done.error
    assert not store.exists()


def test_the_list_names_every_augmentation_and_parameter():
    done = serfeat("augmentations")
    for kind in AUGMENTATIONS.values():
        assert f" {kind.name} " in done.out
        for one in kind.parameters:
            assert f"  {one.name} " in done.out
            assert one.default in done.out


def test_preview_writes_a_recording_and_a_picture_for_each(tmp_path):
    before = noise(RATE, 1)
    soundfile.write(tmp_path / "speech.wav", before, RATE, "FLOAT")
    out = tmp_path / "out"
    augment = ("--augment", "gain:level=6", "--augment", "speed:factor=2")
    done = serfeat("augment", "preview", tmp_path / "speech.wav", *augment, "--out", out)
    assert done.status == 0, done.err
    stems = ("speech--gain-6db", "speech--speed-2x")
    assert done.out.split() == [f"{out}/{stem}.{kind}" for stem in stems for kind in ("wav", "png")]
    louder, rate = soundfile.read(out / f"{stems[0]}.wav", dtype="float32")
    assert rate == RATE
    np.testing.assert_allclose(louder, before * 10 ** (6 / 20), rtol=1e-6)
    assert len(soundfile.read(out / f"{stems[1]}.wav")[0]) == RATE // 2
    for stem in stems:
        assert (out / f"{stem}.png").read_bytes().startswith(b"\x89PNG")
    assert '{"input":16000,"output":8000,"steps"' in done.err


def test_names_that_are_not_unicode_are_taken_or_refused_in_a_line(tmp_path, manifest, folder):
    odd = Path(os.fsdecode(bytes(tmp_path) + b"/\xff"))
    folder.rename(odd)
    (odd / "n.wav").rename(odd / os.fsdecode(b"\xfe.wav"))
    args = ("--augment", "copypaste-se", "--partner", manifest.parent / "a-sad-0.wav")
    done = serfeat(
        "augment", "preview", odd / os.fsdecode(b"\xfe.wav"), *args, "--out", tmp_path / "out"
    )
    assert done.status == 0, done.err
    assert sorted(one.suffix for one in (tmp_path / "out").iterdir()) == [".png", ".wav"]
    done = serfeat(
        "extract", "--manifest", manifest, "--upstreams", "fbank", "--store", tmp_path / "store",
        "--augment", f"noise:folder={odd}",
    )  # fmt: skip
    assert (done.status, "whose name is valid Unicode" in done.error) == (2, True)
    odd.rename(folder)  # the names of its files do not matter
    done = serfeat(
        "extract", "--manifest", manifest, "--upstreams", "fbank", "--store", tmp_path / "store",
        "--augment", f"noise:folder={folder}",
    )  # fmt: skip
    assert done.status == 0, done.err


def test_the_picture_shows_frequencies_where_they_are():
    tone = np.sin(2 * np.pi * 2000 * np.arange(RATE) / RATE).astype(np.float32)
    levels = preview_module.spectrogram(tone, RATE)
    peak = levels.mean(axis=1).argmax() * RATE / 2 / (len(levels) - 1)
    assert peak == pytest.approx(2000, abs=41)


def test_preview_of_copypaste_needs_a_partner(tmp_path):
    for name in ("one", "two"):
        soundfile.write(tmp_path / f"{name}.wav", noise(RATE, 1), RATE)
    words = ("augment", "preview", tmp_path / "one.wav", "--out", tmp_path / "out")
    done = serfeat(*words, "--augment", "copypaste-se")
    assert (done.status, "--partner FILE" in done.error) == (2, True)
    done = serfeat(*words, "--augment", "copypaste-se", "--partner", tmp_path / "two.wav")
    assert done.status == 0, done.err
    joined, _ = soundfile.read(tmp_path / "out" / "one--copypaste-se.wav")
    assert len(joined) == 2 * RATE
    assert serfeat(*words).status == serfeat(*words, "--augment", "clean").status == 2
    unused = serfeat(*words, "--augment", "gain", "--partner", tmp_path / "two.wav")
    assert (unused.status, "only CopyPaste joins" in unused.error) == (2, True)
    missing = serfeat("augment", "preview", tmp_path / "no.wav", "--augment", "gain")
    assert (missing.status, "no.wav: no such file" in missing.error) == (1, True)


def test_the_page_has_every_augmentation_with_its_defaults():
    page = (ROOT / "docs" / "augmentations.md").read_text()
    for kind in AUGMENTATIONS.values():
        own = page[page.index(f"| `{kind.name}` | | | {kind.source} | {kind.what} |") :]
        for one, line in zip(kind.parameters, own.splitlines()[1:], strict=False):
            default = f"`{one.default}` {one.unit}".strip() if one.default else "must be given"
            assert line == f"| | `{one.name}` | {default} | {one.source} | {one.what} |"
