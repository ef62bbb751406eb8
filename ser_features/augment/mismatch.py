"""The seven augmentations of the domain mismatch paper, one of them an utterance."""

from collections.abc import Mapping

from ser_features.augment.butterworth import EQUALIZE
from ser_features.augment.fade import FADE
from ser_features.augment.fields import word
from ser_features.augment.kind import Context, Dice, Drawn, Kind, Samples, Scene
from ser_features.augment.pink import PINK
from ser_features.augment.reverb import REVERB
from ser_features.augment.shift import SHIFT
from ser_features.augment.sources import MISMATCH
from ser_features.augment.specmask import SPECMASK
from ser_features.augment.stretch import STRETCH
from ser_features.augment.values import Value
from ser_features.records import Json

SEVEN = {kind.name: kind for kind in (SPECMASK, STRETCH, SHIFT, FADE, EQUALIZE, PINK, REVERB)}


def draw(dice: Dice, values: Mapping[str, Value], context: Context) -> dict[str, Json]:
    """One of the seven, each as likely, and its own draw at its defaults."""
    del values
    name = list(SEVEN)[dice.index(len(SEVEN))]
    return {"one": name, **SEVEN[name].draw(dice, SEVEN[name].defaults, context)}


def apply(samples: Samples, drawn: Drawn, scene: Scene) -> Samples:
    """That one."""
    return SEVEN[drawn["one"]].apply(samples, drawn, scene)


MISMATCH_7 = Kind(
    name="mismatch-7",
    what=f"one of seven for each utterance, at its defaults: {', '.join(SEVEN)}",
    source=MISMATCH,
    parameters=(),
    fields=(word("one", *SEVEN),),
    draw=draw,
    apply=apply,
    needs=("pedalboard",),
    inner=tuple(SEVEN),
)
