"""Waveforms to one padded tensor."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ser_features.errors import UpstreamError
from ser_features.records import UpstreamInfo

Waves = Sequence[NDArray[np.float32]]


def on_device(values: Sequence[int], device: torch.device) -> Tensor:
    """Integers [n] on the device. From pageable memory a GPU's copy would wait for its queue."""
    cuda = device.type == "cuda"
    return torch.tensor(values, pin_memory=cuda).to(device, non_blocking=cuda)


def valid(ends: Sequence[int], length: int, device: torch.device) -> Tensor:
    """What is no padding: bool [B, length], true before ``ends[b]``."""
    return torch.arange(length, device=device) < on_device(ends, device)[:, None]


def check_waves(waves: Waves, info: UpstreamInfo) -> tuple[int, ...]:
    """The number of samples of each; UpstreamError where one cannot give a frame."""
    if not waves:
        raise UpstreamError(f"{info.name} was given no waveform; expected at least one")
    for wave in waves:
        if wave.ndim != 1 or len(wave) < info.receptive_field:
            raise UpstreamError(
                f"{info.name} was given a waveform of shape {wave.shape}; "
                f"expected mono with at least {info.receptive_field} samples"
            )
    return tuple(len(wave) for wave in waves)


def pad_waves(waves: Waves, device: torch.device, length: int | None = None) -> Tensor:
    """Zero-padded float32 [B, N] on the device; N is ``length`` or that of the longest."""
    samples = max(len(wave) for wave in waves) if length is None else length
    cuda = device.type == "cuda"  # pinned memory: the copy waits for nothing
    padded = torch.zeros((len(waves), samples), pin_memory=cuda)
    for row, wave in zip(padded.numpy(), waves, strict=True):
        row[: len(wave)] = wave
    return padded.to(device, non_blocking=cuda)


def in_parts(
    compute: Callable[[Tensor, Sequence[int]], Tensor], x: Tensor, samples: Sequence[int]
) -> Tensor:
    """``compute`` on the waveforms [B, N] and their samples, to [B, T, D].

    On a CPU each alone: nothing padded, and bytes that no batch changes. On a GPU all at once:
    as many kernels for any number of utterances.
    """
    if x.device.type != "cpu":
        return compute(x, samples)
    parts = [compute(x[b : b + 1, :end], (end,))[0] for b, end in enumerate(samples)]
    return pad_sequence(parts, batch_first=True)


def normalize_(x: Tensor, samples: Sequence[int]) -> Tensor:
    """Zero mean and unit variance of each waveform of [B, N] in place; padding stays zero.

    As transformers' Wav2Vec2FeatureExtractor with ``do_normalize``.
    """
    if x.device.type != "cpu":
        return _normalize_padded_(x, samples)
    for row, end in zip(x, samples, strict=True):
        var, mean = torch.var_mean(row[:end], dim=0, correction=0)
        row[:end].sub_(mean).mul_(torch.rsqrt(var + 1e-7))
    return x


def _normalize_padded_(x: Tensor, samples: Sequence[int]) -> Tensor:
    """The same in a few kernels for the batch, not a few for each utterance."""
    ends = on_device(samples, x.device)[:, None]
    padding = ~valid(samples, x.shape[1], x.device)
    x.sub_(x.sum(1, keepdim=True) / ends).masked_fill_(padding, 0.0)
    return x.mul_(torch.rsqrt(x.square().sum(1, keepdim=True) / ends + 1e-7))
