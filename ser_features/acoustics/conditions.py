"""The acoustic conditions of a corpus: every measure of every utterance, as it is and augmented."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from ser_features.acoustics.measures import MEASURES, measure
from ser_features.audio import load, probe
from ser_features.errors import AudioError
from ser_features.manifest import Manifest
from ser_features.records import Json, Rejection, Utterance

AS_RECORDED = "as recorded"
Heard = Callable[[Utterance], tuple[NDArray[np.float32], int]]
"""What is listened to of an utterance: samples [n] and rate. Raises AudioError."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """The measures of one corpus under one augmentation.

    ``values`` [utterance, measure] is in the order of ``ids`` and of MEASURES; NaN where a measure
    has no value. ``rejects`` are utterances that could not be read.
    """

    corpus: str
    condition: str
    ids: tuple[str, ...]
    values: NDArray[np.float64]
    rejects: tuple[Rejection, ...]

    def of(self, name: str) -> NDArray[np.float64]:
        """The values of one measure that are there."""
        column = self.values[:, list(MEASURES).index(name)]
        return column[np.isfinite(column)]

    def summary(self) -> dict[str, Json]:
        """For each measure: how many utterances have it, mean, and five quantiles."""
        return {name: _summary(self.of(name)) for name in MEASURES}


def measure_corpus(
    manifest: Manifest,
    condition: str = AS_RECORDED,
    heard: Heard | None = None,
    *,
    sample: int | None = None,
    workers: int = 4,
    tick: Callable[[float], None] = lambda amount: None,
) -> Conditions:
    """Measure the utterances, or ``sample`` of them, which are chosen by the hashes of their ids.

    The same utterances are chosen under every condition. What cannot be read is a rejection.
    """
    chosen = _sample(manifest.utterances, sample)
    listen = heard or as_recorded

    def look(utterance: Utterance) -> dict[str, float] | Rejection:
        try:
            return measure(*listen(utterance))
        except AudioError as error:
            return Rejection(utterance.id, utterance.file, error.reason, str(error))

    found: dict[str, dict[str, float]] = {}
    rejects = []
    with ThreadPoolExecutor(workers) as pool:
        for utterance, one in zip(chosen, pool.map(look, chosen), strict=True):
            tick(1)
            if isinstance(one, Rejection):
                rejects.append(one)
            else:
                found[utterance.id] = one
    values = np.array([[row[name] for name in MEASURES] for row in found.values()])
    values = values.reshape(-1, len(MEASURES))
    return Conditions(manifest.corpus, condition, tuple(found), values, tuple(rejects))


def as_recorded(utterance: Utterance) -> tuple[NDArray[np.float32], int]:
    """The utterance at its file's own rate."""
    wave = load(utterance, probe(utterance).sample_rate)
    return wave.samples, wave.sample_rate


def overlap(first: NDArray[np.float64], second: NDArray[np.float64], bins: int = 40) -> float:
    """The area that two samples share: 1 where they are the same, 0 where they are apart.

    From histograms over the range of both, so that samples of one distribution read less than 1:
    about 0.8 for 150 values each, 0.9 for 1000. NaN where one is empty.
    """
    if not (len(first) and len(second)):
        return float("nan")
    both = np.concatenate([first, second])
    edges = np.linspace(both.min(), both.max() + 1e-9, bins + 1)
    shares = [np.histogram(each, edges)[0] / len(each) for each in (first, second)]
    return float(np.minimum(*shares).sum())


def overlaps(found: Sequence[Conditions]) -> list[dict[str, Json]]:
    """How alike each two corpora are under the same condition, for each measure."""
    rows = []
    for i, one in enumerate(found):
        for other in found[i + 1 :]:
            if one.corpus != other.corpus and one.condition == other.condition:
                shared = {name: _number(overlap(one.of(name), other.of(name))) for name in MEASURES}
                rows.append({"condition": one.condition, "corpora": [one.corpus, other.corpus],
                             "overlap": shared})  # fmt: skip
    return rows


def _sample(utterances: Sequence[Utterance], count: int | None) -> list[Utterance]:
    if count is None or count >= len(utterances):
        return list(utterances)
    keys = {u.id: sha256(u.id.encode()).digest() for u in utterances}
    chosen = set(sorted(keys, key=lambda name: keys[name])[:count])
    return [u for u in utterances if u.id in chosen]


def _summary(values: NDArray[np.float64]) -> Mapping[str, Json]:
    if not len(values):
        return {"count": 0}
    quantiles = np.quantile(values, (0.05, 0.25, 0.5, 0.75, 0.95))
    names = ("q05", "q25", "median", "q75", "q95")
    numbers = {"mean": float(values.mean()), **dict(zip(names, quantiles.tolist(), strict=True))}
    return {"count": len(values), **{k: round(v, 4) for k, v in numbers.items()}}


def _number(value: float) -> float | None:
    return round(value, 4) if np.isfinite(value) else None
