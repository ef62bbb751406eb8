"""What a trainer refuses, said before the first update."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ser_features.errors import TrainError
from ser_features.train.stack import IndexedFold, Indices


def check_features(features: npt.NDArray[np.float32], labels: Indices) -> None:
    """TrainError unless ``features`` are finite float32 [N, L, D] with ``labels`` int64 [N]."""
    if features.ndim != 3 or features.dtype != np.float32 or 0 in features.shape:
        raise TrainError(
            "features must be float32 [utterances, layers, dims] and not empty, "
            f"found {features.dtype} {list(features.shape)}"
        )
    check_labels(labels, len(features))
    bad = np.flatnonzero(~np.isfinite(features.reshape(len(features), -1)).all(axis=1))
    if bad.size:
        raise TrainError(
            f"features of {bad.size} of {len(features)} utterances are not finite "
            f"(first: row {bad[0]}); run 'serfeat store verify'"
        )


def check_labels(labels: Indices, num_rows: int) -> None:
    """TrainError unless ``labels`` are int64 [num_rows], not negative, and not all the same."""
    if labels.shape != (num_rows,) or labels.dtype != np.int64 or labels.min(initial=0) < 0:
        raise TrainError(
            f"labels must be int64 [{num_rows}] and not negative, "
            f"found {labels.dtype} {list(labels.shape)}"
        )
    if labels.max(initial=0) == 0:
        raise TrainError("every utterance has the same label: there is nothing to learn")


def check_folds(folds: Sequence[IndexedFold], seeds: Sequence[int], num_rows: int) -> None:
    """TrainError unless every side of every fold has rows, in range, and names are distinct."""
    if not folds or not seeds:
        raise TrainError(f"nothing to train: {len(folds)} folds, {len(seeds)} seeds")
    for what, values in (("fold name", [f.name for f in folds]), ("seed", list(seeds))):
        if len(set(values)) < len(values):
            raise TrainError(f"every {what} must be there once, found {values}")
    if min(seeds) < 0:
        raise TrainError(f"seeds must be 0 or more, found {min(seeds)}")
    for fold in folds:
        for side in ("train", "dev", "test"):
            rows: Indices = getattr(fold, side)
            if not len(rows):
                raise TrainError(f"fold {fold.name!r} has no {side} utterances")
            if rows.min() < 0 or rows.max() >= num_rows:
                raise TrainError(f"fold {fold.name!r}: {side} rows go beyond {num_rows} features")
