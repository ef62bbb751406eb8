"""Applies what ``cache_augment`` drew: to stacks of pooled heads, and to frames."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from ser_features.heads.superb import Blend
from ser_features.train.cache_augment import CacheAugment, CacheDraw
from ser_features.train.stack import Indices
from ser_features.train.stream import Window


class StackCache:
    """The draws of every stream of a stack, as tensors that one update reads."""

    def __init__(
        self,
        cache: CacheAugment,
        labels: Indices,
        num_frames: Indices,
        rngs: Sequence[np.random.Generator],
        device: torch.device,
    ) -> None:
        """``labels`` and ``num_frames`` are by row; ``rngs`` by stream."""
        self._cache, self._truth, self._lengths = cache, labels, num_frames
        self._rngs, self._device = rngs, device
        self._labels = torch.from_numpy(labels).to(device)
        self._layers = torch.arange(cache.num_layers, device=device)

    def draw(self, index: Indices) -> list[Tensor]:
        """Draw for one update's rows [streams, B]; what ``blend`` takes."""
        found = [
            self._cache.draw(self._truth[rows], self._lengths[rows], rng)
            for rows, rng in zip(index, self._rngs, strict=True)
        ]
        partner = [rows[one.partner] for rows, one in zip(index, found, strict=True)]
        columns: list[list[Any]] = [partner]
        columns += [[getattr(one, name) for one in found] for name in ("own", "other", "label")]
        none = np.zeros((index.shape[1], 1, 2), np.int64)
        columns += [[dict(one.bands).get(axis, none) for one in found] for axis in _POOLED_AXES]
        return [torch.from_numpy(np.stack(column)).to(self._device) for column in columns]

    def blend(self, drawn: Sequence[Tensor]) -> Blend | None:
        """What was drawn, by run, as the head takes it; None where nothing was."""
        if not drawn:
            return None
        partner, own, other, label, layers, features = drawn
        rows = partner.unsqueeze(-1) * len(self._layers) + self._layers
        outside = (
            outside_of(layers, self._cache.num_layers),
            outside_of(features, self._cache.dim),
        )
        return Blend(rows, self._labels[partner], own, other, label, *outside)


_POOLED_AXES = ("layer", "feature")


def outside_of(bands: Tensor, size: int) -> Tensor:
    """1 outside of all bands [..., masks, 2], else 0: float32 [..., size]."""
    places = torch.arange(size, device=bands.device)
    inside = (places >= bands[..., :1]) & (places < bands[..., 1:])
    return (~inside.any(dim=-2)).float()


def augmented_frames(
    window: Window, rows: Indices, drawn: CacheDraw, at: Indices, normalize: bool
) -> tuple[Tensor, Tensor]:
    """Frames [F, L, D] and counts [len(at)] of some of a minibatch's ``rows``, as drawn.

    Partners are read from the window too. Joined utterances follow each other; mixed ones cycle
    the partner's frames to the own length.
    """
    frames, counts = window.gather(rows[at], normalize)
    other = drawn.other[at]
    if other.any():
        given = window.gather(rows[drawn.partner[at]], normalize)
        blended = _joined(frames, counts, given, other) if drawn.joined else None
        frames, counts = blended or (_mixed(frames, counts, given, drawn, at), counts)
    for axis, bands in drawn.bands:
        _mask(frames, counts, axis, bands[at])
    return frames, counts


def _joined(
    frames: Tensor, counts: Tensor, given: tuple[Tensor, Tensor], other: np.ndarray[Any, Any]
) -> tuple[Tensor, Tensor]:
    ours, theirs = torch.split(frames, counts.tolist()), torch.split(given[0], given[1].tolist())
    parts = [
        torch.cat([one, two]) if weight else one
        for one, two, weight in zip(ours, theirs, other, strict=True)
    ]
    return torch.cat(parts), torch.tensor([len(part) for part in parts])


def _mixed(
    frames: Tensor, counts: Tensor, given: tuple[Tensor, Tensor], drawn: CacheDraw, at: Indices
) -> Tensor:
    starts = given[1].cumsum(0) - given[1]
    places = [
        start + torch.arange(own) % length
        for own, start, length in zip(counts.tolist(), starts, given[1], strict=True)
    ]
    partner = given[0][torch.cat(places).to(frames.device)]
    shares = [torch.from_numpy(share[at]).repeat_interleave(counts) for share in
              (drawn.own, drawn.other)]  # fmt: skip
    own, other = (share.to(frames.device).view(-1, 1, 1) for share in shares)
    return frames * own + partner * other


def _mask(frames: Tensor, counts: Tensor, axis: str, bands: Indices) -> None:
    """Set bands [B, masks, 2] of each utterance's frames to zero, in place."""
    for part, own in zip(torch.split(frames, counts.tolist()), bands.tolist(), strict=True):
        for first, end in own:
            if axis == "time":
                part[first:end] = 0
            elif axis == "layer":
                part[:, first:end] = 0
            else:
                part[:, :, first:end] = 0


def blended_loss(logits: Tensor, labels: Indices, drawn: CacheDraw, at: Indices) -> Tensor:
    """Summed cross-entropy of the own and the partner's label; ``labels`` are the minibatch's."""
    pairs: Iterator[Tensor] = (
        torch.from_numpy(each).to(logits.device)
        for each in (labels[at], labels[drawn.partner[at]], drawn.label[at])
    )
    return two_label_loss(logits, *pairs)


def two_label_loss(logits: Tensor, own: Tensor, other: Tensor, share: Tensor) -> Tensor:
    """Summed cross-entropy: ``share`` [B] of that of the ``own`` label, the rest of the other."""
    losses = [cross_entropy(logits, truth, reduction="none") for truth in (own, other)]
    return (share * losses[0] + (1 - share) * losses[1]).sum()
