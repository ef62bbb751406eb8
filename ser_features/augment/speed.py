"""Speed: the recording played faster or slower, which moves its pitch too."""

from collections.abc import Mapping

import soxr

from ser_features.audio import AudioHeader, num_samples_at
from ser_features.augment.fields import whole
from ser_features.augment.kind import (
    Context,
    Dice,
    Drawn,
    Kind,
    Parameter,
    Samples,
    Scene,
    as_samples,
)
from ser_features.augment.sources import OWN
from ser_features.augment.values import Value
from ser_features.records import Json

STEPS = 1000


def draw(dice: Dice, values: Mapping[str, Value], context: Context) -> dict[str, Json]:
    """The factor in thousandths, as the resampler takes it, and the length that it leads to."""
    thousandths = round(dice.number(values["factor"]) * STEPS)
    header = AudioHeader(thousandths, context.num_samples, 1)
    return {"thousandths": thousandths, "num_samples": num_samples_at(header, STEPS)}


def apply(samples: Samples, drawn: Drawn, scene: Scene) -> Samples:
    """Resampled (soxr HQ)."""
    del scene
    return as_samples(soxr.resample(samples, drawn["thousandths"], STEPS, quality="HQ"))


SPEED = Kind(
    name="speed",
    what="speed by resampling: pitch and length change together (soxr HQ)",
    source=OWN,
    parameters=(
        Parameter("factor", "speed, faster above 1", "0.9/1.1", OWN, "times", "x", 0.5, 2),
    ),
    fields=(whole("thousandths", STEPS // 2, 2 * STEPS), whole("num_samples")),
    draw=draw,
    apply=apply,
)
