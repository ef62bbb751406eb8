"""What heads train on: chosen utterances and layers of a feature set, pooled or frame by frame."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ser_features.errors import TrainError, UsageError
from ser_features.records import FeatureSetSpec

Indices = npt.NDArray[np.int64]


class Features(Protocol):
    """The part of ``store.reader.FeatureSet`` that views read."""

    @property
    def spec(self) -> FeatureSetSpec:
        """Names and shape."""

    @property
    def ids(self) -> tuple[str, ...]:
        """The utterances that are present, shard by shard."""

    @property
    def num_frames(self) -> Indices:
        """Frames of each utterance, in the order of ``ids``."""

    def pooled(
        self, kind: str, ids: Sequence[str] | None = None, layers: Sequence[int] | None = None
    ) -> npt.NDArray[np.float32]:
        """Pooled features [len(ids), len(layers), D]."""

    def frames(self, utterance: str, layers: Sequence[int] | None = None) -> npt.NDArray[Any]:
        """Every frame of one utterance, [T, len(layers), D]."""


def resolve_layers(which: str | int, num_layers: int) -> tuple[int, ...]:
    """The layer numbers that ``--layers`` names: ``last``, ``all``, or one number from 0.

    >>> resolve_layers("last", 13), resolve_layers("3", 13), resolve_layers("all", 3)
    ((12,), (3,), (0, 1, 2))

    Raises UsageError for anything else.
    """
    if which == "all":
        return tuple(range(num_layers))
    if which == "last":
        return (num_layers - 1,)
    text = str(which)
    if text.isascii() and text.isdecimal() and int(text) < num_layers:
        return (int(text),)
    raise UsageError(
        f"layers {which!r}: expected 'last', 'all' or a number from 0 to {num_layers - 1}"
    )


@dataclass(frozen=True, slots=True)
class PooledView:
    """Pooled features of ``ids``; ``kind`` is mean, std or mean_layernorm."""

    features: Features
    ids: tuple[str, ...]
    kind: str = "mean"

    @property
    def num_layers(self) -> int:
        """Layers of the feature set."""
        return self.features.spec.num_layers

    def load(self, which: str | int = "all") -> npt.NDArray[np.float32]:
        """The chosen layers, float32 [N, L', D], rows in the order of ``ids``."""
        layers = resolve_layers(which, self.num_layers)
        whole = len(layers) == self.num_layers
        return self.features.pooled(self.kind, self.ids, None if whole else layers)


class FrameView:
    """Frames of ``ids`` at the chosen layers, read one utterance at a time, from any thread.

    Raises TrainError where an id is not in the feature set or it keeps no frames.
    """

    def __init__(self, features: Features, ids: Sequence[str], which: str | int = "last") -> None:
        spec = features.spec
        if spec.frames == "none":
            raise TrainError(
                f"{spec.corpus}/{spec.upstream} keeps pooled features only, but this head reads "
                "frames: run 'serfeat extract --frames'"
            )
        self._features, self.ids = features, tuple(ids)
        self.dim = spec.dim
        self.dtype = np.dtype(spec.frames)
        self.layers = resolve_layers(which, spec.num_layers)
        self._asked = None if len(self.layers) == spec.num_layers else self.layers
        self.num_frames, self.stored = self._find()

    def _find(self) -> tuple[Indices, Indices]:
        place = {key: i for i, key in enumerate(self._features.ids)}
        if missing := [key for key in self.ids if key not in place]:
            raise TrainError(
                f"{len(missing)} utterances have no features (first: {missing[0]!r}); "
                "extract them first"
            )
        at = np.array([place[key] for key in self.ids], np.int64)
        return self._features.num_frames[at], at

    @property
    def frame_bytes(self) -> int:
        """Bytes of one frame as stored, all chosen layers."""
        return len(self.layers) * self.dim * self.dtype.itemsize

    def read(self, row: int) -> npt.NDArray[Any]:
        """The frames of ``ids[row]``, [T, L', D] in the stored dtype."""
        return self._features.frames(self.ids[row], self._asked)
