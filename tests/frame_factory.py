"""A small corpus on frames that heads can learn, with folds."""

import numpy as np

from fake_features import FakeFeatures
from ser_features.train.frame_recipes import FrameConfig
from ser_features.train.stack import IndexedFold
from ser_features.views import FrameView

CLASSES, COUNT = 4, 240
QUICK = FrameConfig(hidden=16, epochs=12, batch=16, lrs=(1e-2,))


def make_labels() -> np.ndarray:
    return np.random.default_rng(0).permutation(np.arange(COUNT) % CLASSES)


def make_view(labels: np.ndarray, which: str = "last", dtype: str = "float32") -> FrameView:
    """Two layers: the last one's frames lie around a centre of their class."""
    rng = np.random.default_rng(1)
    centres = rng.normal(size=(CLASSES, 6))
    frames = {}
    for i, label in enumerate(labels):
        values = rng.normal(size=(int(rng.integers(2, 12)), 2, 6))
        values[:, 1] += centres[label]
        frames[f"u{i:03d}"] = values
    features = FakeFeatures(frames, dtype)
    return FrameView(features, features.ids, which)


def make_folds(count: int = 2) -> list[IndexedFold]:
    part = np.arange(COUNT) % 5
    return [
        IndexedFold(
            f"f{k}",
            np.flatnonzero((part != k) & (part != k + 1)),
            np.flatnonzero(part == k),
            np.flatnonzero(part == k + 1),
        )
        for k in range(count)
    ]


def accuracy(outcomes, labels: np.ndarray) -> float:
    folds = {fold.name: fold for fold in make_folds(4)}
    hits = [(each.predictions == labels[folds[each.fold].test]).mean() for each in outcomes]
    return float(np.mean(hits))
