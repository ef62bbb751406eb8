"""A thin ResNet head on a made-up spectrogram: the layers of the real one, not their width."""

from dataclasses import replace

import numpy as np

from fake_features import FakeFeatures
from ser_features.heads.resnet34 import ResNetShape, shape_of
from ser_features.train.extras import Extras
from ser_features.train.resnet import ResNetRun
from ser_features.train.resnet_recipes import RESNET_RECIPES, ResNetConfig
from ser_features.train.spectrograms import Spectrograms
from ser_features.train.stack import IndexedFold, Run
from ser_features.views import FrameView

BANDS, COUNT = 8, 36
QUICK = replace(
    RESNET_RECIPES["copypaste"], vad=False, epochs=3, batch=12, micro_batch=6, chunks=(24,),
    lrs=(3e-3,),
)  # fmt: skip
FOLD = IndexedFold("f", np.arange(0, 20), np.arange(20, 28), np.arange(28, 36))


def thin_shape(head: str, bands: int, classes: int, pooling: str) -> ResNetShape:
    """What ``shape_of`` gives, with four channels."""
    return replace(shape_of(head, bands, classes, pooling), channels=4, heads=4, embedding=8)


def planted_labels() -> np.ndarray:
    return np.arange(COUNT) % 2


def planted_view(dtype: str = "float32") -> FrameView:
    """A tone comes and goes, in one class quickly, in the other slowly; its mean is the same."""
    rng = np.random.default_rng(0)
    frames = {}
    for i, label in enumerate(planted_labels()):
        values = 0.3 * rng.normal(size=(int(rng.integers(16, 40)), 1, BANDS))
        values[np.arange(len(values)) // (1 + 5 * label) % 2 == 0, 0, 3] += 3
        frames[f"u{i:02d}"] = values
    features = FakeFeatures(frames, dtype)
    return FrameView(features, features.ids)


def started(config: ResNetConfig, seed: int = 0, extras: Extras | None = None) -> ResNetRun:
    spectrograms = Spectrograms(planted_view(), np.arange(COUNT), config)
    how = (FOLD, spectrograms, planted_labels(), config)
    return ResNetRun(Run(0, seed, config.lrs[0], 0), *how, extras=extras)
