"""From layer outputs to what the store keeps: pooled statistics and, if asked, every frame."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from ser_features.upstreams.waves import on_device, valid


@dataclass(frozen=True, slots=True)
class Pooled:
    """Statistics over an utterance's own frames, each float32 [utterance, layer, dim]."""

    mean: NDArray[np.float32]
    std: NDArray[np.float32]
    mean_layernorm: NDArray[np.float32]


def pool(hidden: Tensor, num_frames: Sequence[int]) -> Pooled:
    """Mean, population standard deviation and mean of layer-normed frames of hidden [L, B, T, D].

    Only the first ``num_frames[b]`` frames of each utterance count; whatever lies behind them,
    NaN included, does not. Layer norm has no affine parameters and eps 1e-5, as s3prl's
    ``Featurizer(normalize=True)``.
    """
    mean, std, normed = (part.cpu().numpy() for part in pool_on_device(hidden, num_frames))
    return Pooled(mean, std, normed)


def pool_on_device(hidden: Tensor, num_frames: Sequence[int]) -> tuple[Tensor, ...]:
    """``pool`` as float32 tensors [B, L, D] on the device of ``hidden``; waits for nothing."""
    return (_pool_each if hidden.device.type == "cpu" else _pool_padded)(hidden, num_frames)


def _pool_each(hidden: Tensor, num_frames: Sequence[int]) -> tuple[Tensor, ...]:
    """Three tensors [B, L, D], utterance by utterance: each stays in a CPU's cache."""
    rows = []
    for b, end in enumerate(num_frames):
        frames = hidden[:, b, :end].float().contiguous()  # [L, T, D]
        normed = F.layer_norm(frames, frames.shape[-1:]).mean(1)
        mean = frames.mean(1)
        std = (frames - mean[:, None]).square_().mean(1).sqrt_()
        rows.append((mean, std, normed))
    return tuple(torch.stack(parts) for parts in zip(*rows, strict=True))


def _pool_padded(hidden: Tensor, num_frames: Sequence[int]) -> tuple[Tensor, ...]:
    """Three tensors [B, L, D], layer by layer over the padded batch: few launches on a GPU."""
    counts = on_device(num_frames, hidden.device)
    mask = valid(num_frames, hidden.shape[2], hidden.device)[..., None]
    layers = [_pool_layer(layer.float(), mask, counts[:, None]) for layer in hidden]
    return tuple(torch.stack(parts, 1) for parts in zip(*layers, strict=True))


def _pool_layer(layer: Tensor, mask: Tensor, counts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    frames = layer.masked_fill(~mask, 0.0)  # [B, T, D]
    mean = frames.sum(1) / counts  # [B, D]
    centred = (frames - mean[:, None]).masked_fill_(~mask, 0.0)
    std = (centred.square_().sum(1) / counts).sqrt()
    normed = F.layer_norm(frames, frames.shape[-1:]).masked_fill_(~mask, 0.0)
    return mean, std, normed.sum(1) / counts


def ragged_frames(hidden: Tensor, num_frames: Sequence[int]) -> NDArray[np.float32]:
    """The utterances' own frames one after another: hidden [L, B, T, D] → [sum(frames), L, D]."""
    joined: NDArray[np.float32] = ragged_on_device(hidden, num_frames).float().cpu().numpy()
    return joined


def ragged_on_device(hidden: Tensor, num_frames: Sequence[int]) -> Tensor:
    """``ragged_frames`` as a tensor in the precision and on the device of ``hidden``."""
    return torch.cat([hidden[:, b, :n].transpose(0, 1) for b, n in enumerate(num_frames)])
