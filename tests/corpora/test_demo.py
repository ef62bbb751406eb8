import hashlib
import importlib.metadata
import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from ser_features.corpora import demo, demo_synth
from ser_features.corpora.demo import EMOTIONS, SENTENCES, VOICES, make_demo
from ser_features.corpora.table import read_corpus
from ser_features.errors import ManifestError

needs_espeak = pytest.mark.skipif(
    not importlib.util.find_spec("espeakng_loader"), reason="needs espeakng-loader (extra 'demo')"
)


def hashes(folder: Path) -> dict[str, str]:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo corpus ü")
    make_demo(folder)
    return folder


@needs_espeak
def test_size_and_format(corpus: Path) -> None:
    manifest = read_corpus("demo", corpus)
    assert len(VOICES) >= 8
    assert len(manifest) == len(VOICES) * len(EMOTIONS) * len(SENTENCES) == 320
    assert manifest.labels == ("angry", "happy", "neutral", "sad")
    assert manifest.speakers == tuple(VOICES)
    for utterance in manifest.utterances:
        info = soundfile.info(utterance.path)
        assert (info.samplerate, info.channels, info.subtype) == (16_000, 1, "PCM_16")
        assert 0.8 < info.duration < 5


@needs_espeak
def test_it_does_not_clip_and_the_rules_can_be_heard(corpus: Path) -> None:
    level: dict[str, list[float]] = {emotion: [] for emotion in EMOTIONS}
    length: dict[str, list[float]] = {emotion: [] for emotion in EMOTIONS}
    seen = set()
    for utterance in make_demo(corpus).utterances:
        samples = soundfile.read(utterance.path)[0]
        assert np.abs(samples).max() < 0.95
        seen.add(samples.tobytes())
        level[str(utterance.label)].append(float(np.sqrt(np.mean(samples**2))))
        length[str(utterance.label)].append(len(samples) / 16_000)
    assert len(seen) == 320
    loud = {emotion: np.mean(values) for emotion, values in level.items()}
    long = {emotion: np.mean(values) for emotion, values in length.items()}
    assert loud["sad"] < loud["neutral"] < loud["happy"] < loud["angry"]
    assert long["angry"] < long["happy"] < long["neutral"] < long["sad"]


@needs_espeak
def test_every_run_is_bit_identical(corpus: Path, tmp_path: Path) -> None:
    make_demo(tmp_path)
    assert hashes(tmp_path) == hashes(corpus)


@needs_espeak
def test_only_what_is_missing_or_changed_is_made_again(corpus: Path, tmp_path: Path) -> None:
    shutil.copytree(corpus, tmp_path, dirs_exist_ok=True)
    first, files = hashes(tmp_path), sorted(tmp_path.rglob("*.wav"))
    times = {path: path.stat().st_mtime_ns for path in files}
    files[0].unlink()
    files[1].write_bytes(files[1].read_bytes()[:-1] + b"\1")
    (tmp_path / "manifest.csv").write_text("id,path,label\n")
    make_demo(tmp_path)
    assert hashes(tmp_path) == first
    assert all(path.stat().st_mtime_ns == times[path] for path in files[2:])


@needs_espeak
def test_a_second_call_speaks_nothing(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise AssertionError

    monkeypatch.setattr(demo, "_make", refuse)
    make_demo(corpus)


def test_missing_package_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def version(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    with pytest.raises(ManifestError, match=r"run: pip install 'serfeat\[demo\]'"):
        make_demo(tmp_path)


@needs_espeak
def test_an_unknown_voice_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(VOICES, "f1", "gmw/en-US+nobody")
    with pytest.raises(ManifestError, match="espeak-ng has no voice 'gmw/en-US\\+nobody'"):
        make_demo(tmp_path)


def test_the_synthesis_needs_nothing_but_the_standard_library() -> None:
    # It starts once for each voice, so it must start fast.
    code = f"import runpy, sys; runpy.run_path({demo_synth.__file__!r}); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, check=True)
    assert not {"numpy", "soxr", "ser_features"} & set(done.stdout.decode().split())


def test_every_emotion_says_the_same_sentences() -> None:
    for voice in VOICES:
        texts: dict[str, list[str]] = {emotion: [] for emotion in EMOTIONS}
        for name, item in demo._plan(voice):
            texts[name.split("_")[1]].append(item["text"])
        assert all(said == list(SENTENCES) for said in texts.values())
