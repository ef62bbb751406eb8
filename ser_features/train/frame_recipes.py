"""Recipes of the heads on frames and of the scikit-learn heads. Data only, no torch."""

import math
from dataclasses import dataclass

from ser_features.errors import TrainError
from ser_features.registry import Table
from ser_features.train.recipes import SELECT_METRICS, check_lrs

FRAME_HEADS = ("mlp", "attentive", "statistics")
GIB = 2**30


@dataclass(frozen=True, slots=True)
class FrameConfig:
    """How a head on frames is trained: AdamW (betas 0.9 and 0.999, eps 1e-8) on minibatches.

    Every run shuffles its training side anew each epoch; its last minibatch may be short. ``lrs``
    are all trained, dev chooses. ``schedule`` is ``constant``, or ``emobox`` (see
    ``rate_factor``). ``normalize`` gives each layer of each utterance zero mean and unit variance
    over all its values. Dev is scored by ``select_metric`` after every epoch; ``select`` keeps the
    first best epoch (``dev``) or the ``last`` one.

    ``window_bytes`` of frames as stored are shuffled at once: part of the recipe, because a corpus
    above it is shuffled window by window. ``memory_bytes`` decides only whether frames stay in
    memory or are read again every epoch (two windows at most); results do not depend on it.
    ``readers`` threads decode.
    """

    head: str = "mlp"
    layers: str | int = "last"
    hidden: int = 128
    epochs: int = 50
    batch: int = 128
    lrs: tuple[float, ...] = (1e-3,)
    weight_decay: float = 2e-3
    schedule: str = "constant"
    normalize: bool = False
    select: str = "dev"
    select_metric: str = "wa"
    window_bytes: int = 2 * GIB
    memory_bytes: int = 6 * GIB
    readers: int = 2

    def validate(self) -> "FrameConfig":
        """This config; TrainError where a value makes no sense."""
        for name in ("hidden", "epochs", "batch", "window_bytes", "memory_bytes", "readers"):
            if not getattr(self, name) > 0:
                raise TrainError(f"{name} must be above 0, found {getattr(self, name)}")
        if not 0 <= self.weight_decay < math.inf:
            raise TrainError(f"weight_decay must be 0 or more, found {self.weight_decay}")
        check_lrs(self.lrs)
        _one_of("head", self.head, FRAME_HEADS)
        _one_of("schedule", self.schedule, ("constant", "emobox"))
        _one_of("select", self.select, ("dev", "last"))
        _one_of("select_metric", self.select_metric, SELECT_METRICS)
        return self


@dataclass(frozen=True, slots=True)
class LinearConfig:
    """Logistic regression: C is chosen from ``grid`` on dev by ``select_metric``, first best.

    ``layers`` of several are joined for the ``linear`` head; the ``layers`` head takes each by
    itself. ``kind`` is the pooled array: mean, std or mean_layernorm.
    """

    layers: str | int = "last"
    kind: str = "mean"
    grid: tuple[float, ...] = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
    max_iter: int = 1000
    select_metric: str = "wa"

    def validate(self) -> "LinearConfig":
        """This config; TrainError where a value makes no sense."""
        if not self.grid or not min(self.grid) > 0 or list(self.grid) != sorted(set(self.grid)):
            raise TrainError(f"grid must rise from above 0, at least one C, found {self.grid}")
        if self.max_iter < 1:
            raise TrainError(f"max_iter must be above 0, found {self.max_iter}")
        _one_of("select_metric", self.select_metric, SELECT_METRICS)
        return self


def _one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise TrainError(f"{name} must be one of {', '.join(known)}, found {value!r}")


def rate_factor(schedule: str, epoch: int, epochs: int) -> float:
    """What the learning rate is multiplied with in ``epoch`` (from 1).

    ``emobox`` is what its script does (examples/sb/train.py and hparams at bb22000 with
    speechbrain's LinearWarmupScheduler, ten warm-up steps, stepped after each validation): the
    full rate in the first epoch, zero in the second, then up over ten epochs and down to nearly
    zero.

    >>> [rate_factor("emobox", epoch, 100) for epoch in (1, 2, 3, 12, 57)]
    [1.0, 0.0, 0.1, 1.0, 0.5]
    """
    if schedule == "constant" or epoch == 1:
        return 1.0
    step = epoch - 2
    if step < 10:
        return step / 10
    return max(0.0, (epochs - step) / max(1, epochs - 10))


FRAME_RECIPES = Table(
    "recipe",
    (
        ("data2vec-ser", FrameConfig()),
        (
            "emobox",
            FrameConfig(
                epochs=100,
                batch=32,
                lrs=(1e-4,),
                weight_decay=0.0,
                schedule="emobox",
                normalize=True,
            ),
        ),
    ),
)
"""``data2vec-ser``: paper 1, section 2.2. ``emobox``: the command in the README of emo-box/EmoBox
(10cc3d1) and the scripts that it calls (bb22000). Those test every epoch; here dev chooses one."""
