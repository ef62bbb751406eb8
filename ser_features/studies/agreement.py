"""How often two trainings say the same: across two forms, and across runs of one form."""

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from ser_features.significance import Outcomes, paired

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def agreement(first: Ints, second: Ints) -> Floats:
    """Share of pairs of runs that predict the same for each utterance: [N], 0…1.

    ``first`` and ``second`` are predictions [K, N] of K runs with the same seeds. Run i of the one
    is paired with all runs of the other but i, so that both within one form (``second`` is
    ``first``) and across two forms no pair shares its seed. Raises ValueError for one run, or where
    the shapes differ.
    """
    if first.shape != second.shape or len(first) < 2:
        raise ValueError(
            f"agreement takes as many runs of both, two at least: {first.shape}, {second.shape}"
        )
    pairs = [(i, j) for i, j in product(range(len(first)), repeat=2) if i != j]
    same: Floats = np.mean([first[i] == second[j] for i, j in pairs], axis=0, dtype=np.float64)
    return same


@dataclass(frozen=True, slots=True)
class Agreements:
    """Agreement of two forms of one augmentation, means over utterances, 0…1.

    ``first`` and ``second`` are runs of one form among themselves, ``across`` runs of the two
    forms. ``ceiling`` is the mean of the former: forms that are the same in all but chance reach
    it. ``gap`` is ``ceiling - across``, with a 95 % interval (see ``jackknife``).
    """

    first: float
    second: float
    across: float
    gap: float
    gap_low: float
    gap_high: float

    @property
    def ceiling(self) -> float:
        """What two forms can reach."""
        return (self.first + self.second) / 2


def compare_forms(first: Outcomes, second: Outcomes) -> Agreements:
    """Raises ValueError where the two were not tested on the same utterances and folds."""
    if not paired(first, second):
        raise ValueError("the two forms were not tested on the same utterances and folds")
    own = [agreement(each.predictions, each.predictions) for each in (first, second)]
    across = agreement(first.predictions, second.predictions)
    gap = (own[0] + own[1]) / 2 - across
    known = len(np.unique(first.speaker)) > 1 and first.speaker.min() >= 0
    low, high = jackknife(gap, first.speaker if known else np.arange(len(gap)))
    one, other = (float(each.mean()) for each in own)
    return Agreements(one, other, float(across.mean()), float(gap.mean()), low, high)


def jackknife(values: Floats, unit: Ints) -> tuple[float, float]:
    """95 % interval of the mean of ``values`` [N], leaving out one unit [N] at a time.

    Student's t with one degree of freedom fewer than units (Cameron, Gelbach and Miller 2008,
    Review of Economics and Statistics 90(3)). With one unit it is the mean itself.
    """
    _, index = np.unique(unit, return_inverse=True)
    sums, sizes = np.bincount(index, values), np.bincount(index)
    mean, count = float(values.mean()), len(sums)
    if count < 2:
        return mean, mean
    without = (sums.sum() - sums) / (sizes.sum() - sizes)
    error = np.sqrt((count - 1) / count * ((without - without.mean()) ** 2).sum())
    reach = float(stats.t.ppf(0.975, count - 1) * error)
    return mean - reach, mean + reach


def rank_correlation(first: Floats, second: Floats) -> float | None:
    """Spearman's, -1…1; None for fewer than three pairs or where one side is all the same."""
    if len(first) < 3 or not np.ptp(first) or not np.ptp(second):
        return None
    return float(stats.spearmanr(first, second).statistic)
