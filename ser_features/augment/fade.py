"""Fade in and out."""

from collections.abc import Mapping

import numpy as np

from ser_features.augment.fields import whole
from ser_features.augment.kind import Context, Dice, Drawn, Kind, Parameter, Samples, Scene
from ser_features.augment.sources import MISMATCH
from ser_features.augment.values import Value
from ser_features.errors import AudioError
from ser_features.records import Json


def draw(dice: Dice, values: Mapping[str, Value], context: Context) -> dict[str, Json]:
    """Samples that fade in and samples that fade out: together the drawn share."""
    faded = int(dice.number(values["share"]) * context.num_samples)
    begin = dice.index(faded + 1)
    return {"in": begin, "out": faded - begin}


def apply(samples: Samples, drawn: Drawn, scene: Scene) -> Samples:
    """Linear ramps at both ends."""
    del scene
    faded, begin, end = samples.copy(), drawn["in"], drawn["out"]
    if begin + end > len(samples):
        text = f"a fade of {begin} and {end} samples, of a recording of {len(samples)}"
        raise AudioError("augmentation", text)
    faded[:begin] *= np.linspace(0, 1, begin, endpoint=False, dtype=np.float32)
    if end:
        faded[-end:] *= np.linspace(0, 1, end, endpoint=False, dtype=np.float32)[::-1]
    return faded


FADE = Kind(
    name="fade",
    what="linear fade in and out, which share the drawn part of the recording",
    source=MISMATCH,
    parameters=(Parameter("share", "faded part of the recording", "0-0.1", MISMATCH, "share"),),
    fields=(whole("in"), whole("out")),
    draw=draw,
    apply=apply,
)
