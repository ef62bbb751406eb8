"""Louder or softer as a whole."""

from collections.abc import Mapping

import numpy as np

from ser_features.augment.fields import asked
from ser_features.augment.kind import Context, Dice, Drawn, Kind, Parameter, Samples, Scene
from ser_features.augment.sources import AUDIOMENTATIONS
from ser_features.augment.values import Value
from ser_features.records import Json


def draw(dice: Dice, values: Mapping[str, Value], context: Context) -> dict[str, Json]:
    """The gain in dB."""
    del context
    return {"level": dice.number(values["level"])}


def apply(samples: Samples, drawn: Drawn, scene: Scene) -> Samples:
    """All samples times one factor; nothing is clipped."""
    del scene
    return samples * np.float32(10 ** (drawn["level"] / 20))


GAIN = Kind(
    name="gain",
    what="one gain for the whole recording; nothing is clipped",
    source=AUDIOMENTATIONS,
    parameters=(Parameter("level", "gain", "-12-12", AUDIOMENTATIONS, "dB", "db", -60, 60),),
    fields=(asked("level"),),
    draw=draw,
    apply=apply,
)
