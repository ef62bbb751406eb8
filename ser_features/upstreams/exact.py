"""Repairs that make a padded batch give what each utterance gives alone.

transformers' wav2vec2-like encoders mix padding into valid frames in a few places (measured in
docs/architecture.md). The modules here take their place on one loaded model.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Batch:
    """What is valid in the batch that is being encoded; None where nothing is padded."""

    def __init__(self) -> None:
        self.samples: tuple[int, ...] | None = None
        self.mask: Tensor | None = None  # bool [B, T]

    def set(self, samples: tuple[int, ...], frames: tuple[int, ...], device: torch.device) -> None:
        """Describe the next batch: samples and frames of each utterance."""
        self.samples = self.mask = None
        if len(set(samples)) > 1:
            self.samples = samples
            ends = torch.tensor(frames, device=device)
            self.mask = torch.arange(max(frames), device=device) < ends[:, None]


class ValidGroupNorm(nn.Module):
    """GroupNorm of one channel a group whose statistics are those of the valid frames."""

    def __init__(self, norm: nn.GroupNorm, conv: nn.Conv1d, batch: Batch) -> None:
        super().__init__()
        self.norm, self.batch = norm, batch
        self.kernel, self.stride = conv.kernel_size[0], conv.stride[0]

    def forward(self, x: Tensor) -> Tensor:
        """Normalise [B, C, T]; frames of padding become arbitrary finite values."""
        if self.batch.samples is None:
            normed: Tensor = self.norm(x)
            return normed
        ends = [(n - self.kernel) // self.stride + 1 for n in self.batch.samples]
        # One pass for the statistics and one for the affine map, as GroupNorm itself.
        stats = [
            torch.var_mean(row[:, :end].float(), dim=-1, correction=0)
            for row, end in zip(x, ends, strict=True)
        ]
        var, mean = (torch.stack(each) for each in zip(*stats, strict=True))  # [B, C]
        scale = self.norm.weight * torch.rsqrt(var + self.norm.eps)
        shift = self.norm.bias - mean * scale
        return torch.addcmul(shift[..., None].to(x), x, scale[..., None].to(x))


class ValidFrames(nn.Module):
    """A module on [B, D, T] whose output is zero on padding, as the next convolution needs it."""

    def __init__(self, module: nn.Module, batch: Batch) -> None:
        super().__init__()
        self.module, self.batch = module, batch

    def forward(self, x: Tensor) -> Tensor:
        """Run the module on [B, D, T] and clear the padding."""
        y: Tensor = self.module(x)
        return y if self.batch.mask is None else y.masked_fill(~self.batch.mask[:, None], 0)


class GatedBiasAttention(nn.Module):
    """WavLM's attention with gated relative position bias (WavLM paper, section III-B) on SDPA.

    transformers builds the bias once for every utterance of the batch, returns averaged attention
    weights that nobody reads, and mixes two kinds of mask, which torch warns about.
    """

    def __init__(self, attention: Any) -> None:
        super().__init__()
        self.attention = attention

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        position_bias: Tensor | None = None,
        **_: object,
    ) -> tuple[Tensor, None, Tensor]:
        """[B, T, D] to [B, T, D]; the bias [H, T, T] of the first layer serves the others."""
        inner = self.attention
        frames = hidden_states.shape[1]
        if position_bias is None:
            position_bias = inner.compute_bias(frames, frames)
        bias = self._gate(hidden_states) * position_bias  # [B, H, T, T]
        if attention_mask is not None:
            bias.masked_fill_(~attention_mask[:, None, None], float("-inf"))
        query, key, value = (
            self._heads(project(hidden_states))
            for project in (inner.q_proj, inner.k_proj, inner.v_proj)
        )
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        out: Tensor = inner.out_proj(mixed.transpose(1, 2).flatten(2))
        return out, None, position_bias

    def _gate(self, hidden: Tensor) -> Tensor:
        """The factor of the bias for every head and query: [B, H, T, 1]."""
        inner = self.attention
        logits = inner.gru_rel_pos_linear(self._heads(hidden))  # [B, H, T, 8]
        pairs = logits.view(*logits.shape[:-1], 2, 4).sum(-1)
        a, b = torch.sigmoid(pairs).chunk(2, dim=-1)
        gate: Tensor = a * (b * inner.gru_rel_pos_const - 1.0) + 2.0
        return gate

    def _heads(self, x: Tensor) -> Tensor:
        """[B, T, D] to [B, H, T, D / H]."""
        return x.view(*x.shape[:2], self.attention.num_heads, -1).transpose(1, 2)


def repair(model: Any, batch: Batch) -> None:
    """Put the repairs a wav2vec2-like model needs into it."""
    for layer in model.feature_extractor.conv_layers:
        norm = getattr(layer, "layer_norm", None)
        if isinstance(norm, nn.GroupNorm):
            layer.layer_norm = ValidGroupNorm(norm, layer.conv, batch)
    positions = model.encoder.pos_conv_embed
    if hasattr(positions, "layers"):  # data2vec: each convolution would see the last one's padding
        positions.layers = nn.ModuleList(ValidFrames(x, batch) for x in positions.layers)
    if getattr(positions, "batch_norm", None) is not None:  # HuBERT with conv_pos_batch_norm
        positions.batch_norm = ValidFrames(positions.batch_norm, batch)
    for layer in model.encoder.layers:
        if hasattr(layer.attention, "gru_rel_pos_linear"):
            layer.attention = GatedBiasAttention(layer.attention)
