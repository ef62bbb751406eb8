"""Loudness, bandwidth, clipping and length of a recording."""

import numpy as np
from numpy.typing import NDArray
from scipy import signal

Samples = NDArray[np.float32]
CLIPPED_RUN = 3
LOWEST_RATE = 4000
_ABSOLUTE_GATE, _RELATIVE_GATE = -70.0, -10.0


def loudness(samples: Samples, rate: int) -> float:
    """Integrated loudness in LUFS of one channel [n].

    NaN where all of it is below the gate, or the rate below 4 kHz: the weighting needs its 1682 Hz.
    ITU-R BS.1770-4: K-weighting, blocks of 400 ms every 100 ms, gates at -70 LUFS and at 10 LU
    below the mean. A recording shorter than a block is one block.
    """
    if rate < LOWEST_RATE:
        return float("nan")
    weighted = signal.sosfilt(_k_weighting(rate), samples.astype(np.float64))
    size, step = min(round(0.4 * rate), len(weighted)), max(1, round(0.1 * rate))
    blocks = np.lib.stride_tricks.sliding_window_view(weighted, size)[::step]
    power = (blocks**2).mean(axis=1)
    power = power[_lufs(power) > _ABSOLUTE_GATE]
    if not len(power):
        return float("nan")
    power = power[_lufs(power) > _lufs(power.mean()) + _RELATIVE_GATE]
    return float(_lufs(power.mean()))


def _lufs(power: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(-0.691 + 10 * np.log10(power + 1e-300))


def _k_weighting(rate: int) -> NDArray[np.float64]:
    """The two filters of BS.1770, annex 1, at any rate: second-order sections [2, 6].

    The standard prints coefficients for 48 kHz only; the analogue prototypes behind them are
    those of libebur128, and a test compares the result at 48 kHz with the printed ones.
    """
    k, q = np.tan(np.pi * 1681.974450955533 / rate), 0.7071752369554196
    high = 10 ** (3.999843853973347 / 20)
    middle = high**0.4996667741545416
    bottom = 1 + k / q + k * k
    shelf = [high + middle * k / q + k * k, 2 * (k * k - high), high - middle * k / q + k * k]
    poles = [bottom, 2 * (k * k - 1), 1 - k / q + k * k]
    first = [*(np.array(shelf) / bottom), *(np.array(poles) / bottom)]
    k, q = np.tan(np.pi * 38.13547087602444 / rate), 0.5003270373238773
    bottom = 1 + k / q + k * k
    second = [1, -2, 1, 1, 2 * (k * k - 1) / bottom, (1 - k / q + k * k) / bottom]
    return np.array([first, second])


BANDWIDTH_RANGE = 60.0
"""How far below the strongest band, in dB, a band still counts."""


def bandwidth(samples: Samples, rate: int) -> float:
    """The highest frequency in Hz whose level is within 60 dB of the strongest; NaN for silence.

    From the mean power spectrum (Welch, 64 ms frames, smoothed over 100 Hz). It finds band limits
    (telephone, lossy codecs, low-pass filters); wide-band noise fills the band up again.
    """
    size = min(len(samples), 1 << round(np.log2(0.064 * rate)))
    frequencies, power = signal.welch(samples.astype(np.float64), rate, nperseg=size)
    width = max(1, round(100 / frequencies[1]))
    smooth = np.convolve(power, np.ones(width) / width, "same")
    if not smooth.max() > 0:
        return float("nan")
    there = np.flatnonzero(smooth >= smooth.max() * 10 ** (-BANDWIDTH_RANGE / 10))
    return float(frequencies[there[-1]])


def clipping(samples: Samples, rate: int = 0) -> float:
    """Percent of the samples that lie in runs of 3 or more at the recording's own extremes.

    Clipping at any level is found, also where the recording was turned down afterwards; not after
    resampling, filtering or a lossy codec, which round the flat tops.
    """
    del rate
    size = np.abs(samples)
    full = (size >= size.max(initial=0.0) * (1 - 1e-4)) & (size > 0)
    edges = np.flatnonzero(np.diff(full, prepend=False, append=False))
    lengths = edges[1::2] - edges[::2]
    return float(100 * lengths[lengths >= CLIPPED_RUN].sum() / max(1, len(samples)))


def length(samples: Samples, rate: int) -> float:
    """Seconds."""
    return len(samples) / rate
