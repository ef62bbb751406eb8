"""Confidence intervals of scores by a bootstrap over speakers, not utterances.

Utterances of one speaker are not independent, so the unit of resampling is the speaker; where
speakers are not known (or there is only one) it is the utterance, and the result says so. What is
estimated is how well these trained heads do on new speakers; training is not repeated.
``benchmarks/bench_intervals.py`` measures how often the truth is inside.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special, stats

from ser_features.resampling import (
    CELLS,
    FEW_UNITS,
    Floats,
    Ints,
    Outcomes,
    clusters_of,
    estimator_of,
    paired,
    point,
    resampled,
    units_of,
)


@dataclass(frozen=True, slots=True)
class Interval:
    """A confidence interval, and how many ``speakers`` or ``utterances`` were resampled."""

    low: float
    high: float
    unit: str
    num_units: int


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

    From 20 units on: percentiles, expanded as in Hesterberg (2015, The American Statistician 69(4),
    section 5). With fewer, percentiles fall short where scores are high: there the bootstrap gives
    the standard error, and Student's t on the scale of log odds the ends, as surveys have it for
    proportions of clusters (R's ``survey::svyciprop``, method ``xlogit``). That has no value where
    nothing is wrong, or all: then half an utterance is counted the other way.
    """
    values, unit, num_units = _bootstrap(outcomes, metric, estimator, num_resamples, seed)
    found = point(outcomes, metric, estimator)
    low, high = _of_share(found, values, num_units, level, len(outcomes.truth))
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

    Each set counts once and is resampled by itself; the ends are those for the set of fewest
    units. Of one set it is its own ``interval``.
    """
    found = [
        _bootstrap(each, metric, estimator_of(each), num_resamples, seed + i)
        for i, each in enumerate(several)
    ]
    mean = float(np.mean([point(each, metric, estimator_of(each)) for each in several]))
    values = np.mean([values for values, _, _ in found], axis=0)
    fewest, size = min(num for _, _, num in found), sum(len(each.truth) for each in several)
    low, high = _of_share(mean, values, fewest, level, size)
    units = " and ".join(dict.fromkeys(unit for _, unit, _ in found))
    return Interval(low, high, units, sum(num for _, _, num in found))


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

    Both are resampled by the same draws of speakers (utterances where those are not known). The
    ends are as ``interval`` says, for few units without the log odds. Raises ValueError where the
    items differ.
    """
    if not paired(first, second):
        raise ValueError("the two systems were not tested on the same utterances and folds")
    cluster, unit = units_of(first)
    num_units = int(cluster.max()) + 1
    values = np.concatenate([
        resampled(first, cluster, weights, metric, estimator)
        - resampled(second, cluster, weights, metric, estimator)
        for weights in _drawn(first, np.ones(num_units, np.int64), num_resamples, seed)
    ])  # fmt: skip
    if num_units < FEW_UNITS:
        found = point(first, metric, estimator) - point(second, metric, estimator)
        reach = _reach(values, num_units, level)
        return Interval(found - reach, found + reach, unit, num_units)
    return Interval(*_percentiles(values, num_units, level), unit, num_units)


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
    batch = max(1, CELLS // max(len(sizes), num_cells))
    for start in range(0, num_resamples, batch):
        count = min(batch, num_resamples - start)
        yield rng.multinomial(num_units, sizes / num_units, size=count) / sizes


def _of_share(
    found: float, values: Floats, num_units: int, level: float, num_items: int
) -> tuple[float, float]:
    """The ends of an interval of a score of 0…1 over so many utterances."""
    half = 0.5 / (num_items + 1)
    perfect = not half <= found <= 1 - half
    if num_units >= FEW_UNITS and not perfect:
        return _percentiles(values, num_units, level)
    centre = float(np.clip(found, half, 1 - half))
    reach = _reach(values, num_units, level) / (centre * (1 - centre))
    if perfect:  # half an error as Anscombe counts it: its log odds have a deviation of sqrt(2)
        reach = float(_quantile(num_units, level) * np.sqrt(2))
    low, high = special.expit(special.logit(centre) + np.array([-reach, reach]))
    return min(float(low), found), max(float(high), found)


def _reach(values: Floats, num_units: int, level: float) -> float:
    """Half the width of a t interval; the bootstrap's deviation lacks sqrt((n - 1) / n)."""
    error = values.std() * np.sqrt(num_units / max(num_units - 1, 1))
    return float(_quantile(num_units, level) * error)


def _quantile(num_units: int, level: float) -> float:
    return float(stats.t.ppf((1 + level) / 2, max(num_units - 1, 1)))


def _percentiles(values: Floats, num_units: int, level: float) -> tuple[float, float]:
    """Percentiles further out than plain ones, as far as a t interval's ends would be."""
    reach = _quantile(num_units, level) * np.sqrt(num_units / max(num_units - 1, 1))
    tail = stats.norm.cdf(-reach)
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)
