"""Confidence intervals and paired comparisons that resample speakers, not utterances.

Utterances of one speaker are not independent, so the unit of resampling is the speaker; where
speakers are not known (or there is only one) it is the utterance, and the result says so. What is
estimated is how well these trained heads do on new speakers; training is not repeated.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse, stats

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

METRICS = ("uar", "wa", "macro_f1", "weighted_f1")
_CELLS = 4_000_000  # numbers held at a time
_FEW_UNITS = 20


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What was predicted for every tested utterance: arrays over items [N], seeds [K].

    An item is one utterance in one test fold. ``truth`` [N], ``fold`` [N] and ``speaker`` [N] are
    indices from 0 (a speaker of -1 is not known); ``predictions`` [K, N] are label indices.
    """

    truth: Ints
    fold: Ints
    speaker: Ints
    predictions: Ints
    num_labels: int


@dataclass(frozen=True, slots=True)
class Interval:
    """A confidence interval, and how many ``speakers`` or ``utterances`` were resampled."""

    low: float
    high: float
    unit: str
    num_units: int


@dataclass(frozen=True, slots=True)
class Difference:
    """A paired comparison: the difference of the two UARs and its two-sided p, not yet corrected.

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
    values = _resampled(outcomes, np.arange(len(outcomes.truth)), ones, metric, estimator)
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
    cluster, sizes, unit = _clusters(outcomes)
    num_units, rng = int(sizes.sum()), np.random.default_rng(seed)
    num_cells = (int(outcomes.fold.max()) + 1) * outcomes.num_labels**2
    batch, values = max(1, _CELLS // max(len(sizes), num_cells)), []
    for start in range(0, num_resamples, batch):
        count = min(batch, num_resamples - start)
        draws = rng.multinomial(num_units, sizes / num_units, size=count)  # [B, cluster]
        values.append(_resampled(outcomes, cluster, draws / sizes, metric, estimator))
    tail = _expanded_tail(num_units, level)
    low, high = np.quantile(np.concatenate(values), [tail, 1 - tail])
    return Interval(float(low), float(high), unit, num_units)


def compare(
    first: Outcomes,
    second: Outcomes,
    estimator: str = "pooled",
    *,
    num_resamples: int = 9999,
    seed: int = 0,
) -> Difference:
    """Whether two systems differ in UAR on the same items.

    The truth is shared, so the difference of two UARs is a sum of one term per unit (speaker or
    utterance). From 20 units on: a paired permutation test that swaps the two systems within
    units. With fewer, a swap test cannot reach a p that survives a correction for many rows
    (2/1024 for ten speakers); there the standard error comes from leaving out one unit at a time,
    with Student's t for few units (Cameron, Gelbach and Miller 2008, Review of Economics and
    Statistics 90(3)). Raises ValueError where the items differ.
    """
    if not paired(first, second):
        raise ValueError("the two systems were not tested on the same utterances and folds")
    cluster, unit = _units(first)
    terms, share = _terms(first, second, estimator)
    sums = np.bincount(cluster, terms).astype(np.float64)  # [unit]
    if not sums.any():
        return Difference(0.0, 1.0, unit, len(sums), "none needed")
    if len(sums) >= _FEW_UNITS:
        p, test = _permutation(sums, num_resamples, seed), "permutation"
    else:
        error = max(_jackknife(terms, share, first.truth, cluster), float(share.max()))
        p, test = _few_units(float(sums.sum()), error, len(sums)), "jackknife"
    return Difference(float(sums.sum()), p, unit, len(sums), test)


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
    cluster, unit = _units(first)
    num_units, rng = int(cluster.max()) + 1, np.random.default_rng(seed)
    batch, values = max(1, _CELLS // num_units), []
    for start in range(0, num_resamples, batch):
        count = min(batch, num_resamples - start)
        draws = rng.multinomial(num_units, np.full(num_units, 1 / num_units), size=count)
        weights = draws.astype(np.float64)
        values.append(
            _resampled(first, cluster, weights, metric, estimator)
            - _resampled(second, cluster, weights, metric, estimator)
        )
    tail = _expanded_tail(num_units, level)
    low, high = np.quantile(np.concatenate(values), [tail, 1 - tail])
    return Interval(float(low), float(high), unit, num_units)


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


def _units(outcomes: Outcomes) -> tuple[Ints, str]:
    """The unit of each item, and what the units are."""
    known, unit = np.unique(outcomes.speaker, return_inverse=True)
    if len(known) > 1 and known[0] >= 0:
        return unit, "speakers"
    return np.arange(len(outcomes.truth)), "utterances"


def _clusters(outcomes: Outcomes) -> tuple[Ints, Ints, str]:
    """Cluster of each item, units in each cluster, what the units are.

    Utterances that are alike in all that matters (truth, fold, predictions) form one cluster of
    many units: drawing from it is the same as drawing them one by one.
    """
    cluster, unit = _units(outcomes)
    if unit == "speakers":
        return cluster, np.ones(cluster.max() + 1, np.int64), unit
    pattern = np.vstack([outcomes.truth, outcomes.fold, outcomes.predictions])
    _, cluster, sizes = np.unique(pattern, axis=1, return_inverse=True, return_counts=True)
    return cluster.ravel(), sizes, unit


def _resampled(
    outcomes: Outcomes, cluster: Ints, weights: Floats, metric: str, estimator: str
) -> Floats:
    """The metric under each row of cluster weights [B, cluster], mean over seeds: [B]."""
    fold = outcomes.fold if estimator == "folds" else np.zeros_like(outcomes.fold)
    num_folds, num_labels = int(fold.max()) + 1, outcomes.num_labels
    share = _fold_share(fold, cluster, weights)  # [B, fold]
    total = np.zeros(len(weights))
    for predictions in outcomes.predictions:
        cell = (fold * num_labels + outcomes.truth) * num_labels + predictions
        shape = (num_folds * num_labels**2, weights.shape[1])
        counts = sparse.csr_array((np.ones(len(cell)), (cell, cluster)), shape=shape)
        confusion = (counts @ weights.T).T.reshape(-1, num_folds, num_labels, num_labels)
        total += (share * scores(confusion, metric)).sum(axis=1)
    return total / len(outcomes.predictions)


def _fold_share(fold: Ints, cluster: Ints, weights: Floats) -> Floats:
    """What part each fold has in the mean [B, fold]: equal when all its utterances are drawn.

    Under leave-one-speaker-out this makes resampling speakers the same as resampling folds.
    """
    shape = (weights.shape[1], int(fold.max()) + 1)
    lies_in = sparse.csr_array((np.ones(len(fold)), (cluster, fold)), shape=shape)
    drawn = (weights @ lies_in) / np.bincount(fold)
    share: Floats = drawn / drawn.sum(axis=1, keepdims=True)
    return share


def scores(confusion: Floats, metric: str) -> Floats:
    """A metric of many confusion matrices [..., truth, prediction] at once, 0…1.

    The same numbers as ``ser_features.metrics``, thousands at a time: labels without a test
    utterance enter no mean over labels. Matrices without any utterance score 0.
    """
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    truth, predicted = confusion.sum(axis=-1), confusion.sum(axis=-2)
    if metric == "wa":
        return _ratio(hits.sum(axis=-1), truth.sum(axis=-1))
    if metric == "uar":
        return _ratio(_ratio(hits, truth).sum(axis=-1), (truth > 0).sum(axis=-1))
    f1 = _ratio(2 * hits, truth + predicted)
    if metric == "macro_f1":
        return _ratio((f1 * (truth > 0)).sum(axis=-1), (truth > 0).sum(axis=-1))
    if metric == "weighted_f1":
        return _ratio((f1 * truth).sum(axis=-1), truth.sum(axis=-1))
    raise ValueError(f"unknown metric {metric!r}; known: {', '.join(METRICS)}")


def _ratio(above: Floats, below: Floats) -> Floats:
    shape = np.broadcast_shapes(above.shape, below.shape)
    return np.divide(above, below, out=np.zeros(shape), where=below > 0)


def _terms(first: Outcomes, second: Outcomes, estimator: str) -> tuple[Floats, Floats]:
    """What each item adds to the difference of the two UARs (they sum to it), and the most that
    it could add."""
    fold = first.fold if estimator == "folds" else np.zeros_like(first.fold)
    support = np.zeros((int(fold.max()) + 1, first.num_labels))
    np.add.at(support, (fold, first.truth), 1.0)
    num_seen = (support > 0).sum(axis=1)  # labels in each fold
    share = 1 / (len(support) * num_seen[fold] * support[fold, first.truth])
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
    without = (kept * _ratio(above.sum(axis=0) - above, left)).sum(axis=1) / kept.sum(axis=1)
    num = len(without)
    return float(np.sqrt((num - 1) / num * ((without - without.mean()) ** 2).sum()))


def _permutation(sums: Floats, num_resamples: int, seed: int) -> float:
    """Two-sided p of a sum under random signs; equal terms are drawn together (binomially)."""
    sizes, counts = np.unique(np.abs(sums[sums != 0]).round(12), return_counts=True)
    rng = np.random.default_rng(seed)
    positive = rng.binomial(counts, 0.5, size=(num_resamples, len(counts)))  # [B, size]
    null = np.abs((2 * positive - counts) @ sizes)
    extreme = np.count_nonzero(null >= abs(sums.sum()) - 1e-9)
    return float((1 + extreme) / (1 + num_resamples))


def _few_units(difference: float, error: float, num_units: int) -> float:
    """Two-sided p of Student's t.

    The caller takes ``error`` to be at least one utterance more or less, so that a chance
    agreement of few coarse terms is not taken for certainty.
    """
    if num_units < 2:
        return 1.0
    return float(2 * stats.t.sf(abs(difference) / error, num_units - 1))


def _expanded_tail(num_units: int, level: float) -> float:
    quantile = stats.t.ppf((1 - level) / 2, max(num_units - 1, 1))
    return float(stats.norm.cdf(quantile * np.sqrt(num_units / max(num_units - 1, 1))))
