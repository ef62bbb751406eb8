"""Recordings for the audio tests, whole and broken, and what loading them ends in."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from ser_features.audio import REASONS, load, probe
from ser_features.errors import AudioError
from ser_features.records import Utterance

NOISE = np.random.default_rng(0).normal(0, 0.1, 16000).astype(np.float32)


def rejected(path: Path, start: float | None = None, end: float | None = None) -> tuple[str, str]:
    """Reason and message of loading, which always names the file; probing agrees or passes."""
    utterance = Utterance(id="x", file=path, start=start, end=end)
    loading = failure(lambda: load(utterance, 16000))
    probing = failure(lambda: probe(utterance))
    assert loading is not None
    assert probing is None or str(probing) == str(loading)
    text = str(loading)
    assert loading.reason in REASONS
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    return loading.reason, text.removeprefix(f"{path}: ")


def failure(call: Callable[[], object]) -> AudioError | None:
    try:
        call()
    except AudioError as error:
        return error
    return None


def wav(
    path: Path, samples: NDArray[np.floating] = NOISE, rate: int = 16000, sub: str = "PCM_16"
) -> Path:
    soundfile.write(path, samples, rate, format="WAV", subtype=sub)
    return path


def encoded(path: Path, kind: str, sub: str) -> bytes:
    soundfile.write(path, NOISE, 16000, format=kind, subtype=sub)
    return path.read_bytes()


def patched(path: Path, offset: int, value: bytes) -> Path:
    raw = bytearray(path.read_bytes())
    raw[offset : offset + len(value)] = value
    path.write_bytes(raw)
    return path
