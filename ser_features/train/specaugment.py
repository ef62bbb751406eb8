"""SpecAugment on spectral frames: what is masked is drawn first, then applied.

Paper 4 (ResNet, transfer and spectrogram augmentation), section 3.4 and Table 1; like the paper's,
these policies do not warp time (Park et al. 2019 also do).
"""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from ser_features.registry import by_name


@dataclass(frozen=True, slots=True)
class Policy:
    """Widest masks in bands (``max_bands``, F) and frames (``max_frames``, W), how many of each.

    ``max_share`` (p) caps a mask in time at that share of the spectrogram's frames. ``copies`` is
    how many masked versions of each segment train beside the original (paper 4: two).
    """

    name: str
    max_bands: int
    max_frames: int
    max_share: float = 0.2
    band_masks: int = 2
    frame_masks: int = 2
    copies: int = 2


POLICIES = by_name(
    "SpecAugment policy",
    (Policy("conservative", 15, 50), Policy("aggressive", 27, 70)),
    lambda policy: policy.name,
)
"""Paper 4, Table 1."""


@dataclass(frozen=True, slots=True)
class Masks:
    """Masked stretches as (start, width), in bands and in frames."""

    bands: tuple[tuple[int, int], ...] = ()
    frames: tuple[tuple[int, int], ...] = ()


def draw_masks(policy: Policy, num_frames: int, num_bands: int, rng: np.random.Generator) -> Masks:
    """Masks for a spectrogram [num_frames, num_bands].

    Widths are uniform on 0 … the widest, which for frames is min(W, p * num_frames) rounded down;
    starts are uniform where the mask fits.
    """
    longest = min(policy.max_frames, int(policy.max_share * num_frames))
    highest = min(policy.max_bands, num_bands)
    return Masks(
        _stretches(policy.band_masks, highest, num_bands, rng),
        _stretches(policy.frame_masks, longest, num_frames, rng),
    )


def _stretches(
    count: int, widest: int, size: int, rng: np.random.Generator
) -> tuple[tuple[int, int], ...]:
    widths = rng.integers(0, widest, count, endpoint=True)
    starts = rng.integers(0, size - widths, endpoint=True)
    return tuple(zip(starts.tolist(), widths.tolist(), strict=True))


def apply_masks(frames: Tensor, masks: Masks, value: float = 0.0) -> Tensor:
    """A copy of ``frames`` [T, bands] with ``value`` in the masks.

    After mean normalisation zero is the utterance's mean, which is what SpecAugment masks with.
    """
    out = frames.clone()
    for start, width in masks.bands:
        out[:, start : start + width] = value
    for start, width in masks.frames:
        out[start : start + width] = value
    return out
