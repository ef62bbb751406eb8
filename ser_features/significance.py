"""Confidence intervals and paired comparisons that resample speakers, not utterances.

Utterances of one speaker are not independent, so the unit of resampling is the speaker; where
speakers are not known (or there is only one) it is the utterance, and the result says so. What is
estimated is how well these trained heads do on new speakers; training is not repeated.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from ser_features.resampling import (
    METRICS,
    Floats,
    Ints,
    Outcomes,
    clusters_of,
    confusions,
    ratio,
    resampled,
    scores,
    units_of,
)

__all__ = [
    "METRICS",
    "Difference",
    "Interval",
    "Outcomes",
    "compare",
    "difference_interval",
    "estimator_of",
    "holm",
    "interval",
    "mean_interval",
    "paired",
    "point",
    "scores",
]

_CELLS = 4_000_000  # numbers held at a time
_FEW_UNITS = 20
_SUMS = ("uar", "wa")
"""Metrics whose difference is a sum over utterances."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A confidence interval, and how many ``speakers`` or ``utterances`` were resampled."""

    low: float
    high: float
    unit: str
    num_units: int


@dataclass(frozen=True, slots=True)
class Difference:
    """A paired comparison: the difference of the scores and its two-sided p, not yet corrected.

    ``test`` is ``permutation``, ``jackknife`` or ``none needed`` (the systems are always equal).
    """

    difference: float
    p: float
    unit: str
    num_units: int
    test: str


def estimator_of(outcomes: Outcomes) -> str:
    """How fold scores become one number.

    ``folds`` (SUPERB's way: the mean over folds) where every test fold holds every label that is
    tested at all, else ``pooled`` (one score from the predictions of all folds together).
    """
    seen = np.zeros((outcomes.fold.max() + 1, outcomes.num_labels), bool)
    seen[outcomes.fold, outcomes.truth] = True
    return "folds" if (seen == seen.any(axis=0)).all() else "pooled"


def point(outcomes: Outcomes, metric: str = "uar", estimator: str = "pooled") -> float:
    """The metric itself: mean over seeds of the fold mean or of the pooled score, 0…1."""
    ones = np.ones((1, len(outcomes.truth)))
    values = resampled(outcomes, np.arange(len(outcomes.truth)), ones, metric, estimator)
    return float(values[0])


