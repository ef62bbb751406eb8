"""Records to filled cells: scores, intervals, differences and paired tests."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from ser_features import intervals, metrics, significance
from ser_features.leaderboard import late_outcomes, late_scores, outcomes_of
from ser_features.records import RunRecord
from ser_features.significance import Outcomes
from ser_features.studies.spec import Crossing, Entry, Score, TableSpec, Trial

Found = Mapping[tuple[Trial | Crossing, str], RunRecord]
Key = tuple[str, str]
LATE = "late:"


@dataclass(frozen=True, slots=True)
class Filled:
    """A table with its cells."""

    spec: TableSpec
    cells: Mapping[Key, Score]

    def __call__(self, row: str, column: str) -> Score | None:
        """The filled cell; None where the study does not fill it."""
        return self.cells.get((row, column))


def fill(table: TableSpec, found: Found) -> Filled:
    """Every cell, compared with its reference where it has one; p is Holm-corrected."""
    records = {key: found[entry.trial, entry.test] for key, entry in table.entries.items()}
    outcomes = {key: predicted(table.entries[key].metric, records[key]) for key in records}
    cells = {key: _score(table.entries[key], records[key], outcomes[key]) for key in records}
    tests = {
        key: _test(table.entries[key].metric, outcomes[key], outcomes[other])
        for key, other in table.against.items()
        if key in records and other in records and records[key].key != records[other].key
    }
    corrected = significance.holm([p for p in tests.values() if p is not None])
    known = dict(zip([k for k, p in tests.items() if p is not None], corrected, strict=True))
    for key, other in table.against.items():
        if key in cells and other in cells:
            both = outcomes[key], outcomes[other]
            metric, p = table.entries[key].metric, known.get(key)
            cells[key] = _compared(cells[key], cells[other], metric, both, p)
    return Filled(table, cells)


def predicted(metric: str, record: RunRecord) -> Outcomes:
    """The predictions that a metric scores: of a late one, each evaluation counts as a run."""
    if not metric.startswith(LATE):
        return outcomes_of(record)
    found = late_outcomes(record)
    return replace(found[0], predictions=np.concatenate([each.predictions for each in found]))


def _score(entry: Entry, record: RunRecord, outcomes: Outcomes) -> Score:
    kind, _, label = entry.metric.removeprefix(LATE).partition(":")
    if kind == "class_f1":
        return Score(_class_f1(outcomes, record.labels.index(label)))
    estimator = significance.estimator_of(outcomes)
    span = intervals.interval(outcomes, kind, estimator)
    late = late_scores(record) if entry.metric.startswith(LATE) else {}
    value = significance.point(outcomes, kind, estimator)
    return Score(value, span.low, span.high, spread=late.get(f"{kind}_std"))


def _class_f1(outcomes: Outcomes, label: int) -> float:
    """F1 of one class, from the predictions of all folds, mean over runs."""
    values = []
    for predictions in outcomes.predictions:
        counts = metrics.confusion(outcomes.truth, predictions, outcomes.num_labels)
        total = counts[label].sum() + counts[:, label].sum()
        values.append(2 * counts[label, label] / total if total else 0.0)
    return float(np.mean(values))


def _test(metric: str, one: Outcomes, other: Outcomes) -> float | None:
    """p of the paired test of the score; None where the two were not tested on the same.

    There is none for a class's F1.
    """
    tested = metric.removeprefix(LATE)
    if tested not in significance.METRICS or not significance.paired(one, other):
        return None
    return significance.compare(one, other, significance.estimator_of(one), tested).p


def _compared(
    own: Score, other: Score, metric: str, both: tuple[Outcomes, Outcomes], p: float | None
) -> Score:
    """The cell with its difference to the reference; an interval where both are paired."""
    score = replace(own, difference=own.value - other.value, p=p)
    if p is None:
        return score
    estimator = significance.estimator_of(both[0])
    span = intervals.difference_interval(*both, metric.removeprefix(LATE), estimator)
    return replace(score, difference_low=span.low, difference_high=span.high)
