"""Pitch shift: another pitch at the same speaking rate."""

from collections.abc import Mapping

from ser_features.augment.extra import need
from ser_features.augment.fields import asked
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
from ser_features.augment.sources import AUDIOMENTATIONS
from ser_features.augment.values import Value
from ser_features.records import Json


def draw(dice: Dice, values: Mapping[str, Value], context: Context) -> dict[str, Json]:
    """The shift in semitones."""
    del context
    return {"semitones": dice.number(values["semitones"])}


def apply(samples: Samples, drawn: Drawn, scene: Scene) -> Samples:
    """Rubber Band's shift; the length stays."""
    shifted = need("pedalboard").time_stretch(
        samples, scene.sample_rate, pitch_shift_in_semitones=drawn["semitones"]
    )
    return fit(as_samples(shifted[0]), len(samples))


PITCH = Kind(
    name="pitch",
    what="pitch shift at the same length, formants kept (pedalboard.time_stretch)",
    source=AUDIOMENTATIONS,
    parameters=(
        Parameter("semitones", "shift", "-4-4", AUDIOMENTATIONS, "semitones", "st", -12, 12),
    ),
    fields=(asked("semitones"),),
    draw=draw,
    apply=apply,
    needs=("pedalboard",),
)
