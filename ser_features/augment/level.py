"""Levels of speech and noise, and mixing at a signal-to-noise ratio."""

import numpy as np
from numpy.typing import NDArray

from ser_features.errors import AudioError

FRAME_SECONDS = 0.02
MARGIN_DB = 15.9
"""The margin between active level and threshold, as in ITU-T P.56."""


def active_power(samples: NDArray[np.floating], rate: int) -> float:
    """Mean square of the active speech of samples [n] at ``rate`` Hz.

    Frames of 20 ms count as active while their power is within 15.9 dB of the mean power of the
    active frames; the set is found by leaving out quiet frames until none is left to leave out. So
    silence before, after and between words does not lower the level. (ITU-T P.56 finds the same
    fixed point on an envelope of single samples.)
    """
    size = max(1, round(FRAME_SECONDS * rate))
    whole = len(samples) // size * size or len(samples)
    squares = np.square(samples[:whole], dtype=np.float64)
    powers = squares.reshape(-1, min(size, whole)).mean(axis=1)
    share = 10 ** (-MARGIN_DB / 10)
    while True:
        mean = float(powers.mean())
        kept = powers[powers > mean * share]
        if len(kept) in (0, len(powers)):
            return mean
        powers = kept


def power(samples: NDArray[np.floating]) -> float:
    """Mean square of samples [n]."""
    return float(np.square(samples, dtype=np.float64).mean())


def mix(
    speech: NDArray[np.float32], noise: NDArray[np.floating], snr_db: float, rate: int
) -> NDArray[np.float32]:
    """Speech plus noise [n] each, the noise scaled to ``snr_db`` below the active speech level.

    The level of the noise is that of all its samples. Nothing is clipped or scaled down: the
    speech keeps its level. Raises AudioError where either is silent.
    """
    wanted, found = active_power(speech, rate) / 10 ** (snr_db / 10), power(noise)
    if not (wanted > 0 and found > 0):
        which = "noise" if wanted > 0 else "recording"
        raise AudioError("augmentation", f"the {which} is silent, so no SNR can be set")
    gain = np.sqrt(wanted / found)
    mixed: NDArray[np.float64] = speech + gain * noise.astype(np.float64)
    return mixed.astype(np.float32)
