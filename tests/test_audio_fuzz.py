"""Whatever bytes a file holds, the outcome is an AudioError or a finite waveform."""

import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from ser_features.audio import REASONS, load, num_samples_at, probe
from ser_features.errors import AudioError
from ser_features.records import Utterance

KINDS = ["WAV", "WAVEX", "RF64", "AIFF", "AU", "CAF", "W64", "NIST", "FLAC", "OGG", "MP3"]
MAGIC = [b"", b"RIFF", b"RIFX", b"RF64", b"FORM", b"caff", b".snd", b"riff", b"NIST_1A\n", b"fLaC",
         b"OggS", b"ID3", b"\xff\xfb", b"MThd"]  # fmt: skip
fuzz = settings(derandomize=True, deadline=None, max_examples=150)


@cache
def valid(kind: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a"
        samples = np.random.default_rng(0).normal(0, 0.1, 1600).astype(np.float32)
        soundfile.write(path, samples, 16000, format=kind)
        return path.read_bytes()


def outcome(content: bytes, name: str = "a.wav") -> str:
    """The reason of a rejection, or "loaded"; the length promised by ``probe`` must hold."""
    with tempfile.TemporaryDirectory() as folder:
        utterance = Utterance(id="x", file=Path(folder) / name)
        utterance.path.write_bytes(content)
        try:
            waveform = load(utterance, 16000)
        except AudioError as error:
            return error.reason
        assert np.isfinite(waveform.samples).all()
        assert len(waveform.samples) == num_samples_at(probe(utterance), 16000)
        return "loaded"


@pytest.mark.parametrize("kind", KINDS)
def test_the_unchanged_file_loads(kind: str) -> None:
    assert outcome(valid(kind)) == "loaded"


@fuzz
@given(
    magic=st.sampled_from(MAGIC),
    tail=st.binary(max_size=3000),
    suffix=st.sampled_from([".wav", ".raw", ".au", ".mp3", ".flac", ".ogg", ""]),
)
def test_random_bytes(magic: bytes, tail: bytes, suffix: str) -> None:
    assert outcome(magic + tail, f"a{suffix}") in {"loaded", *REASONS}


WORDS = st.one_of(
    st.sampled_from([b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x00\x00\x00\x00", b"\x80"]),
    st.binary(min_size=1, max_size=8),
)


@pytest.mark.parametrize("kind", KINDS)
def test_mutated_files(kind: str) -> None:
    raw = valid(kind)
    place = st.one_of(st.integers(0, 120), st.integers(0, len(raw) - 1))

    @settings(fuzz, max_examples=60)
    @given(
        changes=st.lists(st.tuples(place, WORDS), min_size=1, max_size=4), cut=st.integers(0, 99)
    )
    def run(changes: list[tuple[int, bytes]], cut: int) -> None:
        content = bytearray(raw)
        for position, word in changes:
            content[position : position + len(word)] = word
        length = len(content) if cut < 70 else len(content) * (cut - 70) // 30
        assert outcome(bytes(content[:length])) in {"loaded", *REASONS}

    run()
