"""Scores of one set of predictions: UAR, WA, F1, per-class recall, confusion. No torch."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ser_features.errors import SerfeatError
from ser_features.records import Json

Labels = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores in 0…1 of one set of predictions.

    ``uar`` (unweighted average recall, also called UA), ``macro_f1`` and ``weighted_f1`` are taken
    over the classes present in the truth; a class that no test utterance has gives ``recall`` None
    and enters no mean (a leave-one-speaker-out fold may miss classes). Predicting such a class
    is still an error: it lowers the recall of the true class. ``wa`` is accuracy. ``confusion``
    counts utterances, ``confusion[truth][prediction]``.
    """

    uar: float
    wa: float
    macro_f1: float
    weighted_f1: float
    recall: tuple[float | None, ...]
    confusion: tuple[tuple[int, ...], ...]

    @property
    def num_utterances(self) -> int:
        """How many utterances were scored."""
        return sum(map(sum, self.confusion))

    def to_json(self) -> Mapping[str, Json]:
        """The same as plain JSON values."""
        return {
            "uar": self.uar,
            "wa": self.wa,
            "macro_f1": self.macro_f1,
            "weighted_f1": self.weighted_f1,
            "recall": list(self.recall),
            "confusion": [list(row) for row in self.confusion],
        }


def score(truth: npt.ArrayLike, predictions: npt.ArrayLike, num_classes: int) -> Scores:
    """Score label indices ``predictions`` [N] against ``truth`` [N], both in 0…num_classes-1.

    Raises SerfeatError where there is nothing to score, lengths differ or an index is no class.

    >>> score([0, 0, 1], [0, 1, 1], num_classes=3).uar
    0.75
    """
    counts = confusion(truth, predictions, num_classes)
    return from_confusion(counts)


def confusion(truth: npt.ArrayLike, predictions: npt.ArrayLike, num_classes: int) -> Labels:
    """Counts [truth, prediction] of shape [num_classes, num_classes]; errors as ``score``."""
    true, predicted = (
        _indices("truth", truth, num_classes),
        _indices("predictions", predictions, num_classes),
    )
    if true.shape != predicted.shape:
        raise SerfeatError(
            f"cannot score {len(predicted)} predictions against {len(true)} true labels: "
            "every test utterance needs exactly one prediction"
        )
    if not len(true):
        raise SerfeatError("cannot score an empty test side: give at least one utterance")
    # Not scikit-learn's: importing it would triple the start-up of 'serfeat leaderboard'.
    cells = np.bincount(true * num_classes + predicted, minlength=num_classes**2)
    return cells.reshape(num_classes, num_classes).astype(np.int64)


def from_confusion(counts: Labels) -> Scores:
    """Scores of a confusion matrix [truth, prediction] with at least one utterance."""
    support = counts.sum(axis=1)
    present = support > 0
    hits = np.diagonal(counts)
    recall = hits[present] / support[present]
    # F1 = 2 TP / (2 TP + FP + FN): defined for every class that is present
    f1 = 2 * hits[present] / (support + counts.sum(axis=0))[present]
    per_class = iter(recall.tolist())
    return Scores(
        uar=float(recall.mean()),
        wa=float(hits.sum() / support.sum()),
        macro_f1=float(f1.mean()),
        weighted_f1=float(f1 @ support[present] / support.sum()),
        recall=tuple(next(per_class) if here else None for here in present),
        confusion=tuple(tuple(int(n) for n in row) for row in counts),
    )


def _indices(name: str, values: npt.ArrayLike, num_classes: int) -> Labels:
    array = np.asarray(values)
    if array.size == 0:
        return np.zeros(0, np.int64)
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
        raise SerfeatError(
            f"{name} must be a flat list of label indices, found {array.dtype} {array.shape}"
        )
    wrong = array[(array < 0) | (array >= num_classes)]
    if wrong.size:
        raise SerfeatError(
            f"{name} holds label index {int(wrong[0])}, expected 0…{num_classes - 1}"
        )
    return array.astype(np.int64)
