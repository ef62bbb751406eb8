"""Pink noise: power falls by 3 dB an octave."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ser_features.augment.fields import asked, whole
from ser_features.augment.kind import (
    Context,
    Dice,
    Drawn,
    Kind,
    Parameter,
    Samples,
    Scene,
    noise_stream,
)
from ser_features.augment.level import mix
from ser_features.augment.sources import AUDIOMENTATIONS, MISMATCH
from ser_features.augment.values import Value
from ser_features.records import Json

LOWEST = 20.0


def draw(dice: Dice, values: Mapping[str, Value], context: Context) -> dict[str, Json]:
    """The SNR in dB and the seed of the noise."""
    del context
    return {"snr": dice.number(values["snr"]), "seed": dice.seed()}


def apply(samples: Samples, drawn: Drawn, scene: Scene) -> Samples:
    """Add noise made from the seed."""
    noise = pink(len(samples), drawn["seed"], scene.sample_rate)
    return mix(samples, noise, drawn["snr"], scene.sample_rate)


def pink(count: int, seed: int, rate: int) -> NDArray[np.float64]:
    """White Gaussian noise [count] whose spectrum is divided by the root of the frequency.

    Below 20 Hz, where nobody hears it, it stays flat.
    """
    white = noise_stream(seed).standard_normal(count)
    frequencies = np.fft.rfftfreq(count, 1 / rate)
    spectrum = np.fft.rfft(white) / np.sqrt(np.maximum(frequencies, LOWEST))
    return np.fft.irfft(spectrum, count)


PINK = Kind(
    name="pink",
    what="pink noise at an SNR",
    source=MISMATCH,
    parameters=(
        Parameter(
            "snr", "active speech level over the noise's", "5-40",
            f"{AUDIOMENTATIONS} (the paper gives none)", "dB", "db", -30, 100, shown=True,
        ),
    ),
    fields=(asked("snr"), whole("seed", high=2**31 - 1)),
    draw=draw,
    apply=apply,
)  # fmt: skip
