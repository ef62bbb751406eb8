"""Predictions of a system, and its scores when units of them are drawn again and again.

The unit is the speaker, or the utterance where speakers are not known.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

METRICS = ("uar", "wa", "macro_f1", "weighted_f1")
FEW_UNITS = 20
"""With fewer speakers, intervals and tests are those of Student's t."""
CELLS = 4_000_000
"""Numbers held at a time."""


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


def units_of(outcomes: Outcomes) -> tuple[Ints, str]:
    """The unit of each item, and what the units are."""
    known, unit = np.unique(outcomes.speaker, return_inverse=True)
    if len(known) > 1 and known[0] >= 0:
        return unit, "speakers"
    return np.arange(len(outcomes.truth)), "utterances"


def clusters_of(*systems: Outcomes) -> tuple[Ints, Ints, str]:
    """Cluster of each item, units in each cluster, what the units are; the same for all systems.

    Utterances that are alike in all that matters (truth, fold, predictions) form one cluster of
    many units: drawing from it is the same as drawing them one by one.
    """
    cluster, unit = units_of(systems[0])
    if unit == "speakers":
        return cluster, np.ones(cluster.max() + 1, np.int64), unit
    predictions = [outcomes.predictions for outcomes in systems]
    pattern = np.vstack([systems[0].truth, systems[0].fold, *predictions])
    _, cluster, sizes = np.unique(pattern, axis=1, return_inverse=True, return_counts=True)
    return cluster.ravel(), sizes, unit


def paired(first: Outcomes, second: Outcomes) -> bool:
    """Whether two systems were tested on the same items in the same folds."""
    names = ("truth", "fold", "speaker")
    return all(np.array_equal(getattr(first, n), getattr(second, n)) for n in names)


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


def resampled(
    outcomes: Outcomes, cluster: Ints, weights: Floats, metric: str, estimator: str
) -> Floats:
    """The metric under each row of cluster weights [B, cluster], mean over seeds: [B]."""
    fold = outcomes.fold if estimator == "folds" else np.zeros_like(outcomes.fold)
    share = _fold_share(fold, cluster, weights)  # [B, fold]
    total = np.zeros(len(weights))
    for confusion in confusions(outcomes, fold, cluster, weights):
        total += (share * scores(confusion, metric)).sum(axis=1)
    return total / len(outcomes.predictions)


def confusions(outcomes: Outcomes, fold: Ints, cluster: Ints, weights: Floats) -> Iterator[Floats]:
    """For each seed the confusion matrices [B, fold, truth, prediction] under cluster weights."""
    num_folds, num_labels = int(fold.max()) + 1, outcomes.num_labels
    shape = (num_folds * num_labels**2, weights.shape[1])
    for predictions in outcomes.predictions:
        cell = (fold * num_labels + outcomes.truth) * num_labels + predictions
        counts = sparse.csr_array((np.ones(len(cell)), (cell, cluster)), shape=shape)
        yield (counts @ weights.T).T.reshape(-1, num_folds, num_labels, num_labels)


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
        return ratio(hits.sum(axis=-1), truth.sum(axis=-1))
    if metric == "uar":
        return ratio(ratio(hits, truth).sum(axis=-1), (truth > 0).sum(axis=-1))
    f1 = ratio(2 * hits, truth + predicted)
    if metric == "macro_f1":
        return ratio((f1 * (truth > 0)).sum(axis=-1), (truth > 0).sum(axis=-1))
    if metric == "weighted_f1":
        return ratio((f1 * truth).sum(axis=-1), truth.sum(axis=-1))
    raise ValueError(f"unknown metric {metric!r}; known: {', '.join(METRICS)}")


def ratio(above: Floats, below: Floats) -> Floats:
    """The quotient; 0 where ``below`` is 0."""
    shape = np.broadcast_shapes(above.shape, below.shape)
    return np.divide(above, below, out=np.zeros(shape), where=below > 0)
