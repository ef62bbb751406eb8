"""Bookkeeping of runs that train together: which runs, on which rows, in which order."""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ser_features.errors import TrainError
from ser_features.records import Fold

Indices = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class IndexedFold:
    """A fold as row numbers of the feature array."""

    name: str
    train: Indices
    dev: Indices
    test: Indices


@dataclass(frozen=True, slots=True)
class Run:
    """One training: a fold, a seed, and settings. ``stream`` is its data order and init."""

    fold: int
    seed: int
    lr: float
    stream: int
    weight_decay: float = 0.0

    @property
    def setting(self) -> dict[str, float]:
        """What the optimiser is told; a weight decay of zero goes without saying."""
        decay = {"weight_decay": self.weight_decay} if self.weight_decay else {}
        return {"lr": self.lr, **decay}


@dataclass(frozen=True, slots=True)
class Batches:
    """Minibatches of S updates: rows and weights [S, streams, batch], which sum to 1 an update."""

    index: Indices
    weight: Floats


def index_folds(folds: Sequence[Fold], ids: Sequence[str]) -> list[IndexedFold]:
    """Folds as positions in ``ids``; TrainError names an utterance that has no features."""
    position = {name: i for i, name in enumerate(ids)}

    def rows(fold: Fold, names: tuple[str, ...]) -> Indices:
        if missing := [name for name in names if name not in position]:
            raise TrainError(
                f"fold {fold.name!r}: {len(missing)} utterances have no features "
                f"(first: {missing[0]!r}); extract them first"
            )
        return np.array([position[name] for name in names], np.int64)

    return [IndexedFold(f.name, rows(f, f.train), rows(f, f.dev), rows(f, f.test)) for f in folds]


def list_runs(
    folds: Sequence[IndexedFold],
    seeds: Sequence[int],
    lrs: Sequence[float],
    weight_decays: Sequence[float] = (0.0,),
) -> list[Run]:
    """Every run, by settings first, so that an optimiser group is one slice."""
    streams = [(fold, seed) for fold in range(len(folds)) for seed in seeds]
    settings = [(lr, decay) for lr in lrs for decay in weight_decays]
    return [
        Run(fold, seed, lr, i, decay)
        for lr, decay in settings
        for i, (fold, seed) in enumerate(streams)
    ]


def chunks(runs: Sequence[Run], bytes_per_run: int, max_bytes: int) -> Iterator[Sequence[Run]]:
    """Equal parts of the runs that each fit in ``max_bytes``, but never less than one run."""
    most = max(1, max_bytes // bytes_per_run)
    count = -(-len(runs) // most)
    for part in np.array_split(np.arange(len(runs)), count):
        yield [runs[i] for i in part]


def generators(fold: str, seed: int) -> tuple[np.random.Generator, np.random.Generator]:
    """Independent generators for the initial weights and the data order of (fold, seed).

    They depend on the fold's name and the seed alone: not on the other runs, nor on the learning
    rate, so that settings of a grid differ in nothing else.
    """
    sequence = np.random.SeedSequence([seed, zlib.crc32(fold.encode())])
    init, order = sequence.spawn(2)
    return np.random.default_rng(init), np.random.default_rng(order)


class EpochStream:
    """The minibatches of one run, endlessly: epochs in random order, cut as s3prl cuts them.

    Each epoch is cut into micro-batches, the last one possibly short; an update averages the mean
    losses of ``accumulate`` consecutive ones, also across the border of two epochs.
    """

    def __init__(self, rows: Indices, rng: np.random.Generator, micro: int, accumulate: int):
        self._rows, self._rng, self._micro = rows, rng, micro
        self._accumulate = accumulate
        self._index = np.zeros((0, micro), np.int64)
        self._weight = np.zeros((0, micro), np.float32)

    def take(self, steps: int) -> tuple[Indices, Floats]:
        """Rows and weights [steps, micro * accumulate] of the next updates."""
        need = steps * self._accumulate
        epochs = [(self._index, self._weight)]
        count = len(self._index)
        while count < need:
            epochs.append(self._epoch())
            count += len(epochs[-1][0])
        index, weight = (np.concatenate(parts) for parts in zip(*epochs, strict=True))
        self._index, self._weight = index[need:], weight[need:]
        shape = (steps, self._micro * self._accumulate)
        return index[:need].reshape(shape), weight[:need].reshape(shape)

    def _epoch(self) -> tuple[Indices, Floats]:
        n = len(self._rows)
        count = -(-n // self._micro)
        order = self._rng.permutation(self._rows)
        index = np.resize(order, count * self._micro).reshape(count, self._micro)
        real = (np.arange(count * self._micro) < n).reshape(count, self._micro)
        # a short micro-batch is filled up with rows of weight 0
        weight = real / (real.sum(axis=1, keepdims=True) * self._accumulate)
        return index, weight.astype(np.float32)


def take_all(streams: Sequence[EpochStream], steps: int) -> Batches:
    """The next ``steps`` updates of every stream, side by side."""
    taken = [stream.take(steps) for stream in streams]
    index = np.stack([index for index, _ in taken], axis=1)
    weight = np.stack([weight for _, weight in taken], axis=1)
    return Batches(index, weight)
