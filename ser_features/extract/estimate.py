"""How large a feature set will be, and whether the disk can hold it."""

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ser_features.errors import StoreError
from ser_features.extract.plan import PlanItem
from ser_features.files import size
from ser_features.records import FeatureSetSpec
from ser_features.store.place import Place

POOLED_ARRAYS = 3
OBJECT_BYTES = 64 * 2**20
SPARE_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Estimate:
    """What an extraction will cost: utterances, hours of audio, frames, bytes on disk."""

    utterances: int
    hours: float
    frames: int
    num_bytes: int

    def __str__(self) -> str:
        utterances = f"{self.utterances} utterance" + "s" * (self.utterances != 1)
        audio = f"{self.hours:.2f} h" if self.hours >= 0.1 else f"{3600 * self.hours:.1f} s"
        return f"{utterances}, {audio} of audio, {self.frames} frames, {size(self.num_bytes)}"


def estimate(items: Iterable[PlanItem], spec: FeatureSetSpec, sample_rate: int) -> Estimate:
    """Add up a plan's items; bytes are of the arrays, uncompressed."""
    items = list(items)
    values = spec.num_layers * spec.dim
    frames = sum(item.num_frames for item in items)
    width = 0 if spec.frames == "none" else np.dtype(spec.frames).itemsize
    num_bytes = len(items) * values * 4 * POOLED_ARRAYS + frames * values * width
    hours = sum(item.num_samples for item in items) / sample_rate / 3600
    return Estimate(len(items), hours, frames, num_bytes)


def check_disk(store: Place, needed: Estimate) -> None:
    """StoreError where the file system under ``store`` has less room than the features need.

    An object store has no end.
    """
    if not isinstance(store, Path):
        return
    folder = store
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if needed.num_bytes + SPARE_BYTES > free:
        raise StoreError(
            f"{store}: the features need {size(needed.num_bytes)} and the disk has {size(free)} "
            "free; free some space, choose another --store, or drop --frames"
        )


def object_frames(num_layers: int, dim: int, dtype: str) -> int:
    """Frames of one stored object: about 64 MB, a multiple of the inner chunk (256 frames).

    >>> object_frames(13, 768, "float16")
    3328
    """
    frames = OBJECT_BYTES // (num_layers * dim * np.dtype(dtype).itemsize)
    return int(min(max(frames // 256 * 256, 1024), 65536))
