"""Repairs that make a padded batch give what each utterance gives alone.

transformers' wav2vec2-like encoders mix padding into valid frames in a few places (measured in
docs/architecture.md). The modules here take their place on one loaded model.
"""

from collections.abc import Sequence
from threading import local
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ser_features.upstreams.waves import valid


class Batch(local):
    """The utterances that a thread is encoding, in one of two layouts.

    ``packed`` (a CPU): one after another, [1, sum(T), D], nothing padded. Otherwise [B, T, D] with
    a ``mask`` [B, T] of what is valid, None where nothing is padded.
    """

    def __init__(self, *, packed: bool) -> None:
        self.packed = packed
        self.frames: tuple[int, ...] = ()
        self.mask: Tensor | None = None

    def set(self, frames: tuple[int, ...], device: torch.device) -> None:
        """Describe the next batch: the frames of each utterance."""
        self.frames, self.mask = frames, None
        if len(set(frames)) > 1 and not self.packed:
            self.mask = valid(frames, max(frames), device)

    def clear(self, x: Tensor) -> Tensor:
        """Zero on the padding of [B, T, D], in place: the positional convolution sees it."""
        return x if self.mask is None else x.masked_fill_(~self.mask[..., None], 0)

    def rows(self, x: Tensor) -> Sequence[Tensor]:
        """What may be computed together: each utterance of a packed [1, S, D], or all of it."""
        return torch.split_with_sizes(x, self.frames, dim=1) if self.packed else (x,)

    def keep(self, place: Tensor, x: Tensor) -> None:
        """Copy a layer's [1, S, D] or [B, T, D] to its place [B, T, D]; padding becomes finite."""
        if not self.packed:
            place.copy_(x)
            return
        for row, part in zip(place, self.rows(x), strict=True):
            end = part.shape[1]
            row[:end].copy_(part[0])
            row[end:].zero_()


def joined(rows: Sequence[Tensor]) -> Tensor:
    """What ``Batch.rows`` took apart; a whole batch is not copied."""
    return rows[0] if len(rows) == 1 else torch.cat(list(rows), dim=1)


class Rowwise(nn.Module):
    """A module on [B, T, D] that mixes frames, run on each utterance of a packed batch."""

    def __init__(self, module: nn.Module, batch: Batch) -> None:
        super().__init__()
        self.module, self.batch = module, batch

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, D] to [B, T, D], or [1, S, D] to [1, S, D]."""
        return joined([self.module(row) for row in self.batch.rows(x)])


class ValidFrames(nn.Module):
    """A module on [B, D, T] whose output is zero on padding, as the next convolution needs it."""

    def __init__(self, module: nn.Module, batch: Batch) -> None:
        super().__init__()
        self.module, self.batch = module, batch

    def forward(self, x: Tensor) -> Tensor:
        """Run the module on [B, D, T] and clear the padding."""
        y: Tensor = self.module(x)
        return y if self.batch.mask is None else y.masked_fill(~self.batch.mask[:, None], 0)


class Attention(nn.Module):
    """An encoder layer's self-attention on SDPA, its three projections as one product.

    A batch without padding has no mask: in half precision a GPU may take its flash kernel, which
    takes none. With a mask or a bias (WavLM, always) it takes the memory-efficient one.
    In bfloat16 on a CPU as plain products (what transformers calls eager), half of SDPA's time; the
    rounded scores add 5 % to the deviation that bfloat16 has anyway (benchmarks/README.md).
    """

    def __init__(self, inner: Any, batch: Batch) -> None:
        super().__init__()
        self.batch, self.heads = batch, inner.num_heads
        weight = inner.q_proj.weight
        self.eager = weight.is_cpu and weight.dtype == torch.bfloat16
        self.unread = _unread(inner, weight)
        parts = (inner.q_proj, inner.k_proj, inner.v_proj)
        self.qkv = nn.Linear(1, 1, device="meta")
        self.qkv.weight = _frozen([part.weight for part in parts])
        self.qkv.bias = _frozen([part.bias for part in parts])
        self.out_proj = inner.out_proj

    def forward(self, hidden_states: Tensor, **_: object) -> tuple[Tensor | None, ...]:
        """[B, T, D] to [B, T, D], or packed."""
        mask, rows = self.batch.mask, len(self.batch.frames) if self.batch.packed else 1
        biases = [None if mask is None else mask[:, None, None]] * rows
        return self._mix(hidden_states, biases), *self.unread

    def _mix(self, hidden: Tensor, biases: Sequence[Tensor | None]) -> Tensor:
        """Attention within each row; a row's bias is added to its scores, or masks them."""
        rows = self.batch.rows(self.qkv(hidden))
        mixed = [self._attend(row, bias) for row, bias in zip(rows, biases, strict=True)]
        out: Tensor = self.out_proj(joined(mixed))
        return out

    def _attend(self, qkv: Tensor, bias: Tensor | None) -> Tensor:
        heads = qkv.view(*qkv.shape[:2], 3, self.heads, -1)
        query, key, value = heads.permute(2, 0, 3, 1, 4).unbind(0)  # each [B, H, T, D / H]
        if self.eager:
            scores = (query * key.shape[-1] ** -0.5) @ key.transpose(-1, -2)
            mixed = torch.softmax(scores if bias is None else scores + bias, -1) @ value
        else:
            mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        return mixed.transpose(1, 2).flatten(2)


