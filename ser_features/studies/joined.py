"""How far joining pooled features is from joining waveforms, layer by layer."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ser_features.augment.augmented import read_stored
from ser_features.augment.recorded import check_draw
from ser_features.errors import AudioError, StoreError, UsageError
from ser_features.records import Json
from ser_features.report.figures import Series
from ser_features.store.reader import FeatureSet

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Distance:
    """Between the pooled mean of two joined waveforms and the length-weighted mean of the two.

    ``relative`` [N, L] is, for each joined utterance and layer, the RMS over dimensions of the
    difference over the RMS of the stored features. ``change`` [L] is the RMS of the difference
    over the RMS of what joining changes at all (stored features against the utterance alone): 0
    is exact, 1 as far off as not to join. ``left_out`` counts copies of which a crop took a part.
    """

    relative: Floats
    change: Floats
    left_out: int

    @property
    def median(self) -> Floats:
        """Of ``relative``, by layer."""
        return np.median(self.relative, axis=0)

    def series(self, name: str) -> Series:
        """The median over layers, from the 5th to the 95th percentile."""
        low, high = np.quantile(self.relative, [0.05, 0.95], axis=0)
        points = zip(range(len(low)), self.median, low, high, strict=True)
        return Series(
            name, tuple((float(x), float(y), float(a), float(b)) for x, y, a, b in points)
        )


def distance(clean: FeatureSet, pasted: Sequence[FeatureSet]) -> Distance | None:
    """Over all copies that hold both recordings whole; None where there is none.

    ``pasted`` are sets of CopyPaste with the draws of every copy beside it.
    """
    counts = dict(zip(clean.ids, clean.num_frames.tolist(), strict=True))
    found: list[tuple[Floats, Floats, Floats]] = []
    left_out = 0
    for copies in pasted:
        pairs = whole_pairs(copies, counts)
        left_out += len(copies.ids) - len(pairs)
        if pairs:
            found.append(_features(clean, copies, pairs, counts))
    if not found:
        return None
    stored, joined, own = (np.concatenate(parts) for parts in zip(*found, strict=True))
    off, changed = stored - joined, stored - own
    relative = _rms(off, 2) / _rms(stored, 2)
    return Distance(relative, _rms(off, (0, 2)) / _rms(changed, (0, 2)), left_out)


def whole_pairs(copies: FeatureSet, known: Mapping[str, int]) -> dict[str, str]:
    """Utterance -> its partner, for copies that were cropped nowhere.

    StoreError that names the feature set and the utterance where a draw is none of CopyPaste.
    """
    found = {}
    for name, drawn in _draws(copies):
        (step,) = drawn["steps"]
        whole = step["own"][1] == drawn["input"] and step["other"][1] == step["partner_input"]
        if whole and {name, step["partner"]} <= known.keys():
            found[name] = step["partner"]
    return found


def _draws(copies: FeatureSet) -> Iterator[tuple[str, Mapping[str, Json]]]:
    """What was drawn for each utterance, checked: a store is data, whoever wrote it."""
    try:
        steps = read_stored(copies.provenance.get("augmentation"))[0].steps
    except UsageError as error:
        raise StoreError(f"{copies.name}: {error}") from error
    if [step.kind.partner for step in steps] != [True]:
        found = "+".join(step.name for step in steps)
        raise StoreError(f"{copies.name}: its augmentation is {found!r}; expected one of CopyPaste")
    for name, source in copies.sources.items():
        try:
            yield name, check_draw(source.draw, steps)
        except AudioError as error:
            raise StoreError(f"{copies.name}, utterance {name!r}: {error}") from error


def _features(
    clean: FeatureSet, copies: FeatureSet, pairs: Mapping[str, str], counts: Mapping[str, int]
) -> tuple[Floats, Floats, Floats]:
    """Means [N, L, D]: as stored, joined from the parts, the utterance alone."""
    names, partners = list(pairs), list(pairs.values())
    own, other, stored = (
        each.pooled("mean", ids).astype(np.float64)
        for each, ids in ((clean, names), (clean, partners), (copies, names))
    )
    weights = np.array([[counts[a], counts[b]] for a, b in pairs.items()], np.float64)
    first, second = (weights / weights.sum(axis=1, keepdims=True)).T[:, :, None, None]
    return stored, first * own + second * other, own


def _rms(values: Floats, axes: int | tuple[int, ...]) -> Floats:
    result: Floats = np.sqrt((values**2).mean(axis=axes))
    return result
