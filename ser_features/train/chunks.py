"""Which chunks a ResNet head trains on: drawn first, from a seeded generator, then read."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ser_features.train.cache_augment import CacheDraw
from ser_features.train.resnet_recipes import ResNetConfig
from ser_features.train.specaugment import POLICIES, Masks, draw_masks
from ser_features.views import Indices


@dataclass(frozen=True, slots=True)
class Chunk:
    """``length`` frames of row ``row`` from ``start``; ``masks`` are places in the whole row.

    ``pasted`` is what follows it (CopyPaste), ``mixed`` what is mixed in, at ``1 - share``
    (mixup; frames and labels). ``hidden`` are masks in what came of that.
    """

    row: int
    start: int
    length: int
    masks: Masks | None = None
    pasted: "Chunk | None" = None
    mixed: "Chunk | None" = None
    share: float = 1.0
    hidden: Masks | None = None

    @property
    def total(self) -> int:
        """Frames with what is pasted."""
        return self.length + (0 if self.pasted is None else self.pasted.length)

    @property
    def partner(self) -> tuple[int, float]:
        """Row of what is pasted or mixed in, and its share of the whole; without one, its own."""
        if self.pasted is not None:
            return self.pasted.row, self.pasted.length / self.total
        return (self.row, 0.0) if self.mixed is None else (self.mixed.row, 1 - self.share)


@dataclass(frozen=True, slots=True)
class Batch:
    """The chunks of one update; ``frames`` is the length that was drawn for them."""

    frames: int
    chunks: tuple[Chunk, ...]

    def micro_batches(self, size: int) -> list[tuple[Chunk, ...]]:
        """The chunks by length, longest first, in parts of ``size`` that differ by one at most."""
        ordered = sorted(self.chunks, key=lambda chunk: -chunk.total)
        cuts = np.array_split(np.arange(len(ordered)), -(-len(ordered) // size))
        return [tuple(ordered[i] for i in part) for part in cuts]


def augmented(batch: Batch, drawn: CacheDraw) -> Batch:
    """Each chunk with that of its partner behind it or mixed in, and masked, as was drawn.

    A chunk that is its own partner stays alone. Paper 2, section 3.2.2: pairs are drawn inside the
    minibatch, each side a crop of 4 s at most.
    """
    pairs = zip(batch.chunks, drawn.partner.tolist(), strict=True)
    chunks = (
        _drawn(chunk, None if p == i else batch.chunks[p], drawn, i)
        for i, (chunk, p) in enumerate(pairs)
    )
    return replace(batch, chunks=tuple(chunks))


def _drawn(chunk: Chunk, partner: Chunk | None, drawn: CacheDraw, place: int) -> Chunk:
    masks = {
        axis: tuple((first, end - first) for first, end in bands[place].tolist())
        for axis, bands in drawn.bands
    }
    hidden = Masks(masks.get("feature", ()), masks.get("time", ())) if masks else None
    if drawn.joined or partner is None:
        return replace(chunk, pasted=partner, hidden=hidden)
    return replace(chunk, mixed=partner, share=float(drawn.label[place]), hidden=hidden)


def draw_epoch(
    rows: Indices,
    num_frames: Indices,
    num_bands: int,
    config: ResNetConfig,
    rng: np.random.Generator,
) -> list[Batch]:
    """One epoch in random order: every row once, with SpecAugment also its masked copies.

    ``num_frames`` holds the frames of every row of the view. The last minibatch may be short, but
    is never one chunk alone, which batch normalisation could not take.
    """
    policy = None if config.spec_augment == "none" else POLICIES[config.spec_augment]
    copies = 0 if policy is None else policy.copies
    slots = rng.permutation(len(rows) * (copies + 1))
    batches = []
    for part in _cut(slots, config.batch):
        length = int(rng.choice(config.chunks))
        chunks = []
        for slot in part.tolist():
            row = int(rows[slot % len(rows)])
            count = int(num_frames[row])
            start = int(rng.integers(max(1, count - length + 1)))
            masks = None
            if policy is not None and slot >= len(rows):
                masks = draw_masks(policy, count, num_bands, rng)
            chunks.append(Chunk(row, start, min(length, count), masks))
        batches.append(Batch(length, tuple(chunks)))
    return batches


def _cut(slots: Indices, batch: int) -> Sequence[Indices]:
    """Parts of ``batch``; a single slot that is left over joins the part before it."""
    ends = list(range(batch, len(slots), batch))
    if ends and len(slots) - ends[-1] == 1:
        ends.pop()
    return np.split(slots, ends)
