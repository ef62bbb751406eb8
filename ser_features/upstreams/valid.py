"""Norms over the valid frames of a padded batch."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ser_features.upstreams.waves import on_device


class ValidGroups(nn.Module):
    """GroupNorm in float32 whose statistics are those of each utterance's valid frames.

    wav2vec's ``Fp32GroupNorm``; the library's own would see the padding.
    """

    def __init__(self, groups: int, channels: int, *, affine: bool = True) -> None:
        super().__init__()
        self.groups, self.eps = groups, 1e-5
        self.weight = nn.Parameter(torch.ones(channels)) if affine else None
        self.bias = nn.Parameter(torch.zeros(channels)) if affine else None

    def forward(self, x: Tensor, ends: Sequence[int]) -> Tensor:
        """Normalise [B, C, T]; frames from ``ends[b]`` on become arbitrary finite values."""
        return (self.each if x.device.type == "cpu" else self.padded)(x, ends)

    def each(self, x: Tensor, ends: Sequence[int]) -> Tensor:
        """``forward`` utterance by utterance, which reads no padding."""
        rows = x.view(len(x), self.groups, -1, x.shape[-1])  # [B, G, C / G, T]
        stats = [
            torch.var_mean(row[..., :end].float(), dim=(1, 2), correction=0)
            for row, end in zip(rows, ends, strict=True)
        ]
        var, mean = (torch.stack(each) for each in zip(*stats, strict=True))  # [B, G]
        spread = torch.rsqrt(var + self.eps)[..., None, None]
        normed = ((rows.float() - mean[..., None, None]) * spread).view(x.shape)
        if self.weight is not None and self.bias is not None:
            normed = torch.addcmul(self.bias.float()[:, None], normed, self.weight.float()[:, None])
        return normed.to(x)

    def padded(self, x: Tensor, ends: Sequence[int]) -> Tensor:
        """``forward`` in as many kernels for any batch, without a copy of ``x``.

        Each frame has its mean and variance; the mask is on those. A variance is that within
        frames and that between them. Then one scaling, as of a norm without mask.
        """
        rows = x.view(len(x), self.groups, -1, x.shape[-1])  # [B, G, C / G, T]
        var, mean = _frame_stats(rows)
        counts = on_device(ends, x.device)[:, None, None]
        padding = torch.arange(x.shape[-1], device=x.device) >= counts  # [B, 1, T]
        centre = mean.masked_fill_(padding, 0.0).sum(2, keepdim=True) / counts  # [B, G, 1]
        var = var.add_((mean - centre).square_()).masked_fill_(padding, 0.0)
        spread = torch.rsqrt(var.sum(2, keepdim=True) / counts + self.eps)
        centre, scale = (one.repeat_interleave(rows.shape[2], dim=1) for one in (centre, spread))
        if self.weight is not None and self.bias is not None:
            scale = scale * self.weight[:, None]
            shift = self.bias[:, None] - centre * scale
        else:
            shift = -centre * scale
        return torch.addcmul(shift, x, scale, out=torch.empty_like(x))


def _frame_stats(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Variance and mean, float32 [B, G, T], of every frame of [B, G, C, T]."""
    if rows.dtype == torch.float32:
        return torch.var_mean(rows, dim=2, correction=0)
    # What this loses beside a large mean, half precision never had; var_mean would need a copy.
    mean = rows.mean(dim=2, dtype=torch.float32)
    norm = torch.linalg.vector_norm(rows, dim=2, dtype=torch.float32)
    return (norm.square() / rows.shape[2] - mean.square()).clamp_(min=0.0), mean
