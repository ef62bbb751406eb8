"""Records to filled cells: scores, intervals, differences and paired tests."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from ser_features import intervals, metrics, significance
from ser_features.leaderboard import late_scores, outcomes_of
from ser_features.records import RunRecord
from ser_features.significance import Outcomes
from ser_features.studies.spec import Crossing, Entry, Score, TableSpec, Trial

Found = Mapping[tuple[Trial | Crossing, str], RunRecord]
Key = tuple[str, str]


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
    outcomes = {record.key: outcomes_of(record) for record in records.values()}
    cells = {key: _score(table.entries[key], records[key], outcomes) for key in records}
    pairs = {
        key: other
        for key, other in table.against.items()
        if key in records and other in records and records[key].key != records[other].key
    }
    tests = {
        key: _test(table.entries[key].metric, records[key], records[other], outcomes)
        for key, other in pairs.items()
    }
    corrected = significance.holm([p for p in tests.values() if p is not None])
    known = dict(zip([k for k, p in tests.items() if p is not None], corrected, strict=True))
    for key, other in table.against.items():
        if key in cells and other in cells:
            cells[key] = _compared(key, other, table, cells, records, outcomes, known.get(key))
    return Filled(table, cells)


def _score(entry: Entry, record: RunRecord, outcomes: Mapping[str, Outcomes]) -> Score:
    each, (kind, _, rest) = outcomes[record.key], entry.metric.partition(":")
    if kind == "class_f1":
        return Score(_class_f1(each, record.labels.index(rest)))
    if kind == "late":
        late = late_scores(record)
        spread = late[f"{rest}_std"]
        return Score(late[rest], late[rest] - spread, late[rest] + spread)
    estimator = significance.estimator_of(each)
    span = intervals.interval(each, kind, estimator)
    return Score(significance.point(each, kind, estimator), span.low, span.high)


def _class_f1(outcomes: Outcomes, label: int) -> float:
    """F1 of one class, from the predictions of all folds, mean over runs."""
    values = []
    for predicted in outcomes.predictions:
        counts = metrics.confusion(outcomes.truth, predicted, outcomes.num_labels)
        total = counts[label].sum() + counts[:, label].sum()
        values.append(2 * counts[label, label] / total if total else 0.0)
    return float(np.mean(values))


def _test(
    metric: str, first: RunRecord, second: RunRecord, outcomes: Mapping[str, Outcomes]
) -> float | None:
    """p of the paired test of the score; None where the two were not tested on the same.

    Of a late score it is that of the selected checkpoint; there is none for a class's F1.
    """
    one, other = outcomes[first.key], outcomes[second.key]
    tested = metric.removeprefix("late:")
    if tested not in significance.METRICS or not significance.paired(one, other):
        return None
    return significance.compare(one, other, significance.estimator_of(one), tested).p


def _compared(
    key: Key,
    other: Key,
    table: TableSpec,
    cells: Mapping[Key, Score],
    records: Mapping[Key, RunRecord],
    outcomes: Mapping[str, Outcomes],
    p: float | None,
) -> Score:
    """The cell with its difference to the reference; an interval where both are paired."""
    score = replace(cells[key], difference=cells[key].value - cells[other].value, p=p)
    metric = table.entries[key].metric
    one, two = outcomes[records[key].key], outcomes[records[other].key]
    if p is None or metric not in significance.METRICS:
        return score
    estimator = significance.estimator_of(one)
    span = intervals.difference_interval(one, two, metric, estimator)
    return replace(score, difference_low=span.low, difference_high=span.high)
