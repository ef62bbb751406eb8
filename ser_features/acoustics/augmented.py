"""Acoustic conditions of a corpus as it is and as augmentations make it (paper 3's Fig. 4)."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ser_features.acoustics.conditions import Conditions, Heard, as_recorded, measure_corpus
from ser_features.augment.augmented import Augmented, augmented_sets, partner_samples
from ser_features.augment.partners import Partners
from ser_features.manifest import Manifest
from ser_features.records import Utterance

Tick = Callable[[float], None]


def augmented_heard(augmented: Augmented, manifest: Manifest) -> Heard:
    """Recordings as an augmentation makes them, at the file's own rate."""
    partners = Partners(manifest.utterances)

    def heard(utterance: Utterance) -> tuple[NDArray[np.float32], int]:
        samples, rate = as_recorded(utterance)
        draw, _ = augmented.draw(utterance, len(samples), rate, partners)
        partner = partner_samples(manifest.by_id, draw, rate)
        return augmented.apply(samples, draw, rate, partner), rate

    return heard


def listen_to(
    manifest: Manifest,
    augment: Sequence[str] = (),
    *,
    sample: int | None = None,
    workers: int = 4,
    seed: int = 0,
    start: Callable[[str, float, str], None] = lambda what, total, unit: None,
    tick: Tick = lambda amount: None,
) -> list[Conditions]:
    """The corpus as it is, then under each augmentation (as ``augment.parse`` reads them).

    ``start`` and ``tick`` report progress. Raises UsageError for an augmentation that does not
    exist, AudioError for its noise that cannot be read.
    """
    sets = [one for one in augmented_sets(augment, seed=seed) if one is not None] if augment else []
    count = min(len(manifest), sample or len(manifest))
    start(f"listening to {manifest.corpus}", count * (1 + len(sets)), "utterances")
    found = [measure_corpus(manifest, sample=sample, workers=workers, tick=tick)]
    for one in sets:
        heard = augmented_heard(one, manifest)
        found.append(
            measure_corpus(manifest, one.name, heard, sample=sample, workers=workers, tick=tick)
        )
    return found


def by_condition(found: Sequence[Conditions]) -> list[Conditions]:
    """Sorted by condition in order of appearance, corpora below it in theirs."""
    order = list(dict.fromkeys(each.condition for each in found))
    return sorted(found, key=lambda each: order.index(each.condition))
