"""Train any head by its name, on a feature set, for given folds and seeds."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
import numpy.typing as npt

from ser_features.errors import UsageError
from ser_features.heads.table import HEADS
from ser_features.records import Fold, FoldScore, Json
from ser_features.store.reader import FeatureSet
from ser_features.train.recipes import LR_AUTO, SUPERB_RECIPES, SuperbConfig
from ser_features.train.stack import index_folds

Progress = Callable[[int, int], None]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Training:
    """How a head is trained: a recipe, and what was changed of it (None: as the recipe has it).

    ``normalize`` trains on the mean of layer-normed frames, as s3prl's featurizer option does.
    """

    recipe: str = "quick"
    steps: int | None = None
    lrs: tuple[float, ...] | None = None
    normalize: bool = False
    device: str = "cpu"

    def superb(self) -> SuperbConfig:
        """The recipe of the ``superb`` head with the changes applied."""
        config = SUPERB_RECIPES[self.recipe]
        if self.steps is not None:
            every = min(config.eval_every, max(1, self.steps // 20))
            config = replace(config, steps=self.steps, eval_every=every)
        if self.lrs is not None:
            config = replace(config, lrs=self.lrs)
        return config.validate()

    def describe(self, head: str) -> dict[str, Json]:
        """What enters the run's key: every number that decides the result."""
        chosen = HEADS[head]
        numbers = asdict(self.superb())
        numbers.pop("max_bytes")  # bounds memory, changes nothing
        return {"head": chosen.name, "normalize": self.normalize, **numbers}


def parse_lrs(text: str | None) -> tuple[float, ...] | None:
    """``auto`` is SUPERB's log grid; otherwise numbers by commas.

    >>> parse_lrs("1e-4,0.001")
    (0.0001, 0.001)
    """
    if text is None:
        return None
    if text == "auto":
        return LR_AUTO
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--lr {text!r}: expected numbers by commas, or auto") from None


def train_head(
    head: str,
    features: FeatureSet,
    ids: Sequence[str],
    labels: Indices,
    folds: Sequence[Fold],
    seeds: Sequence[int],
    training: Training,
    progress: Progress | None = None,
) -> list[FoldScore]:
    """Train ``head`` for every fold and seed; ``labels`` [len(ids)] are class indices.

    Raises TrainError where the features or folds cannot be trained on.
    """
    from ser_features.train.superb import train_superb

    HEADS[head]
    kind = "mean_layernorm" if training.normalize else "mean"
    outcomes = train_superb(
        features.pooled(kind, ids),
        labels,
        index_folds(folds, ids),
        seeds,
        training.superb(),
        device=training.device,
        progress=progress,
    )
    by_name: Mapping[str, Fold] = {fold.name: fold for fold in folds}
    return [outcome.to_fold_score(by_name[outcome.fold]) for outcome in outcomes]
