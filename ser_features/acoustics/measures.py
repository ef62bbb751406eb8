"""The table of measures: what each estimates, in which unit, by which method, and its limits."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ser_features.acoustics import level, reverberation
from ser_features.acoustics.snr import wada_snr
from ser_features.registry import Table, by_name

Estimator = Callable[[NDArray[np.float32], int], float]
"""Mono samples [n] and their rate in Hz -> the value, NaN where there is none."""


@dataclass(frozen=True, slots=True)
class Measure:
    """One acoustic condition. ``limits`` says when not to trust it."""

    name: str
    title: str
    unit: str
    method: str
    limits: str
    of: Estimator


_REVERBERATION = (
    "decay rates of band energies (after Wen, Habets and Naylor, ICASSP 2008) and modulation "
    "spectrum, mapped by a ridge regression fitted on EMO-DB speech in simulated rooms"
)
_ROOMS = (
    "blind, of our making; seen: shoebox rooms of T60 0.1–1.4 s at 0–50 dB SNR; tells rooms apart "
    "up to 0.9 s; a longer reverberation or an echo reads as anything in the range; speaking "
    "style moves it"
)

MEASURES: Table[Measure] = by_name(
    "measure",
    (
        Measure(
            "snr", "SNR", "dB", "WADA-SNR (Kim and Stern, Interspeech 2008)",
            "assumes Gaussian noise: music and babble count as speech in part; clean dry speech "
            "itself reads about 25 dB, so that higher ratios are not told apart",
            wada_snr,
        ),
        Measure("t60", "T60", "s", _REVERBERATION, _ROOMS, reverberation.t60),
        Measure("c50", "C50", "dB", _REVERBERATION, _ROOMS, reverberation.c50),
        Measure(
            "loudness", "loudness", "LUFS", "integrated loudness, ITU-R BS.1770-4, one channel",
            "under 0.4 s the whole recording is one block", level.loudness,
        ),
        Measure(
            "bandwidth", "bandwidth", "kHz", "highest frequency within 60 dB of the strongest, in "
            "the mean power spectrum", "wide-band noise fills a cut band up again",
            lambda samples, rate: level.bandwidth(samples, rate) / 1000,
        ),
        Measure(
            "clipping", "clipping", "%", "samples in runs of 3 or more at the recording's extremes",
            "resampling, filtering and lossy codecs hide it", level.clipping,
        ),
        Measure("length", "length", "s", "samples over rate", "none", level.length),
    ),
    lambda measure: measure.name,
)  # fmt: skip
"""Every measure, in the order of the figure."""


def measure(samples: NDArray[np.float32], rate: int) -> dict[str, float]:
    """Every measure of one recording [n] at ``rate`` Hz."""
    return {name: each.of(samples, rate) for name, each in MEASURES.items()}
