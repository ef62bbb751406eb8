"""Multinomial logistic regression on pooled features, by scikit-learn.

Features are standardised with the training side's mean and deviation. C is the inverse strength of
the L2 penalty; the solver is L-BFGS, which is deterministic.
"""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from ser_features.errors import TrainError

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class LinearFit:
    """One value of C: whether the solver converged, and the classes it gives each other side."""

    c: float
    converged: bool
    predictions: tuple[Indices, ...]


def fit_path(
    train: Floats, labels: Indices, others: Sequence[Floats], grid: Sequence[float], max_iter: int
) -> Iterator[LinearFit]:
    """Fit on ``train`` [N, D] with each C of ``grid`` and predict every one of ``others`` [M, D].

    Each fit starts where the one before it ended. Raises TrainError where all labels are the same.
    """
    if len(np.unique(labels)) < 2:
        raise TrainError("the training side has one class only: there is nothing to learn")
    scaler = StandardScaler().fit(train)
    scaled = scaler.transform(train)
    sides = [scaler.transform(side) for side in others]
    model = LogisticRegression(max_iter=max_iter, warm_start=True)
    for c in grid:
        model.set_params(C=c)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # recorded instead
            model.fit(scaled, labels)
        converged = bool(model.n_iter_.max() < max_iter)
        yield LinearFit(c, converged, tuple(model.predict(side) for side in sides))
