"""Training recipes: every number a head is trained with. Data only, no torch."""

import math
from dataclasses import dataclass

from ser_features.errors import TrainError
from ser_features.registry import Table

LR_AUTO = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7)
"""SUPERB's learning-rate grid (``--lr auto``)."""

SELECT_METRICS = ("wa", "uar", "weighted_f1")


def check_lrs(lrs: tuple[float, ...]) -> None:
    """TrainError unless learning rates are distinct, finite and above 0, at least one."""
    if not lrs or len(set(lrs)) < len(lrs) or not all(0 < lr < math.inf for lr in lrs):
        found = ", ".join(map(str, lrs)) or "none"
        raise TrainError(f"lrs must be distinct and above 0, at least one (--lr), found {found}")


@dataclass(frozen=True, slots=True)
class SuperbConfig:
    """How the ``superb`` head is trained: Adam (betas 0.9 and 0.999, eps 1e-8), constant rate.

    An update averages ``batch // micro_batch`` consecutive micro-batches of a data loader that
    shuffles every epoch anew, keeps its short last batch, and runs on across epochs, as s3prl
    does. Every pair of ``lrs`` and ``weight_decays`` (L2, added to the clipped gradient) is
    trained, dev chooses. Dev is scored by ``select_metric`` every ``eval_every`` updates and after
    the last; ``select`` keeps the first best checkpoint (``dev``) or the ``last``. ``clip`` bounds
    the gradient norm of each run. ``max_bytes`` bounds the memory of runs that train together.
    """

    steps: int = 30_000
    batch: int = 32
    micro_batch: int = 4
    lrs: tuple[float, ...] = (1e-4,)
    weight_decays: tuple[float, ...] = (0.0,)
    eval_every: int = 1_000
    clip: float = 1.0
    select_metric: str = "wa"
    select: str = "dev"
    hidden: int = 256
    max_bytes: int = 4 * 2**30

    def validate(self) -> "SuperbConfig":
        """This config; TrainError where a number makes no sense."""
        positive = ("steps", "batch", "micro_batch", "eval_every", "clip", "hidden", "max_bytes")
        for name in positive:
            if not getattr(self, name) > 0:
                raise TrainError(f"{name} must be above 0, found {getattr(self, name)}")
        if self.batch % self.micro_batch:
            raise TrainError(
                f"batch {self.batch} is not a multiple of micro_batch {self.micro_batch}"
            )
        check_lrs(self.lrs)
        decays = self.weight_decays
        in_range = all(0 <= decay < math.inf for decay in decays)
        if not decays or len(set(decays)) < len(decays) or not in_range:
            raise TrainError(f"weight decays must be distinct, 0 or more, at least one: {decays}")
        if self.select not in ("dev", "last"):
            raise TrainError(f"select must be dev or last, found {self.select!r}")
        if self.select_metric not in SELECT_METRICS:
            raise TrainError(
                f"select_metric must be one of {', '.join(SELECT_METRICS)}, "
                f"found {self.select_metric!r}"
            )
        return self


SUPERB_RECIPES = Table(
    "recipe",
    (
        ("quick", SuperbConfig(steps=1_000, lrs=(1e-4, 1e-3, 1e-2), eval_every=100)),
        ("superb", SuperbConfig()),
    ),
)
"""Recipes of the ``superb`` head: ``superb`` is s3prl's own, ``quick`` the default.

``quick`` was set for cost, on the Whisper features of EMO-DB (339 utterances, leave one speaker
out, 2 seeds): UAR over all test utterances with 1 000 and with 2 000 updates was 0.946 and 0.938
(whisper-base), 0.918 and 0.910 (whisper-tiny.en); seeds differ by 0.006 to 0.023. That looked at
test sides of one corpus: use ``superb`` for numbers to compare with SUPERB.
"""
