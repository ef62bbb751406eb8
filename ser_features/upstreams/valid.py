"""Norms over the valid frames of a padded batch."""

import torch
from torch import Tensor, nn


class ValidGroups(nn.Module):
    """GroupNorm in float32 whose statistics are those of each utterance's valid frames.

    wav2vec's ``Fp32GroupNorm``; the library's own would see the padding.
    """

    def __init__(self, groups: int, channels: int, *, affine: bool = True) -> None:
        super().__init__()
        self.groups, self.eps = groups, 1e-5
        self.weight = nn.Parameter(torch.ones(channels)) if affine else None
        self.bias = nn.Parameter(torch.zeros(channels)) if affine else None

    def forward(self, x: Tensor, ends: list[int]) -> Tensor:
        """Normalise [B, C, T]; frames from ``ends[b]`` on become arbitrary finite values."""
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
