"""vq-wav2vec's quantizers (Baevski et al., arXiv 1910.05453), for inference only.

Parameter names are fairseq's, so that its checkpoints load.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ser_features.upstreams.valid import ValidGroups


class GumbelQuantizer(nn.Module):
    """The most likely code of each group: features [B, D, T] to code vectors [B, V, T]."""

    def __init__(
        self, dim: int, codes: int, groups: int, width: int, depth: int, *, shared: bool, gelu: bool
    ) -> None:
        super().__init__()
        self.groups, self.codes = groups, codes
        books = 1 if shared else groups
        self.vars = nn.Parameter(torch.rand(1, books * codes, width // groups))
        inner = 2 * dim  # fairseq's weight_proj_factor for this model
        blocks = [
            nn.Sequential(
                nn.Linear(dim if i == 0 else inner, inner), nn.GELU() if gelu else nn.ReLU()
            )
            for i in range(depth - 1)
        ]
        last = nn.Linear(inner if blocks else dim, groups * codes)
        self.weight_proj = nn.Sequential(*blocks, last) if blocks else last

    def forward(self, x: Tensor) -> Tensor:
        """Code vectors [B, V, T]; the softmax's temperature and noise exist in training only."""
        batch, _, frames = x.shape
        logits = self.weight_proj(x.transpose(1, 2))  # [B, T, G * codes]
        best = logits.view(batch, frames, self.groups, self.codes).argmax(dim=-1)  # [B, T, G]
        return look_up(self.vars.view(-1, self.codes, self.vars.shape[-1]), best)


class KmeansQuantizer(nn.Module):
    """The nearest code of each group: features [B, D, T] to code vectors [B, V, T]."""

    def __init__(self, dim: int, codes: int, groups: int, width: int, *, shared: bool) -> None:
        super().__init__()
        self.groups = groups
        self.embedding = nn.Parameter(torch.randn(codes, 1 if shared else groups, width // groups))
        conv = nn.Conv1d(dim, dim, kernel_size=1, groups=groups, bias=False)
        self.projection = nn.ModuleList([conv, ValidGroups(groups, dim)])

    def forward(self, x: Tensor, ends: Sequence[int]) -> Tensor:
        """Code vectors [B, V, T] of features whose valid frames are ``ends`` [B]."""
        conv, norm = self.projection
        projected: Tensor = norm(conv(x), ends)
        batch, _, frames = projected.shape
        points = projected.view(batch, self.groups, -1, frames).permute(0, 3, 1, 2)  # [B, T, G, V]
        books = self.embedding.transpose(0, 1)  # [G or 1, codes, V]
        nearest = [
            torch.cdist(points[:, :, g].float(), books[g % len(books)].float()).argmin(dim=-1)
            for g in range(self.groups)
        ]
        return look_up(books, torch.stack(nearest, dim=-1))


def look_up(books: Tensor, codes: Tensor) -> Tensor:
    """Vectors [B, G * V, T] of ``codes`` [B, T, G] in books [G or 1, codes, V]."""
    parts = [books[g % len(books)][codes[..., g]] for g in range(codes.shape[-1])]
    return torch.cat(parts, dim=-1).transpose(1, 2)