class GatedBiasAttention(Attention):
    """WavLM's attention with gated relative position bias (WavLM paper, section III-B) on SDPA.

    transformers builds the bias once for every utterance of the batch, returns averaged attention
    weights that nobody reads, and mixes two kinds of mask, which torch warns about.
    """

    def __init__(self, inner: Any, batch: Batch) -> None:
        super().__init__(inner, batch)
        self.gate, self.constant = inner.gru_rel_pos_linear, inner.gru_rel_pos_const
        self.inner = inner if hasattr(inner, "rel_attn_embed") else None  # the first layer's

    def forward(  # type: ignore[override]
        self, hidden_states: Tensor, position_bias: Tensor | None = None, **_: object
    ) -> tuple[Tensor | None, ...]:
        """As Attention; the bias [H, T, T] of the first layer serves the others."""
        if position_bias is None and self.inner is not None:
            frames = max(self.batch.frames) if self.batch.packed else hidden_states.shape[1]
            position_bias = self.inner.compute_bias(frames, frames).contiguous()
        assert position_bias is not None
        gates = self.batch.rows(self._gates(hidden_states))  # each [B, T, H]
        biases = [self._bias(gate, position_bias) for gate in gates]
        return self._mix(hidden_states, biases), None, position_bias

    def _bias(self, gate: Tensor, position_bias: Tensor) -> Tensor:
        frames, mask = gate.shape[1], self.batch.mask
        factor, bias = gate.transpose(1, 2)[..., None], position_bias[:, :frames, :frames]
        if mask is None:
            return factor * bias  # [B, H, T, T]
        shut = gate.new_zeros(mask.shape).masked_fill_(~mask, float("-inf"))
        return torch.addcmul(shut[:, None, None], factor, bias)  # one pass over what is largest

    def _gates(self, hidden: Tensor) -> Tensor:
        """The factor of the bias for every query and head: [B, T, H]."""
        logits = self.gate(hidden.view(*hidden.shape[:2], self.heads, -1))  # [B, T, H, 8]
        pairs = logits.view(*logits.shape[:-1], 2, 4).sum(-1)
        a, b = torch.sigmoid(pairs).unbind(-1)
        factor: Tensor = a * (b * self.constant.flatten() - 1.0) + 2.0
        return factor


def _unread(inner: Any, weight: Tensor) -> tuple[None, ...]:
    """Attention weights and states that nobody reads; how many differs between versions."""
    if hasattr(inner, "gru_rel_pos_linear"):
        return ()
    return (None,) * (len(inner(weight.new_zeros(1, 1, weight.shape[1]))) - 1)


def _frozen(parts: Sequence[Tensor]) -> nn.Parameter:
    return nn.Parameter(torch.cat(list(parts)), requires_grad=False)


def repair(model: Any, batch: Batch) -> None:
    """Put the repairs a wav2vec2-like model needs into it."""
    positions = model.encoder.pos_conv_embed
    if hasattr(positions, "layers"):  # data2vec: each convolution would see the last one's padding
        positions.layers = nn.ModuleList(ValidFrames(x, batch) for x in positions.layers)
    if getattr(positions, "batch_norm", None) is not None:  # HuBERT with conv_pos_batch_norm
        positions.batch_norm = ValidFrames(positions.batch_norm, batch)
    for layer in model.encoder.layers:
        gated = hasattr(layer.attention, "gru_rel_pos_linear")
        layer.attention = (GatedBiasAttention if gated else Attention)(layer.attention, batch)
    model.encoder.pos_conv_embed = Rowwise(positions, batch)
