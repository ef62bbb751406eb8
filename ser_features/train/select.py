"""Model selection: the best checkpoint of a run and the best setting of a grid, on dev only."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ser_features.metrics import from_confusion

Indices = npt.NDArray[np.int64]


def dev_score(truth: Indices, predictions: Indices, num_classes: int, metric: str) -> float:
    """One of ``SELECT_METRICS`` of predictions on dev, as ``ser_features.metrics`` defines them."""
    cells = np.bincount(truth * num_classes + predictions, minlength=num_classes**2)
    scores = from_confusion(cells.reshape(num_classes, num_classes).astype(np.int64))
    value: float = getattr(scores, metric)
    return value


@dataclass(slots=True)
class Best:
    """The dev curve of one run, its first best step, and what that checkpoint says on test."""

    curve: list[tuple[int, float]] = field(default_factory=list)
    step: int = 0
    score: float = -1.0
    predictions: Indices = field(default_factory=lambda: np.zeros(0, np.int64))
    layer_weights: tuple[float, ...] = ()
    domain_curve: list[tuple[int, float]] = field(default_factory=list)
    late: list[tuple[int, Indices]] = field(default_factory=list)

    def improves(self, step: int, score: float, select: str = "dev") -> bool:
        """Note a dev score; True where this checkpoint is the one to keep from now on.

        ``dev`` keeps what is above all before (a tie keeps the earlier one), ``last`` every one.
        """
        self.curve.append((step, score))
        if select == "dev" and score <= self.score:
            return False
        self.step, self.score = step, score
        return True


def first_best(scores: Sequence[float]) -> int:
    """Position of the highest score; the first of equals."""
    return max(range(len(scores)), key=lambda i: (scores[i], -i))
