"""The convolutions of wav2vec2-like encoders, channels last: [B, T, C] all the way.

A convolution is a matrix product over unfolded input; on a GPU cuDNN does it in place. The
GroupNorm after the first one is folded into its weights: its statistics follow from the waveform.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ser_features.upstreams import onednn
from ser_features.upstreams.waves import on_device, valid

Folded = tuple[Tensor, Tensor]  # weights [B, C, kernel] and shifts [B, C] of each utterance
Strides = Iterable[tuple[int, int]]  # (kernel, stride) of each convolution
# Frames that a CPU computes at a time; the windows of two pieces share 80 samples.
PIECE = 128


def conv_frames(strides: Strides, num_samples: int) -> int:
    """Frames that convolutions emit; 0 where the waveform is too short for one.

    >>> conv_frames([(10, 5), (3, 2)], 20)  # 3 frames, then 1
    1
    """
    frames = num_samples
    for kernel, stride in strides:
        frames = (frames - kernel) // stride + 1
        if frames < 1:
            return 0
    return frames


def conv_field(strides: Strides) -> tuple[int, int]:
    """Receptive field and hop of convolutions in samples.

    >>> conv_field([(10, 5), (3, 2)])
    (20, 10)
    """
    field, hop = 1, 1
    for kernel, stride in strides:
        field += (kernel - 1) * hop
        hop *= stride
    return field, hop


def unfold(x: Tensor, kernel: int, stride: int) -> Tensor:
    """Windows of contiguous [B, T, C] as a view [B, T', kernel * C]."""
    batch, frames, channels = x.shape
    count = (frames - kernel) // stride + 1
    step = (frames * channels, stride * channels, 1)
    return x.as_strided((batch, count, kernel * channels), step)


class Convolution(nn.Module):
    """One convolution over [B, T, C], with the exact GELU behind it if asked."""

    def __init__(self, conv: nn.Conv1d, *, gelu: bool) -> None:
        super().__init__()
        self.kernel, self.stride, self.gelu = conv.kernel_size[0], conv.stride[0], gelu
        self.bias = conv.bias
        flat = conv.weight.transpose(1, 2).flatten(1)  # [out, kernel * C]
        self.packed = _packs(conv.weight)
        if self.packed:
            self.weight = onednn.pack(flat)
        else:
            layout = torch.channels_last
            self.weight = conv.weight[:, :, None].contiguous(memory_format=layout)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, C] to [B, T', C']."""
        if self.packed:
            windows = unfold(x, self.kernel, self.stride)
            return onednn.product(windows.contiguous(), self.weight, self.bias, gelu=self.gelu)
        image = x.transpose(1, 2)[:, :, None]  # [B, C, 1, T], channels last in memory
        y = F.conv2d(image, self.weight, self.bias, stride=(1, self.stride))
        y = y[:, :, 0].transpose(1, 2)
        return F.gelu(y) if self.gelu else y


class NormedFirst(nn.Module):
    """The first convolution, GroupNorm of one channel a group over valid frames, and GELU.

    With windows u of the waveform, a channel's mean is w·mean(u) and its variance w·cov(u)·w, so
    scale and shift of the norm go into the weights of each utterance: one pass over its output.
    """

    def __init__(self, conv: nn.Conv1d, norm: nn.GroupNorm, *, gelu: bool) -> None:
        super().__init__()
        self.kernel, self.stride, self.gelu = conv.kernel_size[0], conv.stride[0], gelu
        self.eps, self.dtype, self.packed = norm.eps, conv.weight.dtype, _packs(conv.weight)
        self.weight = conv.weight[:, 0].double()  # [C, kernel]; the norm takes a bias away
        self.scale, self.shift = norm.weight.double(), norm.bias.double()

    def fold(self, x: Tensor, samples: Sequence[int]) -> Folded:
        """The norm of each utterance of float32 [B, N] as weights and shifts, in few kernels.

        float64, because a recording may be quiet beside its offset.
        """
        u = unfold(x[..., None], self.kernel, self.stride).double()  # [B, T, kernel]
        counts = [(end - self.kernel) // self.stride + 1 for end in samples]
        share = 1 / on_device(counts, x.device).to(u.dtype)[:, None, None]
        u, mean = _centred(u, counts, share)
        covariance = u.transpose(1, 2) @ u * share  # [B, kernel, kernel]
        variance = ((self.weight @ covariance) * self.weight).sum(2)  # [B, C]
        weight = self.weight * (self.scale * torch.rsqrt(variance + self.eps))[..., None]
        shift = self.shift - (weight @ mean.transpose(1, 2))[..., 0]
        return weight.to(self.dtype), shift.to(self.dtype)

    def forward(self, x: Tensor, folded: Folded) -> Tensor:
        """Waveforms float32 [B, N] without their means to [B, T, C]."""
        u = unfold(x[..., None], self.kernel, self.stride).to(self.dtype).contiguous()
        weight, shift = folded
        if self.packed and len(u) == 1:
            return onednn.product(u, weight[0], shift[0], gelu=self.gelu)
        y = torch.baddbmm(shift[:, None], u, weight.transpose(1, 2))
        return F.gelu(y) if self.gelu else y


class ConvStack(nn.Module):
    """A model's ``feature_extractor``: waveforms float32 [B, N] to [B, T, C] in its precision.

    ``packed``: to [1, sum(T), C], the utterances' frames one after another.
    """

    def __init__(self, extractor: Any, *, packed: bool) -> None:
        super().__init__()
        layers = list(extractor.conv_layers)
        self.dtype, self.packed = layers[0].conv.weight.dtype, packed
        self.strides = [(layer.conv.kernel_size[0], layer.conv.stride[0]) for layer in layers]
        self.field, self.hop = conv_field(self.strides)
        self.first = _normed(layers[0])
        rest = layers if self.first is None else layers[1:]
        self.layers = nn.ModuleList(_layer(layer) for layer in rest)

    def forward(self, x: Tensor, samples: Sequence[int]) -> Tensor:
        """Utterance b of [B, N] has ``samples[b]`` samples; its padding gets finite values."""
        if self.packed:
            parts = [self._in_pieces(x[b : b + 1, :end]) for b, end in enumerate(samples)]
            return torch.cat(parts)[None]
        return self._run(*self._fold(x, samples))

    def _fold(self, x: Tensor, samples: Sequence[int]) -> tuple[Tensor, Folded | None]:
        """What the convolutions run on: without its mean, if a norm takes that away anyway."""
        if self.first is None:
            return x, None
        share = 1 / on_device(samples, x.device).double()[:, None]
        x = _centred(x.double(), samples, share)[0].float()
        return x, self.first.fold(x, samples)

    def _in_pieces(self, wave: Tensor) -> Tensor:
        """One utterance [1, n] to [T, C], in pieces that stay in the cache of a CPU."""
        frames = conv_frames(self.strides, wave.shape[1])
        wave, folded = self._fold(wave, wave.shape[1:])
        pieces = []
        for start in range(0, frames, PIECE):
            end = min(start + PIECE, frames)
            part = wave[:, start * self.hop : (end - 1) * self.hop + self.field]
            pieces.append(self._run(part, folded)[0])
        return torch.cat(pieces)

    def _run(self, x: Tensor, folded: Folded | None) -> Tensor:
        y = x.to(self.dtype)[..., None]
        if self.first is not None and folded is not None:
            y = self.first(x, folded)
        for layer in self.layers:
            y = layer(y)
        return y


def _centred(x: Tensor, counts: Sequence[int], share: Tensor) -> tuple[Tensor, Tensor]:
    """x [B, T, ...] without the means of its first counts[b] rows, zero behind, and the means."""
    if min(counts) == x.shape[1]:
        mean = x.sum(1, keepdim=True) * share
        return x - mean, mean
    padding = ~valid(counts, x.shape[1], x.device)
    padding = padding.view(*padding.shape, *[1] * (x.dim() - 2))
    mean = x.masked_fill(padding, 0.0).sum(1, keepdim=True) * share
    return (x - mean).masked_fill_(padding, 0.0), mean


def _normed(layer: Any) -> NormedFirst | None:
    norm = getattr(layer, "layer_norm", None)
    if not isinstance(norm, nn.GroupNorm):
        return None
    return NormedFirst(layer.conv, norm, gelu=onednn.is_gelu(layer.activation))


def _layer(layer: Any) -> nn.Module:
    """A convolution, the layer norm over channels that some models have, and the activation."""
    if hasattr(layer, "layer_norm"):
        conv = Convolution(layer.conv, gelu=False)
        return nn.Sequential(conv, layer.layer_norm, layer.activation)
    if onednn.is_gelu(layer.activation):
        return Convolution(layer.conv, gelu=True)
    return nn.Sequential(Convolution(layer.conv, gelu=False), layer.activation)


class GroupedProduct(nn.Module):
    """A positional convolution on a CPU in bfloat16 as one product a group.

    2.3 times as fast as torch's there, which with under 16 channels a group is wrong as well.
    """

    def __init__(self, conv: nn.Conv1d) -> None:
        super().__init__()
        self.groups, self.padding, self.bias = conv.groups, int(conv.padding[0]), conv.bias
        self.kernel = conv.kernel_size[0]
        shape = (self.groups, -1, *conv.weight.shape[1:])
        weight = conv.weight.view(shape)  # [G, out, in, kernel]
        self.weight = weight.permute(0, 3, 2, 1).flatten(1, 2).contiguous()

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T] to [B, C, T']."""
        padded = F.pad(x, (self.padding, self.padding))
        padded = padded.view(len(x), self.groups, -1, padded.shape[-1])
        inputs = padded.transpose(2, 3).contiguous()  # [B, G, T, C / G]
        rows = [torch.bmm(unfold(row, self.kernel, 1), self.weight) for row in inputs]
        y = torch.stack(rows).transpose(2, 3).flatten(1, 2)
        return y if self.bias is None else y + self.bias[:, None]


def _packs(weight: Tensor) -> bool:
    return weight.device.type == "cpu" and onednn.usable(weight.dtype)
