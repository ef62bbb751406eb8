"""Kaldi's filter banks and cepstra in torch, in float32, without dither.

The same numbers as ``torchaudio.compliance.kaldi`` with its defaults (Kaldi's feature-fbank and
feature-mfcc): frames within the signal only, mean removed, pre-emphasis 0.97, Povey window.
"""

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from ser_features.upstreams.waves import on_device, valid

SAMPLE_RATE = 16_000
LENGTH, HOP = 400, 160  # 25 ms and 10 ms
_LOW_HZ, _HIGH_HZ = 20.0, 8000.0
_PREEMPHASIS, _LIFTER = 0.97, 22.0
_CPU = torch.device("cpu")


def num_frames(num_samples: int) -> int:
    """Whole frames within the signal (Kaldi's ``snip_edges``)."""
    return 0 if num_samples < LENGTH else (num_samples - LENGTH) // HOP + 1


def log_mel(wave: Tensor, num_mels: int, fft_size: int = 512) -> Tensor:
    """Log mel energies [..., T, mel] of waveforms [..., N] in -1 … 1, frame by frame."""
    frames = wave.unfold(-1, LENGTH, HOP)  # [..., T, 400]
    frames = frames - frames.mean(dim=-1, keepdim=True)
    previous = torch.cat([frames[..., :1], frames[..., :-1]], dim=-1)
    frames = (frames - _PREEMPHASIS * previous) * _window(wave.device).to(wave)
    power = torch.fft.rfft(frames, n=fft_size).abs().square()  # [..., T, F]
    energies = power @ mel_filters(num_mels, fft_size, wave.device).to(wave).T
    log: Tensor = energies.clamp(min=torch.finfo(torch.float32).eps).log()
    return log


def mfcc(wave: Tensor, num_ceps: int, num_mels: int) -> Tensor:
    """Liftered cepstra [..., T, ceps] of waveforms [..., N]; the first is the DCT's, no energy."""
    return log_mel(wave, num_mels) @ _dct(num_ceps, num_mels, wave.device).to(wave).T


def cepstra_to_log_mel(cepstra: Tensor) -> Tensor:
    """Undo ``mfcc`` where there are as many cepstra as mel energies: [T, C] -> [T, C]."""
    size = cepstra.shape[1]
    log: Tensor = torch.linalg.solve(_dct(size, size, cepstra.device).to(cepstra), cepstra.T).T
    return log


def with_deltas(x: Tensor, ends: Sequence[int]) -> Tensor:
    """[B, T, D], its slopes and the slopes of those, [B, T, 3 D]; ``ends`` are valid frames.

    A slope is over five frames, those at the edges repeated (torchaudio's ComputeDeltas).
    """
    batch, length, _ = x.shape
    last = on_device(ends, x.device)[:, None] - 1
    place = torch.arange(-2, length + 2, device=x.device).clamp(min=0).minimum(last)
    place += length * torch.arange(batch, device=x.device)[:, None]  # [B, T + 4]
    first = _slope(x.flatten(0, 1)[place])
    return torch.cat([x, first, _slope(first.flatten(0, 1)[place])], dim=2)


def _slope(padded: Tensor) -> Tensor:
    rise = (padded[:, 3:-1] - padded[:, 1:-3]) + 2 * (padded[:, 4:] - padded[:, :-4])
    return rise / 10


def normalized(x: Tensor, ends: Sequence[int]) -> Tensor:
    """Zero mean and unit variance over the valid frames of [B, T, D] (s3prl's CMVN, eps 1e-10).

    In float64, so that a constant dimension becomes 0 and not amplified rounding; one frame gives
    0, where s3prl gives NaN. Padding becomes 0.
    """
    wide, length = x.double(), x.shape[1]
    if min(ends) == length > 1:
        mean = wide.mean(dim=1, keepdim=True)
        spread = wide.std(dim=1, correction=1, keepdim=True)
        return ((wide - mean) / (spread + 1e-10)).to(x.dtype)
    padding = ~valid(ends, length, x.device)[..., None]
    counts = on_device(ends, x.device)[:, None, None]
    mean = wide.masked_fill(padding, 0.0).sum(1, keepdim=True) / counts
    centred = (wide - mean).masked_fill_(padding, 0.0)
    variance = centred.square().sum(1, keepdim=True) / (counts - 1).clamp_(min=1)
    return (centred / (variance.sqrt() + 1e-10)).to(x.dtype)


@lru_cache(maxsize=8)
def mel_filters(num_mels: int, fft_size: int, device: torch.device = _CPU) -> Tensor:
    """Triangles in the mel domain, [mel, fft_size / 2 + 1]; the Nyquist bin has no weight."""
    low, high = _mel(torch.tensor([_LOW_HZ, _HIGH_HZ], dtype=torch.float64))
    edges = torch.linspace(float(low), float(high), num_mels + 2, dtype=torch.float64)
    left, centre, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    bins = _mel(torch.arange(fft_size // 2, dtype=torch.float64) * SAMPLE_RATE / fft_size)
    rise, fall = (bins - left) / (centre - left), (right - bins) / (right - centre)
    filters = torch.minimum(rise, fall).clamp(min=0)  # [mel, F - 1]
    return F.pad(filters, (0, 1)).float().to(device)


@lru_cache(maxsize=4)
def _window(device: torch.device) -> Tensor:
    hann = torch.hann_window(LENGTH, periodic=False, dtype=torch.float64)
    return hann.pow(0.85).float().to(device)


@lru_cache(maxsize=4)
def _dct(num_ceps: int, num_mels: int, device: torch.device) -> Tensor:
    """Orthonormal DCT-II with the cepstral lifter, [ceps, mel]."""
    i = torch.arange(num_ceps, dtype=torch.float64)[:, None]
    k = torch.arange(num_mels, dtype=torch.float64)
    basis = torch.cos(math.pi / num_mels * (k + 0.5) * i) * math.sqrt(2 / num_mels)
    basis[0] = math.sqrt(1 / num_mels)
    lifter = 1 + 0.5 * _LIFTER * torch.sin(math.pi * i / _LIFTER)
    return (basis * lifter).float().to(device)


def _mel(hertz: Tensor) -> Tensor:
    return 1127.0 * torch.log1p(hertz / 700.0)
