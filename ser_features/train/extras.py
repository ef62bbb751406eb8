"""What a trainer may be told beyond features, labels and folds. No torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ser_features.records import Json
from ser_features.train.cache_augment import CacheAugment
from ser_features.train.stack import STAND_INS, IndexedFold, Indices, Run, generator
from ser_features.train.strategies import Mask, Stage, Strategy, plan_stages, schedule_of

LATE = 0.8
"""Evaluations after this share of training are the late ones (paper 3, section 2.2)."""


@dataclass(frozen=True, slots=True)
class Extras:
    """``added`` (the other data) and ``num_frames`` are by row of the features.

    ``rate`` is the share of training samples that a copy stands in for (paper 3). ``late`` keeps
    the test predictions of the last fifth of the evaluations. ``cache`` augments minibatches.
    """

    added: Mask
    num_frames: Indices
    strategy: Strategy | None = None
    rate: float = 0.0
    late: bool = False
    cache: CacheAugment | None = None

    @property
    def adversarial(self) -> bool:
        """Whether a domain classifier is trained beside the head."""
        return self.strategy is not None and self.strategy.name == "adversarial"

    def stages(self, fold: IndexedFold) -> tuple[Stage, ...]:
        """The stages of a fold's training."""
        return plan_stages(self.strategy, fold, self.added, self.num_frames)

    def schedule(self, stages: Sequence[Stage], total: int) -> tuple[Mapping[str, Json], ...]:
        """The stages as a record shows them; nothing without a strategy."""
        return schedule_of(stages, self.added, total) if self.strategy is not None else ()

    def is_late(self, step: int, total: int) -> bool:
        """Whether test is predicted at this evaluation, for the average over the last ones."""
        return self.late and step > LATE * total


def no_extras(num_rows: int) -> Extras:
    """Plain training."""
    return Extras(np.zeros(num_rows, bool), np.zeros(num_rows, np.int64))


@dataclass(slots=True)
class Swap:
    """Draws which copies stand in, for one fold and seed."""

    fold: IndexedFold
    seed: int
    rate: float
    rng: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.rng = generator(self.fold.name, self.seed, STAND_INS)

    def __call__(self, rows: Indices) -> Indices:
        """The rows, some of them replaced by a copy; each call draws anew."""
        if self.fold.copies is None or not self.rate:
            return rows
        return self.fold.copies.draw(rows, self.rate, self.rng)


def swap_of(fold: IndexedFold, run: Run, extras: Extras) -> Swap:
    """The draws of one run: the same for all settings of a fold and seed."""
    return Swap(fold, run.seed, extras.rate)
