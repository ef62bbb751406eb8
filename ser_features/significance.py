"""Paired comparisons that resample speakers, not utterances (see ``ser_features.intervals``).

What is tested is how these trained heads do on new speakers; training is not repeated.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from ser_features.resampling import (
    CELLS,
    FEW_UNITS,
    METRICS,
    Floats,
    Ints,
    Outcomes,
    clusters_of,
    confusions,
    estimator_of,
    paired,
    point,
    ratio,
    resampled,
    scores,
    units_of,
)

__all__ = [
    "METRICS",
    "Difference",
    "Outcomes",
    "compare",
    "estimator_of",
    "holm",
    "paired",
    "point",
    "scores",
]

_SUMS = ("uar", "wa")
"""Metrics whose difference is a sum over utterances."""


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
    how, many = (first, second, metric, estimator), len(sums) >= FEW_UNITS
    if many and linear:
        p, test = _permutation(sums, num_resamples, seed), "permutation"
    elif many and len(first.predictions) == len(second.predictions):
        p, test = _swapped(*how, num_resamples, seed), "permutation"
    else:
        error = _jackknife(terms, share, label, cluster) if linear else _left_out(*how)
        p, test = _few_units(difference, max(error, float(share.max())), len(sums)), "jackknife"
    return Difference(difference, p, unit, len(sums), test)


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
    num, batch = int(sizes.sum()), max(1, CELLS // len(sizes))
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
    rng, batch = np.random.default_rng(seed), max(1, CELLS // max(len(sizes), num_cells))
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
