"""What a cell and the legend below a study's tables say of scores."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ser_features import intervals, significance
from ser_features.leaderboard import late_scores, outcomes_of
from ser_features.records import RunRecord
from ser_features.report.document import as_markdown
from ser_features.studies.outputs import study_document
from ser_features.studies.run import Outcome
from ser_features.studies.scores import fill, predicted
from ser_features.studies.spec import Entry, Plan, TableSpec, Trial
from ser_features.studies.table import STUDIES
from ser_features.train.run import Training

METRICS = ("uar", "late:uar")


def trial(upstream: str) -> Trial:
    return Trial("emodb", upstream, "superb", Training(), "loso", (), 1)


def made(upstream: str, accuracy: float, draw: int, **changes: Any) -> RunRecord:
    """A record whose two late evaluations are another draw than the selected checkpoint."""
    from record_factory import make_record

    record = make_record(upstream, accuracy, draw=draw, **changes)
    others = [make_record(upstream, accuracy, draw=draw + n, **changes) for n in (50, 60)]
    scores = [
        replace(one, late=tuple((step, o.scores[i].predictions) for step, o in enumerate(others)))
        for i, one in enumerate(record.scores)
    ]
    return replace(record, scores=tuple(scores))


def outcome_of(*records: RunRecord) -> Outcome:
    """A study of one table: a row a record, compared with the first."""
    rows = tuple(record.upstream for record in records)
    entries = {(r, m): Entry(trial(r), "clean", m) for r in rows for m in METRICS}
    against = {(r, m): (rows[0], m) for r in rows[1:] for m in METRICS}
    plan = Plan((TableSpec("t", "T", rows, METRICS, entries, against),), ())
    found = {(trial(r.upstream), "clean"): r for r in records}
    table = fill(plan.tables[0], found)
    return Outcome(STUDIES["upstreams"], None, plan, (table,), tuple(records))  # type: ignore[arg-type]


def test_interval_and_test_of_a_late_score_are_of_that_score() -> None:
    good, bad = made("good", 0.85, 1), made("bad", 0.6, 2)
    (table,) = outcome_of(good, bad).tables
    cell, late = table("bad", "late:uar"), predicted("late:uar", bad)
    assert cell is not None
    assert len(late.predictions) == 2 * len(outcomes_of(bad).predictions)
    assert cell.value == pytest.approx(late_scores(bad)["uar"])
    assert cell.spread == pytest.approx(late_scores(bad)["uar_std"])
    span = intervals.interval(late, "uar", "folds")
    assert (cell.low, cell.high) == (span.low, span.high)
    own = significance.compare(late, predicted("late:uar", good), "folds").p
    selected = significance.compare(outcomes_of(bad), outcomes_of(good), "folds").p
    assert own != selected
    assert cell.p == pytest.approx(significance.holm([selected, own])[1])
    assert cell.difference_low is not None
    assert cell.difference_low < cell.difference < 0  # type: ignore[operator]


def test_deviation_and_interval_are_told_apart() -> None:
    words = as_markdown(study_document(outcome_of(made("good", 0.85, 1), made("bad", 0.6, 2))))
    late = late_scores(made("bad", 0.6, 2))
    assert f"{100 * late['uar']:.1f} ± {100 * late['uar_std']:.1f} (" in words
    assert "± their standard deviation (of 2 evaluations)" in words
    assert "no correction over several tables" in words


def test_the_legend_says_how_folds_are_joined_and_what_is_resampled() -> None:
    words = as_markdown(study_document(outcome_of(made("one", 0.8, 1))))
    assert "emodb: mean over test folds and seeds" in words
    assert "resamples 10 speakers (emodb); training is not repeated in it" in words
    record = made("one", 0.8, 1)
    unknown = replace(record, speakers=dict.fromkeys(record.speakers))
    words = as_markdown(study_document(outcome_of(unknown)))
    count = len(np.unique(list(record.truth)))
    assert f"resamples {count} utterances (emodb)" in words
