"""Bookkeeping of runs that train together: which runs, on which rows, in which order."""

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ser_features.errors import TrainError
from ser_features.records import Fold

Indices = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class StandIns:
    """Copies that may take a row's place: of row r, ``rows[starts[r] : starts[r + 1]]``."""

    starts: Indices
    rows: Indices

    def draw(self, index: Indices, rate: float, rng: np.random.Generator) -> Indices:
        """``index`` with each row, at probability ``rate``, replaced by one of its copies.

        A row without copies stays. Paper 3, section 5.1: the share of the samples affected.
        """
        first, count = self.starts[index], self.starts[index + 1] - self.starts[index]
        hit = (rng.random(index.shape) < rate) & (count > 0)
        chosen = first + np.floor(rng.random(index.shape) * count).astype(np.int64)
        return np.where(hit, self.rows[np.where(hit, chosen, 0)], index) if hit.any() else index


@dataclass(frozen=True, slots=True)
class IndexedFold:
    """A fold as row numbers of the feature array; ``copies`` are its ``Fold.copies`` by row."""

    name: str
    train: Indices
    dev: Indices
    test: Indices
    copies: StandIns | None = None

    @property
    def used(self) -> Indices:
        """All rows that training this fold may read."""
        stand_ins = [] if self.copies is None else [self.copies.rows]
        return np.unique(np.concatenate([self.train, self.dev, self.test, *stand_ins]))


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


def index_folds(
    folds: Sequence[Fold], ids: Sequence[str], copy_of: Mapping[str, str] | None = None
) -> list[IndexedFold]:
    """Folds as positions in ``ids``; TrainError names an utterance that has no features.

    ``copy_of`` maps each of ``Fold.copies`` to the row that it may stand in for.
    """
    position = {name: i for i, name in enumerate(ids)}

    def rows(fold: Fold, names: tuple[str, ...]) -> Indices:
        if missing := [name for name in names if name not in position]:
            raise TrainError(
                f"fold {fold.name!r}: {len(missing)} utterances have no features "
                f"(first: {missing[0]!r}); extract them first"
            )
        return np.array([position[name] for name in names], np.int64)

    def stand_ins(fold: Fold) -> StandIns | None:
        if not fold.copies:
            return None
        known = copy_of or {}
        of = rows(fold, tuple(known[name] for name in fold.copies))
        order = np.argsort(of, kind="stable")
        starts = np.searchsorted(of[order], np.arange(len(ids) + 1))
        return StandIns(starts, rows(fold, fold.copies)[order])

    return [
        IndexedFold(f.name, rows(f, f.train), rows(f, f.dev), rows(f, f.test), stand_ins(f))
        for f in folds
    ]


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


def generator(fold: str, seed: int, purpose: int) -> np.random.Generator:
    """A further generator of (fold, seed), independent of the two of ``generators``."""
    sequence = np.random.SeedSequence([seed, zlib.crc32(fold.encode())], spawn_key=(purpose,))
    return np.random.default_rng(sequence)


STAND_INS, CACHE = 2, 3
"""Purposes of further generators: which copies stand in; augmentation on the cache."""


class EpochStream:
    """The minibatches of one run, endlessly: epochs in random order, cut as s3prl cuts them.

    Each epoch is cut into micro-batches, the last one possibly short; an update averages the mean
    losses of ``accumulate`` consecutive ones, also across the border of two epochs. ``swap`` may
    replace rows of an epoch by copies.
    """

    def __init__(
        self,
        rows: Indices,
        rng: np.random.Generator,
        micro: int,
        accumulate: int,
        swap: Callable[[Indices], Indices] | None = None,
    ):
        self._rows, self._rng, self._micro, self._swap = rows, rng, micro, swap
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
        order = order if self._swap is None else self._swap(order)
        index = np.resize(order, count * self._micro).reshape(count, self._micro)
        real = (np.arange(count * self._micro) < n).reshape(count, self._micro)
        # a short micro-batch is filled up with rows of weight 0
        weight = real / (real.sum(axis=1, keepdims=True) * self._accumulate)
        return index, weight.astype(np.float32)


class StagedStream:
    """Streams one after another: at each ``first`` update the next one begins, with a new epoch."""

    def __init__(self, stages: Sequence[tuple[int, EpochStream]]) -> None:
        self._stages, self._done = list(stages), 0

    def take(self, steps: int) -> tuple[Indices, Floats]:
        """Rows and weights [steps, batch] of the next updates."""
        parts = []
        end = self._done + steps
        while self._done < end:
            while len(self._stages) > 1 and self._stages[1][0] <= self._done:
                self._stages.pop(0)
            until = min([end, *(first for first, _ in self._stages[1:2])])
            parts.append(self._stages[0][1].take(until - self._done))
            self._done = until
        index, weight = (np.concatenate(each) for each in zip(*parts, strict=True))
        return index, weight


def take_all(streams: Sequence[EpochStream | StagedStream], steps: int) -> Batches:
    """The next ``steps`` updates of every stream, side by side."""
    taken = [stream.take(steps) for stream in streams]
    index = np.stack([index for index, _ in taken], axis=1)
    weight = np.stack([weight for _, weight in taken], axis=1)
    return Batches(index, weight)
