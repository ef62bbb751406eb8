"""Blind reverberation time and clarity, from how fast speech decays and how it is modulated."""

import itertools
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np
import soxr
from numpy.typing import NDArray
from scipy import signal

Samples = NDArray[np.float32]
Floats = NDArray[np.float64]

RATE = 16000
FRAME, HOP = 512, 128
MODEL = Path(__file__).with_name("reverberation.json")
T60_RANGE = (0.1, 1.5)
"""Seconds. The fit saw 0.1 to 1.4 s: a longer reverberation reads as anything in between."""
C50_RANGE = (-5.0, 40.0)
_EDGES = np.geomspace(150, 7500, 13)
_GROUPS = (slice(0, 4), slice(4, 8), slice(8, 12))
_SLOPE_FRAMES = (8, 16)
_MODULATION = ((1, 4), (4, 8), (8, 16), (16, 30))
_FLOOR = 1e-9


def t60(samples: Samples, rate: int) -> float:
    """Reverberation time in seconds, the time of a decay by 60 dB; NaN for under half a second.

    An estimator of ours: the decay rates of band energies (as in Wen, Habets and Naylor, "Blind
    estimation of reverberation time based on the distribution of signal decay rates", ICASSP
    2008) and the modulation spectrum, mapped to log T60 by a regression that was fitted on
    speech in simulated rooms (``benchmarks/fit_reverberation.py``, which also says how
    well it does).
    """
    found = _predict(samples, rate, "t60")
    return float(np.exp(np.clip(found, *np.log(T60_RANGE))))


def c50(samples: Samples, rate: int) -> float:
    """Clarity in dB, the energy of the first 50 ms against the rest; NaN for under half a second.

    The same features and the same fit as ``t60``.
    """
    return float(np.clip(_predict(samples, rate, "c50"), *C50_RANGE))


def _predict(samples: Samples, rate: int, name: str) -> float:
    if len(samples) < rate / 2 or not np.any(samples):
        return float("nan")
    model, found = read_model(), expand(features(samples, rate))
    return float(((found - model["mean"]) / model["scale"]) @ model[name] + model[f"{name}_mean"])


@cache
def read_model() -> Mapping[str, Floats]:
    """The fitted numbers: ``mean`` and ``scale`` of the features, weights ``t60`` and ``c50``."""
    text = json.loads(MODEL.read_text(encoding="utf-8"))
    return {name: np.array(value) for name, value in text.items() if name != "fit"}


def expand(found: Floats) -> Floats:
    """Features [..., F] and their squares: what the regression sees."""
    return np.concatenate([found, found**2], axis=-1)


def features(samples: Samples, rate: int) -> Floats:
    """What reverberation changes, [F]; independent of level."""
    if rate != RATE:
        samples = soxr.resample(samples, rate, RATE)
    decibels = _band_levels(samples.astype(np.float64))  # [band, T]
    parts = [f for frames in _SLOPE_FRAMES for f in _decays(decibels, frames)]
    return np.array([*parts, *_modulation(decibels), *_spread(decibels)])


def _band_levels(samples: Floats) -> Floats:
    """Level in dB of 12 bands, [band, T], 8 ms apart; at most 70 dB below the loudest."""
    _, _, spectrum = signal.stft(samples, RATE, nperseg=FRAME, noverlap=FRAME - HOP, padded=False)
    power = np.abs(spectrum) ** 2
    bins = np.fft.rfftfreq(FRAME, 1 / RATE)
    pairs = itertools.pairwise(_EDGES)
    bands = np.array([power[(bins >= low) & (bins < high)].sum(axis=0) for low, high in pairs])
    top = bands.max()
    return np.asarray(10 * np.log10(np.maximum(bands, top * 1e-7) / top))


def _decays(decibels: Floats, frames: int) -> list[float]:
    """For each group of bands: quantiles of the falling slopes (dB a frame) while sound is on."""
    time = np.arange(frames) - (frames - 1) / 2
    windows = np.lib.stride_tricks.sliding_window_view(decibels, frames, axis=1)
    slopes = windows @ time / (time @ time)  # [band, T']
    start = windows[..., 0]
    found = []
    for group in _GROUPS:
        level = np.quantile(decibels[group], 0.6)
        falling = slopes[group][(slopes[group] < -0.02) & (start[group] > level)]
        if len(falling) < 4:
            falling = np.array([-1.0])
        rates = np.log(-np.quantile(falling, (0.1, 0.3, 0.5)))
        found += [*rates.tolist(), float(np.log(falling.std() + 0.01))]
    return found


def _modulation(decibels: Floats) -> list[float]:
    """For each group of bands: how the energy's modulation is shared out over rates (log)."""
    envelope = 10 ** (decibels / 20)
    envelope = envelope - envelope.mean(axis=1, keepdims=True)
    rate = RATE / HOP
    size = min(envelope.shape[1], 128)
    rates, power = signal.welch(envelope, rate, nperseg=size)  # [band, rate]
    found = []
    for group in _GROUPS:
        shares = [
            power[group][:, (rates >= low) & (rates < high)].sum() + _FLOOR
            for low, high in _MODULATION
        ]
        found += list(np.log(np.array(shares[1:]) / shares[0]))
    return found


def _spread(decibels: Floats) -> list[float]:
    """For each group of bands: how far the quiet and the median level lie below the loud one."""
    found = []
    for group in _GROUPS:
        quiet, middle, loud = np.quantile(decibels[group], (0.1, 0.5, 0.95))
        found += [(loud - quiet) / 20, (loud - middle) / 20]
    return found
