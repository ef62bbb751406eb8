"""SpecAugment on the waveform: stretches of time and bands of frequency silenced."""

import math
from collections.abc import Mapping

import scipy  # scipy.signal takes half a second to load: where it is first used

from ser_features.augment.fields import listed, number, whole
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
from ser_features.augment.sources import MISMATCH, OWN
from ser_features.augment.values import Value
from ser_features.records import Json

WINDOW = 0.032


def draw(dice: Dice, values: Mapping[str, Value], context: Context) -> dict[str, Json]:
    """Stretches ``[start, count]`` in samples and bands ``[low, high]`` in Hz.

    As in SpecAugment a width is uniform from 0 to the largest, and a place uniform in what is left.
    """
    seconds, share = dice.number(values["time"]), dice.number(values["share"])
    widest = min(round(seconds * context.sample_rate), int(share * context.num_samples))
    times = [
        _stripe(dice, widest, context.num_samples) for _ in range(int(dice.number(values["times"])))
    ]
    top = _mel(context.sample_rate / 2)
    bands = [
        _band(dice, dice.number(values["band"]), top)
        for _ in range(int(dice.number(values["bands"])))
    ]
    return {"times": times, "bands": bands}


def _stripe(dice: Dice, widest: int, total: int) -> list[int]:
    count = dice.index(widest + 1)
    return [dice.index(total - count + 1), count]


def _band(dice: Dice, widest: float, top: float) -> list[float]:
    width = dice.uniform(0, widest) * top
    low = dice.uniform(0, top - width)
    return [_hertz(low), _hertz(low + width)]


def apply(samples: Samples, drawn: Drawn, scene: Scene) -> Samples:
    """Bands out of a short-time Fourier transform, then stretches out of the samples."""
    masked = _without_bands(samples, drawn["bands"], scene.sample_rate).copy()
    for start, count in drawn["times"]:
        masked[start : start + count] = 0
    return masked


def _without_bands(samples: Samples, bands: list[list[float]], rate: int) -> Samples:
    size = min(round(WINDOW * rate), len(samples))
    if size < 2 or not bands:
        return samples
    frequencies, _, spectrum = scipy.signal.stft(samples, rate, nperseg=size)  # [F], [T], [F, T]
    for low, high in bands:
        spectrum[(frequencies >= low) & (frequencies < high)] = 0
    return fit(as_samples(scipy.signal.istft(spectrum, rate, nperseg=size)[1]), len(samples))


def _mel(hertz: float) -> float:
    return 2595 * math.log10(1 + hertz / 700)


def _hertz(mel: float) -> float:
    return 700 * (10 ** (mel / 2595) - 1)


_PANNS = "PANNs' CNN14 (64 frames of 10 ms, 8 of 64 bands, 2 each)"
SPECMASK = Kind(
    name="specmask",
    what="SpecAugment's masks on the waveform: silent stretches, and mel bands taken out (STFT)",
    source=MISMATCH,
    parameters=(
        Parameter("time", "longest silent stretch", "0.64", _PANNS, "s", "s", 0, 10),
        Parameter("times", "number of stretches", "2", _PANNS, "", "", 0, 10, counts=True),
        Parameter("band", "widest band over the mel axis", "0.125", _PANNS, "share"),
        Parameter("bands", "number of bands", "2", _PANNS, "", "", 0, 10, counts=True),
        Parameter("share", "longest stretch over the recording", "0.2", OWN, "share"),
    ),
    fields=(
        listed(listed(whole("times"), 2, 2), 0, 10),
        listed(listed(number("bands", 0, 1e6), 2, 2), 0, 10),
    ),
    draw=draw,
    apply=apply,
)
