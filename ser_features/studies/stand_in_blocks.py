"""What study ``stand-in`` says beyond scores: agreement, ranks, distance layer by layer."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ser_features import significance
from ser_features.leaderboard import outcomes_of
from ser_features.report.document import Block, Figure, Grid, Words
from ser_features.report.figures import lines
from ser_features.runs import CLEAN
from ser_features.significance import Outcomes
from ser_features.studies.agreement import agreement, compare_forms, rank_correlation
from ser_features.studies.joined import Distance, distance
from ser_features.studies.spec import Evidence, Trial
from ser_features.upstreams.request import parse_request


@dataclass(frozen=True, slots=True)
class Compared:
    """One row: an augmentation (``pair``) on one upstream, as three trainings."""

    name: str
    pair: str
    none: Trial
    waveform: Trial
    cache: Trial

    @property
    def pastes(self) -> bool:
        """Whether the waveform form is CopyPaste."""
        return self.waveform.augment[0].startswith("copypaste-")


def compared_blocks(sides: Sequence[Compared], evidence: Evidence) -> list[Block]:
    """Agreement, rank correlation of gains and distance, for each corpus."""
    outcomes = {
        trial: outcomes_of(record)
        for (trial, test), record in evidence.records.items()
        if test == CLEAN and isinstance(trial, Trial)
    }
    blocks: list[Block] = []
    for corpus in dict.fromkeys(side.none.corpus for side in sides):
        own = [side for side in sides if side.none.corpus == corpus]
        blocks += [_agreement(corpus, own, outcomes), _ranks(corpus, own, outcomes)]
        blocks += _distances(corpus, own, evidence)
    return blocks


COLUMNS = (
    "", "waveform, two runs", "cache, two runs", "waveform and cache", "short of the ceiling",
    "none and waveform", "none and cache",
)  # fmt: skip


def _agreement(corpus: str, sides: Sequence[Compared], outcomes: Mapping[Trial, Outcomes]) -> Grid:
    title = f"Utterances predicted alike by two runs of different seeds, {corpus}, %"
    return Grid(title, COLUMNS, tuple(_alike(side, outcomes) for side in sides))


def _alike(side: Compared, outcomes: Mapping[Trial, Outcomes]) -> tuple[str, ...]:
    none, waveform, cache = (outcomes[t] for t in (side.none, side.waveform, side.cache))
    found = compare_forms(waveform, cache)
    gap = f"{_pc(found.gap, '+')} ({_pc(found.gap_low, '+')} to {_pc(found.gap_high, '+')})"
    others = [agreement(none.predictions, o.predictions).mean() for o in (waveform, cache)]
    scores = map(_pc, (found.first, found.second, found.across))
    return (side.name, *scores, gap, *map(_pc, others))


def _pc(value: float, sign: str = "") -> str:
    return f"{100 * value:{sign}.1f}"


def _ranks(corpus: str, sides: Sequence[Compared], outcomes: Mapping[Trial, Outcomes]) -> Grid:
    """Spearman's correlation of the gains of the two forms, by pair and over all rows."""
    gains = {
        side.name: [_gain(outcomes[side.none], outcomes[t]) for t in (side.waveform, side.cache)]
        for side in sides
    }
    groups = {pair: [s for s in sides if s.pair == pair] for pair in dict.fromkeys(
        side.pair for side in sides)}  # fmt: skip
    rows = []
    for name, members in {**groups, "all rows": list(sides)}.items():
        waveform, cache = np.array([gains[side.name] for side in members]).T
        found = rank_correlation(waveform, cache)
        rows.append((name, str(len(members)), "too few" if found is None else f"{found:+.2f}"))
    title = f"Spearman's rank correlation of the gains of the two forms over upstreams, {corpus}"
    return Grid(title, ("", "rows", "correlation"), tuple(rows))


def _gain(none: Outcomes, other: Outcomes) -> float:
    estimator = significance.estimator_of(none)
    return significance.point(other, "uar", estimator) - significance.point(none, "uar", estimator)


def _distances(corpus: str, sides: Sequence[Compared], evidence: Evidence) -> Iterator[Block]:
    """How far the means are from the joined waveforms', by upstream and layer."""
    found: dict[str, Distance] = {}
    for upstream in dict.fromkeys(side.none.upstream for side in sides):
        trials = [s.waveform for s in sides if s.none.upstream == upstream and s.pastes]
        opened = [evidence.sets(trial) for trial in trials]
        copies = [each for sets in opened for name, each in sets.items() if name != CLEAN]
        one = distance(opened[0][CLEAN], copies) if opened else None
        if one is not None:
            found[parse_request(upstream).name] = one
    if not found:
        yield Words((f"{corpus}: no pasted copy holds both recordings whole, so the distance of "
                     "pooled features is not measured",))  # fmt: skip
        return
    title = f"Distance of length-weighted means to pooled joined waveforms, {corpus}"
    yield _distance_table(title, found)
    series = [one.series(name) for name, one in found.items()]
    svg = lines(title, series, "layer", "RMS difference / RMS, %")
    yield Figure(f"distance-{corpus}", svg, f"{title}: median, 5th to 95th percentile of copies")


def _distance_table(title: str, found: Mapping[str, Distance]) -> Grid:
    columns = ("upstream", "layer", "copies", "cropped, left out", "RMS difference / RMS, median %",
               "95th percentile %", "of what joining changes, %")  # fmt: skip
    rows = []
    for name, one in found.items():
        high = np.quantile(one.relative, 0.95, axis=0)
        for layer, values in enumerate(zip(one.median, high, one.change, strict=True)):
            counts = (str(len(one.relative)), str(one.left_out))
            rows.append((name, str(layer), *counts, *(f"{100 * v:.2f}" for v in values)))
    return Grid(title, columns, tuple(rows), names=2)
