"""Time stretch: another speaking rate at the same pitch."""

from collections.abc import Mapping

from ser_features.augment.extra import need
from ser_features.augment.fields import asked, whole
from ser_features.augment.kind import (
    Context,
    Dice,
    Drawn,
    Kind,
    Parameter,
    Samples,
    Scene,
    as_samples,
    fit,
)
from ser_features.augment.sources import MISMATCH
from ser_features.augment.values import Value
from ser_features.records import Json


def draw(dice: Dice, values: Mapping[str, Value], context: Context) -> dict[str, Json]:
    """The rate, and the length that it leads to."""
    rate = dice.number(values["rate"])
    return {"rate": rate, "num_samples": max(1, round(context.num_samples / rate))}


def apply(samples: Samples, drawn: Drawn, scene: Scene) -> Samples:
    """Rubber Band's stretch, cut or padded by the sample that rounding may miss."""
    stretched = need("pedalboard").time_stretch(
        samples, scene.sample_rate, stretch_factor=drawn["rate"]
    )
    return fit(as_samples(stretched[0]), drawn["num_samples"])


STRETCH = Kind(
    name="stretch",
    what="time stretch at the same pitch (pedalboard.time_stretch)",
    source=MISMATCH,
    parameters=(
        Parameter(
            "rate", "speaking rate, faster above 1", "0.9-1.2", MISMATCH, "times", "x", 0.5, 2
        ),
    ),
    fields=(asked("rate"), whole("num_samples", 1)),
    draw=draw,
    apply=apply,
    needs=("pedalboard",),
)
