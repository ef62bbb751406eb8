"""Small corpora that studies run on: four emotions that differ in level and smoothness."""

from pathlib import Path

import numpy as np

from cli_runner import Corpus, noise
from ser_features.corpora.source import ManifestSource
from ser_features.manifest import Manifest

EMOTIONS = ("angry", "happy", "neutral", "sad")
COLUMNS = ("id", "path", "label", "speaker", "session")


def four_emotions(
    folder: Path, speakers: int = 4, takes: int = 1, seed: int = 0, emotions=EMOTIONS
) -> Corpus:
    """Every speaker says every emotion; a session is two speakers."""
    corpus = Corpus(folder)
    for i in range(speakers):
        for k, label in enumerate(emotions):
            for take in range(takes):
                samples = noise(6400, seed=seed + 1000 * i + 10 * k + take, scale=0.05 * (1 + k))
                smooth = np.ones(1 + 4 * k) / (1 + 4 * k)
                heard = np.convolve(samples, smooth, "same").astype(np.float32)
                corpus.record(f"s{i}-{label}-{take}", heard, label=label, speaker=f"s{i}")
    for row in corpus.rows:
        row["session"] = f"S{int(row['speaker'][1:]) // 2}"
    return corpus


def manifest_of(corpus: Corpus, name: str) -> Manifest:
    """The manifest as a user's file gives it."""
    path = corpus.write(columns=COLUMNS)
    return ManifestSource("manifest", name, str(path)).read()


def noise_folder(folder: Path) -> Path:
    """A folder with one recording of noise."""
    corpus = Corpus(folder)
    corpus.record("hiss", noise(32000, seed=99, scale=0.2))
    return folder
