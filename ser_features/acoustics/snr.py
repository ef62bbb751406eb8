"""WADA-SNR: the signal-to-noise ratio of speech from the distribution of its amplitudes."""

from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

Samples = NDArray[np.float32]
SHAPE = 0.4
"""Shape of the gamma distribution that speech amplitudes follow (Kim and Stern, section 3)."""
LOWEST, HIGHEST = -20, 60


def wada_snr(samples: Samples, rate: int = 0) -> float:
    """SNR in dB, clipped to -20 … 60; NaN for silence. ``samples`` [n], any rate.

    Kim and Stern, "Robust signal-to-noise ratio estimation based on waveform amplitude
    distribution analysis", Interspeech 2008: clean speech has gamma-distributed amplitudes, noise
    is Gaussian, so one statistic of the mixture tells the ratio. Non-Gaussian noise (music,
    babble) is heard as speech in part; a few seconds are needed. Samples of exactly 0 (masks, cuts,
    gates) are left out: they are neither speech nor noise.
    """
    del rate
    heard = samples[samples != 0].astype(np.float64)  # before the mean, which would move them off 0
    amplitude = np.abs(heard - (heard.mean() if len(heard) else 0.0))
    amplitude = amplitude[amplitude > 0]
    if not len(amplitude):
        return float("nan")
    statistic = float(np.log(amplitude.mean()) - np.log(amplitude).mean())
    decibels, expected = _table()
    return float(np.interp(statistic, expected, decibels))


@cache
def _table() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """SNR in dB and the statistic's expectation, which rises with it."""
    decibels = np.arange(LOWEST, HIGHEST + 1.0)
    values = [_expected(10 ** (-snr / 20)) for snr in decibels]
    return decibels, np.maximum.accumulate(values)


def _expected(noise: float) -> float:
    """log E|z| - E log|z| of z = gamma speech of unit power + Gaussian noise of this deviation.

    Given a speech amplitude s, E|s + n| is the mean of a folded normal, and E log|s + n| is that
    of a non-central chi-square with one degree of freedom; both are averaged over s.
    """
    speech = stats.gamma(SHAPE, scale=1 / np.sqrt(SHAPE * (SHAPE + 1)))
    # substituting quantiles squeezes the singular density at 0 into an even grid
    share = (np.arange(4000) + 0.5) / 4000
    amplitudes = speech.ppf(share)
    ratio = amplitudes / noise
    mean = noise * np.sqrt(2 / np.pi) * np.exp(-(ratio**2) / 2)
    mean += amplitudes * special.erf(ratio / np.sqrt(2))
    logs = np.log(noise) + np.interp(ratio, *_log_normal())
    far = ratio > _FAR
    logs[far] = np.log(amplitudes[far]) - 1 / (2 * ratio[far] ** 2)
    return float(np.log(mean.mean()) - logs.mean())


_FAR = 30.0


@cache
def _log_normal() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """E log|r + n| of standard normal n, on a grid of r in 0 … 30.

    (r + n)² is a mixture of chi-squares with 1 + 2j degrees of freedom, j Poisson of mean r² / 2.
    """
    grid = np.concatenate([np.linspace(0, 6, 121), np.linspace(6.25, _FAR, 96)])
    j = np.arange(int(_FAR**2))
    weights = stats.poisson.pmf(j, grid[:, None] ** 2 / 2)
    return grid, (np.log(2) + weights @ special.digamma(j + 0.5)) / 2
