"""Measured room responses from a folder."""

from collections.abc import Mapping

import numpy as np
import scipy  # scipy.signal takes half a second to load: where it is first used
from numpy.typing import NDArray

from ser_features.augment.fields import sha256, whole
from ser_features.augment.folder import one_channel
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
from ser_features.augment.level import active_power
from ser_features.augment.sources import OWN, USER
from ser_features.augment.values import Value
from ser_features.errors import AudioError
from ser_features.records import Json


def draw(dice: Dice, values: Mapping[str, Value], context: Context) -> dict[str, Json]:
    """A recording and one of its channels."""
    recordings = context.recordings[str(values["folder"])]
    chosen = recordings[dice.index(len(recordings))]
    return {"file": chosen.sha256, "channel": dice.index(chosen.channels)}


def apply(samples: Samples, drawn: Drawn, scene: Scene) -> Samples:
    """The recording in that room."""
    recording = scene.recording(drawn["file"])
    if drawn["channel"] >= recording.channels:
        text = f"{recording.path} has no channel {drawn['channel']}"
        raise AudioError("augmentation", f"{text}; it has {recording.channels}")
    response = one_channel(recording, drawn["channel"], scene.sample_rate)
    return in_room(samples, response, scene.sample_rate)


def in_room(samples: Samples, response: NDArray[np.floating], rate: int) -> Samples:
    """Convolved with a room response, from its direct sound on, at the same active level.

    The direct sound is the largest sample of the response, so that speech stays where it is; the
    length stays too, and the tail is cut off.
    """
    direct = int(np.abs(response).argmax())
    wet = scipy.signal.fftconvolve(samples.astype(np.float64), response)
    wet = wet[direct : direct + len(samples)]
    before, after = active_power(samples, rate), active_power(wet, rate)
    return as_samples(wet * np.sqrt(before / after) if after > 0 else wet)


RIR = Kind(
    name="rir",
    what="a measured room response from a folder; one channel, same length and active level",
    source=OWN,
    parameters=(Parameter("folder", "the room responses", "", USER, folder=True),),
    fields=(sha256("file"), whole("channel")),
    draw=draw,
    apply=apply,
)
