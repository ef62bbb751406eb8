"""Shift in time: what leaves at one end comes back at the other."""

from collections.abc import Mapping

import numpy as np

from ser_features.augment.fields import MOST_SAMPLES, whole
from ser_features.augment.kind import Context, Dice, Drawn, Kind, Parameter, Samples, Scene
from ser_features.augment.sources import AUDIOMENTATIONS, MISMATCH
from ser_features.augment.values import Value
from ser_features.records import Json


def draw(dice: Dice, values: Mapping[str, Value], context: Context) -> dict[str, Json]:
    """The samples by which everything moves, later if positive."""
    return {"samples": round(dice.number(values["share"]) * context.num_samples)}


def apply(samples: Samples, drawn: Drawn, scene: Scene) -> Samples:
    """The same samples, rolled."""
    del scene
    return np.roll(samples, drawn["samples"])


SHIFT = Kind(
    name="shift",
    what="time shift; what leaves at one end comes back at the other",
    source=MISMATCH,
    parameters=(
        Parameter(
            "share", "shift over length; later if positive", "-0.5-0.5", AUDIOMENTATIONS,
            "share", "", -1, 1,
        ),
    ),
    fields=(whole("samples", -MOST_SAMPLES),),
    draw=draw,
    apply=apply,
)  # fmt: skip
