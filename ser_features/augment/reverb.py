"""Artificial reverberation (Freeverb, as pedalboard has it)."""

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
)
from ser_features.augment.sources import MISMATCH
from ser_features.augment.values import Value
from ser_features.records import Json


def draw(dice: Dice, values: Mapping[str, Value], context: Context) -> dict[str, Json]:
    """Room size and the wet and dry levels, all shares of 1."""
    del context
    return {name: dice.number(values[name]) for name in ("room", "wet", "dry")}


def apply(samples: Samples, drawn: Drawn, scene: Scene) -> Samples:
    """The recording in that room, cut to its length."""
    reverb = need("pedalboard").Reverb(
        room_size=drawn["room"], wet_level=drawn["wet"], dry_level=drawn["dry"]
    )
    return as_samples(reverb(samples, scene.sample_rate))


REVERB = Kind(
    name="reverb",
    what="artificial reverberation (pedalboard.Reverb, damping 0.5); the tail is cut off",
    source=MISMATCH,
    parameters=(
        Parameter("room", "room size factor", "0-0.2", MISMATCH, "share"),
        Parameter("wet", "level of the reverberation", "0-0.5", MISMATCH, "share"),
        Parameter("dry", "level of the recording", "0.4", MISMATCH, "share"),
    ),
    fields=(asked("room"), asked("wet"), asked("dry")),
    draw=draw,
    apply=apply,
    needs=("pedalboard",),
)
