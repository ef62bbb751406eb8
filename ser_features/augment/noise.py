"""Noise and music from any folder of recordings, mixed at a signal-to-noise ratio."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ser_features.augment.fields import asked, sha256, whole
from ser_features.augment.folder import mono
from ser_features.augment.kind import Context, Dice, Drawn, Kind, Parameter, Samples, Scene
from ser_features.augment.level import mix, power
from ser_features.augment.sources import COPYPASTE, USER
from ser_features.augment.values import Value
from ser_features.errors import AudioError
from ser_features.records import Json

PAPER = f"{COPYPASTE}, 3.2.3"
# A crop this much below its recording is a pause in it, and would be blown up to the asked level.
PAUSE_DB = 40.0


def draw(dice: Dice, values: Mapping[str, Value], context: Context) -> dict[str, Json]:
    """A recording, the sample at the upstream's rate where it starts, and the SNR in dB."""
    snr = dice.number(values["snr"])
    recordings = context.recordings[str(values["folder"])]
    chosen = recordings[dice.index(len(recordings))]
    length = chosen.length_at(context.sample_rate)
    free = length - context.num_samples + 1 if length >= context.num_samples else length
    return {"file": chosen.sha256, "start": dice.index(max(free, 1)), "snr": snr}


def apply(samples: Samples, drawn: Drawn, scene: Scene) -> Samples:
    """Add the stretch of noise; a short recording is looped, a pause in it is passed over."""
    recording = mono(scene.recording(drawn["file"]), scene.sample_rate)
    noise = stretch_of(recording, drawn["start"], len(samples))
    return mix(samples, noise, drawn["snr"], scene.sample_rate)


def stretch_of(noise: NDArray[np.float32], start: int, count: int) -> NDArray[np.float32]:
    """``count`` samples from ``start`` on, going round; the next such stretch while it is a pause.

    AudioError where the whole recording is silent.
    """
    floor = power(noise) * 10 ** (-PAUSE_DB / 10)
    for first in range(start, start + len(noise) + count, count):
        places = np.arange(first, first + count) % len(noise)
        found: NDArray[np.float32] = noise[places]
        if power(found) > floor:
            return found
    raise AudioError("augmentation", "the noise is silent, so no SNR can be set")


def _kind(name: str, what: str) -> Kind:
    return Kind(
        name=name,
        what=f"{what} from a folder of recordings at an SNR; short ones are looped, long ones cut",
        source=PAPER,
        parameters=(
            Parameter(
                "snr", "active speech level over the noise's", "10/5/0", PAPER,
                "dB", "db", -30, 100, shown=True,
            ),
            Parameter("folder", f"the recordings of {name}", "", USER, folder=True),
        ),
        fields=(sha256("file"), whole("start"), asked("snr")),
        draw=draw,
        apply=apply,
    )  # fmt: skip


NOISE = _kind("noise", "noise")
MUSIC = _kind("music", "music")
