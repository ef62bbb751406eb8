"""Augmentation on the cache while training, free of extraction: one table, draws only, no torch.

Each minibatch draws anew, from the run's own generator: first everything random, then it is
applied. What acts on a mean over frames as it does on the frames (mixing, bands of layers and
features, concatenation) is exact on pooled features; masking time is not, and needs frames.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ser_features.errors import UsageError
from ser_features.registry import Table
from ser_features.train.strategies import read_values

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class CacheKind:
    """One augmentation: its parameters with their defaults, and whether it needs frames."""

    description: str
    defaults: tuple[tuple[str, float], ...]
    needs_frames: bool = False


_MASKS = (("p", 0.2), ("masks", 1.0))
_PASTE = (("share", 0.8),)

CACHE_AUGMENTATIONS: Table[CacheKind] = Table(
    "cache augmentation",
    [
        ("mixup", CacheKind("two utterances and their labels mixed; weight from Beta(alpha, alpha) "
                            "(Zhang et al. 2018); frames cycle the shorter one",
                            (("alpha", 0.2),))),
        ("time-mask", CacheKind("stretches of frames of up to p of the utterance set to zero",
                                _MASKS, needs_frames=True)),
        ("feature-mask", CacheKind("bands of up to p of the features set to zero", _MASKS)),
        ("layer-mask", CacheKind("up to p of the layers set to zero", _MASKS)),
        ("copypaste-se", CacheKind("joined with one of the same emotion, in a share of the "
                                   "minibatches (paper 2, section 3.2.2)", _PASTE)),
        ("copypaste-n", CacheKind("joined with a neutral one, its own label kept", _PASTE)),
        ("copypaste-n+se", CacheKind("one or the other, half of the share each", _PASTE)),
    ],
)  # fmt: skip
"""What ``--cache-augment`` takes. Joining is length-weighted means on pooled features, frames one
after another on frames; whole utterances, where paper 2 joins crops of 4 s (as the resnet34 heads
do: all of this acts on their chunks). SpecAugment by a policy is ``--spec-augment``, as it adds
copies to the epoch."""

MOST_MASKS = 100
PAIRING = ("mixup", "copypaste-se", "copypaste-n", "copypaste-n+se")


@dataclass(frozen=True, slots=True)
class CacheStep:
    """One augmentation with its numbers."""

    name: str
    values: tuple[tuple[str, float], ...]

    @property
    def text(self) -> str:
        """As ``parse_cache`` reads it."""
        return f"{self.name}:" + ",".join(f"{key}={value:g}" for key, value in self.values)

    def __getitem__(self, key: str) -> float:
        return dict(self.values)[key]


def parse_cache(texts: Sequence[str], *, frames: bool) -> tuple[CacheStep, ...]:
    """What ``--cache-augment`` asks for; ``frames`` says what the head reads.

    Raises UsageError for unknown names and numbers that make no sense, for two that pair
    utterances, and for time masks on pooled features.

    >>> parse_cache(["mixup"], frames=False)[0].text
    'mixup:alpha=0.2'
    """
    steps = tuple(_step(text) for text in texts)
    names = [step.name for step in steps]
    pairing = [name for name in names if name in PAIRING]
    if len(pairing) > 1 or len(set(names)) < len(names):
        raise UsageError(f"cache augmentations {', '.join(names)}: one of each, one that pairs")
    for step in steps:
        if CACHE_AUGMENTATIONS[step.name].needs_frames and not frames:
            raise UsageError(f"{step.name} needs a head on frames, such as mlp")
    return steps


def _step(text: str) -> CacheStep:
    name, _, rest = text.partition(":")
    defaults = dict(CACHE_AUGMENTATIONS[name].defaults)
    given = read_values(rest, tuple(defaults), f"cache augmentation {name!r}")
    step = CacheStep(name, tuple((defaults | given).items()))
    for key, value in step.values:
        holds, expected = {
            "masks": (value in range(1, MOST_MASKS + 1), f"a whole number from 1 to {MOST_MASKS}"),
            "alpha": (0 < value < np.inf, "a number above 0"),
        }.get(key, (0 <= value <= 1, "a share from 0 to 1"))
        if not holds:
            raise UsageError(f"cache augmentation {text!r}: {key}={value:g}: expected {expected}")
    return step


def check_neutral(steps: Sequence[CacheStep], *, has_neutral: bool) -> None:
    """UsageError where neutral utterances are to be joined and there is no such class."""
    if not has_neutral and any("-n" in step.name for step in steps):
        raise UsageError("copypaste-n joins neutral utterances, and no class is 'neutral'")


@dataclass(frozen=True, slots=True)
class CacheDraw:
    """What was drawn for one minibatch of B utterances.

    ``partner`` [B] is a position in the minibatch, itself where there is none. ``own`` and
    ``other`` [B] weigh the features of the two, ``label`` [B] the own label against the partner's.
    ``joined`` says that the two follow each other. ``bands`` holds, by axis (time, feature,
    layer), first and end [B, masks, 2] of what is set to zero.
    """

    partner: Indices
    own: Floats
    other: Floats
    label: Floats
    joined: bool
    bands: tuple[tuple[str, Indices], ...]

    def blended(self, values: Floats) -> Floats:
        """``values`` [B] of the utterances and their partners, in the shares of their features."""
        return values + self.other * (values[self.partner] - values)


@dataclass(frozen=True, slots=True)
class CacheAugment:
    """The augmentations of one training; ``neutral`` is the class that copypaste-n joins."""

    steps: tuple[CacheStep, ...]
    num_layers: int
    dim: int
    neutral: int | None = None

    def __post_init__(self) -> None:
        check_neutral(self.steps, has_neutral=self.neutral is not None)
        for step in self.steps:
            size = {"layer-mask": self.num_layers, "feature-mask": self.dim}.get(step.name)
            if size is not None and step["p"] * size < 1:
                raise UsageError(
                    f"{step.text} of {size} {step.name.removesuffix('-mask')}s masks none: "
                    f"use p of {1 / size:.2g} or more"
                )

    def draw(self, labels: Indices, lengths: Indices, rng: np.random.Generator) -> CacheDraw:
        """Draw for a minibatch: ``labels`` and ``lengths`` (frames) [B]."""
        size = len(labels)
        one = np.ones(size, np.float32)
        drawn = CacheDraw(np.arange(size), one, 0 * one, one, False, ())
        for step in self.steps:
            if step.name == "mixup":
                drawn = _mixup(step["alpha"], drawn, rng)
            elif step.name in PAIRING:
                drawn = self._paste(step, drawn, labels, lengths, rng)
            else:
                drawn = self._masked(step, drawn, lengths, rng)
        return drawn

    def _paste(
        self,
        step: CacheStep,
        drawn: CacheDraw,
        labels: Indices,
        lengths: Indices,
        rng: np.random.Generator,
    ) -> CacheDraw:
        schemes = step.name.removeprefix("copypaste-").split("+")
        lot, order = rng.random(), rng.permutation(len(labels))
        if lot >= step["share"]:
            return drawn
        scheme = schemes[int(lot / step["share"] * len(schemes))]
        allowed = labels == self.neutral
        partner = np.arange(len(labels))
        for i, label in enumerate(labels):
            pool = order[(labels == label)[order] if scheme == "se" else allowed[order]]
            pool = pool[pool != i]
            if len(pool):
                partner[i] = pool[int(rng.integers(len(pool)))]
        paired = partner != np.arange(len(labels))
        total = lengths + lengths[partner]
        own = np.where(paired, lengths / total, 1).astype(np.float32)
        other = np.where(paired, lengths[partner] / total, 0).astype(np.float32)
        return replace(drawn, partner=partner, own=own, other=other, joined=True)

    def _masked(
        self, step: CacheStep, drawn: CacheDraw, lengths: Indices, rng: np.random.Generator
    ) -> CacheDraw:
        axis = step.name.removesuffix("-mask")
        joined = lengths + np.where(drawn.other > 0, lengths[drawn.partner], 0)
        whole = {
            "time": joined if drawn.joined else lengths,
            "feature": np.full(len(lengths), self.dim),
            "layer": np.full(len(lengths), self.num_layers),
        }[axis]
        bands = draw_bands(whole, step["p"], int(step["masks"]), rng)
        return replace(drawn, bands=(*drawn.bands, (axis, bands)))


def draw_bands(sizes: Indices, p: float, masks: int, rng: np.random.Generator) -> Indices:
    """First and end [B, masks, 2] of bands inside ``sizes`` [B], each at most p of it wide.

    As SpecAugment: the width uniform from 0 to the largest, then the place uniform in what is left.
    """
    most = np.floor(p * sizes).astype(np.int64)[:, None]
    width = rng.integers(0, most + 1, (len(sizes), masks))
    first = rng.integers(0, sizes[:, None] - width + 1)
    return np.stack([first, first + width], axis=2)


def _mixup(alpha: float, drawn: CacheDraw, rng: np.random.Generator) -> CacheDraw:
    weight = np.float32(rng.beta(alpha, alpha))
    partner = rng.permutation(len(drawn.own))
    own = np.where(partner == np.arange(len(partner)), 1, weight).astype(np.float32)
    return replace(drawn, partner=partner, own=own, other=1 - own, label=own)