def interval(
    outcomes: Outcomes,
    metric: str = "uar",
    estimator: str = "pooled",
    *,
    level: float = 0.95,
    num_resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Cluster-bootstrap interval of the very number that ``point`` gives.

    Percentiles are expanded for few units as in Hesterberg (2015, The American Statistician 69(4),
    section 5): nominal coverage of a t interval instead of the narrow plain percentile.
    """
    values, unit, num_units = _bootstrap(outcomes, metric, estimator, num_resamples, seed)
    low, high = _percentiles(values, num_units, level)
    return Interval(low, high, unit, num_units)


def mean_interval(
    several: Sequence[Outcomes],
    metric: str = "uar",
    *,
    level: float = 0.95,
    num_resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Cluster-bootstrap interval of the mean of a metric over test sets that share no unit.

    Each set counts once and is resampled by itself; percentiles are expanded for the set of fewest
    units. Of one set it is its own ``interval``.
    """
    found = [
        _bootstrap(each, metric, estimator_of(each), num_resamples, seed + i)
        for i, each in enumerate(several)
    ]
    values = np.mean([values for values, _, _ in found], axis=0)
    low, high = _percentiles(values, min(num for _, _, num in found), level)
    units = " and ".join(dict.fromkeys(unit for _, unit, _ in found))
    return Interval(low, high, units, sum(num for _, _, num in found))


def _bootstrap(
    outcomes: Outcomes, metric: str, estimator: str, num_resamples: int, seed: int
) -> tuple[Floats, str, int]:
    """The metric of each resample, and what and how many were resampled."""
    cluster, sizes, unit = clusters_of(outcomes)
    values = [
        resampled(outcomes, cluster, weights, metric, estimator)
        for weights in _drawn(outcomes, sizes, num_resamples, seed)
    ]
    return np.concatenate(values), unit, int(sizes.sum())


def _drawn(outcomes: Outcomes, sizes: Ints, num_resamples: int, seed: int) -> Iterator[Floats]:
    """Weights [B, cluster] of as many units as there are, drawn with replacement, in parts."""
    num_units, rng = int(sizes.sum()), np.random.default_rng(seed)
    num_cells = (int(outcomes.fold.max()) + 1) * outcomes.num_labels**2
    batch = max(1, _CELLS // max(len(sizes), num_cells))
    for start in range(0, num_resamples, batch):
        count = min(batch, num_resamples - start)
        yield rng.multinomial(num_units, sizes / num_units, size=count) / sizes


def compare(
    first: Outcomes,
    second: Outcomes,
    estimator: str = "pooled",
    metric: str = "uar",
    *,
    num_resamples: int = 9999,
    seed: int = 0,
) -> Difference:
    """Whether two systems differ in a metric on the same items.

    The truth is shared, so the difference of two UARs or WAs is a sum of one term per unit (speaker
    or utterance). From 20 units on: a paired permutation test that swaps the two systems within
    units. With fewer, a swap test cannot reach a p that survives a correction for many rows
    (2/1024 for ten speakers); there the standard error comes from leaving out one unit at a time,
    with Student's t for few units (Cameron, Gelbach and Miller 2008, Review of Economics and
    Statistics 90(3)). F1 is no such sum: there each permutation is scored anew. Raises ValueError
    where the items differ.
    """
    if not paired(first, second):
        raise ValueError("the two systems were not tested on the same utterances and folds")
    cluster, unit = units_of(first)
    label = first.truth if metric in ("uar", "macro_f1") else np.zeros_like(first.truth)
    terms, share = _terms(first, second, label, estimator)
    sums = np.bincount(cluster, terms).astype(np.float64)  # [unit]
    linear = metric in _SUMS
    same = not sums.any() if linear else np.array_equal(first.predictions, second.predictions)
    if same:
        return Difference(0.0, 1.0, unit, len(sums), "none needed")
    difference = point(first, metric, estimator) - point(second, metric, estimator)
    how, many = (first, second, metric, estimator), len(sums) >= _FEW_UNITS
    if many and linear:
        p, test = _permutation(sums, num_resamples, seed), "permutation"
    elif many and len(first.predictions) == len(second.predictions):
        p, test = _swapped(*how, num_resamples, seed), "permutation"
    else:
        error = _jackknife(terms, share, label, cluster) if linear else _left_out(*how)
        p, test = _few_units(difference, max(error, float(share.max())), len(sums)), "jackknife"
    return Difference(difference, p, unit, len(sums), test)


def difference_interval(
    first: Outcomes,
    second: Outcomes,
    metric: str = "uar",
    estimator: str = "pooled",
    *,
    level: float = 0.95,
    num_resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Cluster-bootstrap interval of ``point(first) - point(second)`` on the same items.

    Both are resampled by the same draws of speakers (utterances where those are not known).
    Raises ValueError where the items differ.
    """
    if not paired(first, second):
        raise ValueError("the two systems were not tested on the same utterances and folds")
    cluster, unit = units_of(first)
    num_units = int(cluster.max()) + 1
    values = [
        resampled(first, cluster, weights, metric, estimator)
        - resampled(second, cluster, weights, metric, estimator)
        for weights in _drawn(first, np.ones(num_units, np.int64), num_resamples, seed)
    ]
    low, high = _percentiles(np.concatenate(values), num_units, level)
    return Interval(low, high, unit, num_units)


def holm(p: Sequence[float]) -> list[float]:
    """Holm's step-down correction: adjusted p values in the order given.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p, kind="stable")
    factors = len(p) - np.arange(len(p))
    adjusted = np.minimum(np.maximum.accumulate(np.asarray(p)[order] * factors), 1.0)
    result = np.empty(len(p))
    result[order] = adjusted
    return [float(value) for value in result]


def paired(first: Outcomes, second: Outcomes) -> bool:
    """Whether two systems were tested on the same items in the same folds."""
    names = ("truth", "fold", "speaker")
    return all(np.array_equal(getattr(first, n), getattr(second, n)) for n in names)


def _terms(first: Outcomes, second: Outcomes, label: Ints, estimator: str) -> tuple[Floats, Floats]:
    """What each item adds to the difference of the mean recalls over ``label`` (they sum to it),
    and the most that it could add. With one label for all it is the accuracy's."""
    fold = first.fold if estimator == "folds" else np.zeros_like(first.fold)
    support = np.zeros((int(fold.max()) + 1, int(label.max()) + 1))
    np.add.at(support, (fold, label), 1.0)
    num_seen = (support > 0).sum(axis=1)  # labels in each fold
    share = 1 / (len(support) * num_seen[fold] * support[fold, label])
    right = [(each.predictions == each.truth).mean(axis=0) for each in (first, second)]
    return share * (right[0] - right[1]), share


def _jackknife(terms: Floats, share: Floats, truth: Ints, cluster: Ints) -> float:
    """Standard error of the difference, from leaving out one unit at a time.

    Recalls are ratios, whose denominators change with the units; a label that only the left-out
    unit has drops out of the mean. With one unit a fold it is the usual error of a mean.
    """
    shape = (int(cluster.max()) + 1, int(truth.max()) + 1)
    above, below = np.zeros(shape), np.zeros(shape)  # [unit, label]
    np.add.at(above, (cluster, truth), terms)
    np.add.at(below, (cluster, truth), share)
    weights = below.sum(axis=0)
    left = weights - below
    left[left < 1e-12] = 0.0
    kept = np.where(left > 0, weights, 0.0)
    without = (kept * ratio(above.sum(axis=0) - above, left)).sum(axis=1) / kept.sum(axis=1)
    num = len(without)
    return float(np.sqrt((num - 1) / num * ((without - without.mean()) ** 2).sum()))


def _left_out(first: Outcomes, second: Outcomes, metric: str, estimator: str) -> float:
    """Standard error of the difference of any score, from leaving out one unit at a time."""
    cluster, sizes, _ = clusters_of(first, second)
    num, batch = int(sizes.sum()), max(1, _CELLS // len(sizes))
    without = np.zeros(len(sizes))
    for start in range(0, len(sizes), batch):
        at = np.arange(start, min(start + batch, len(sizes)))
        weights = np.ones((len(at), len(sizes)))
        weights[np.arange(len(at)), at] -= 1 / sizes[at]
        own, other = (resampled(s, cluster, weights, metric, estimator) for s in (first, second))
        without[at] = own - other
    mean = (sizes * without).sum() / num
    return float(np.sqrt((num - 1) / num * (sizes * (without - mean) ** 2).sum()))


def _permutation(sums: Floats, num_resamples: int, seed: int) -> float:
    """Two-sided p of a sum under random signs; equal terms are drawn together (binomially)."""
    sizes, counts = np.unique(np.abs(sums[sums != 0]).round(12), return_counts=True)
    rng = np.random.default_rng(seed)
    positive = rng.binomial(counts, 0.5, size=(num_resamples, len(counts)))  # [B, size]
    null = np.abs((2 * positive - counts) @ sizes)
    extreme = np.count_nonzero(null >= abs(sums.sum()) - 1e-9)
    return float((1 + extreme) / (1 + num_resamples))


def _swapped(
    first: Outcomes, second: Outcomes, metric: str, estimator: str, num_resamples: int, seed: int
) -> float:
    """Two-sided p of a difference of scores when units change sides at random, all runs of one
    together; both systems have as many runs."""
    cluster, sizes, _ = clusters_of(first, second)
    fold = first.fold if estimator == "folds" else np.zeros_like(first.fold)
    num_cells = (int(fold.max()) + 1) * first.num_labels**2
    rng, batch = np.random.default_rng(seed), max(1, _CELLS // max(len(sizes), num_cells))
    bound = abs(point(first, metric, estimator) - point(second, metric, estimator)) - 1e-9
    extreme = 0
    for start in range(0, num_resamples, batch):
        count = min(batch, num_resamples - start)
        swapped = rng.binomial(sizes, 0.5, size=(count, len(sizes))) / sizes
        sides = [
            list(confusions(each, fold, cluster, weights))
            for each in (first, second)
            for weights in (1 - swapped, swapped)
        ]
        found = np.zeros(count)
        for stay, leave, other_stay, other_leave in zip(*sides, strict=True):
            found += scores(stay + other_leave, metric).mean(axis=1)
            found -= scores(leave + other_stay, metric).mean(axis=1)
        extreme += int(np.count_nonzero(np.abs(found / len(first.predictions)) >= bound))
    return float((1 + extreme) / (1 + num_resamples))


def _few_units(difference: float, error: float, num_units: int) -> float:
    """Two-sided p of Student's t.

    The caller takes ``error`` to be at least one utterance more or less, so that a chance
    agreement of few coarse terms is not taken for certainty.
    """
    if num_units < 2:
        return 1.0
    return float(2 * stats.t.sf(abs(difference) / error, num_units - 1))


def _percentiles(values: Floats, num_units: int, level: float) -> tuple[float, float]:
    """The ends of an interval, further out for few units (see ``interval``)."""
    quantile = stats.t.ppf((1 - level) / 2, max(num_units - 1, 1))
    tail = stats.norm.cdf(quantile * np.sqrt(num_units / max(num_units - 1, 1)))
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)
