"""A study's outcome as a report, as CSV and as JSON."""

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import asdict

from ser_features import metrics, significance
from ser_features.leaderboard import late_scores, outcomes_of
from ser_features.records import Json, RunRecord
from ser_features.report.conditions import conditions_document
from ser_features.report.document import Block, Document, Figure, Grid, Words
from ser_features.report.figures import Series, Square, bars, heat_map, lines
from ser_features.resampling import units_of
from ser_features.rows import ESTIMATORS
from ser_features.studies.published import printed_name, read_paper
from ser_features.studies.run import Outcome
from ser_features.studies.scores import LATE, Filled
from ser_features.studies.spec import SCRAMBLED, Crossing, Score, Trial


def study_document(outcome: Outcome) -> Document:
    """Protocol, deviations, tables beside the published numbers, figures, and what they mean."""
    study, plan = outcome.study, outcome.plan
    paper = read_paper(study.paper)
    said = (
        f"{study.tables}; {paper.authors}: {paper.title}.",
        f"Protocol by default: {study.protocol}.",
    )
    blocks: list[Block] = [Words(said)]
    if plan.deviations:
        blocks.append(Words(tuple(f"deviation: {each}" for each in plan.deviations), listed=True))
    for table in outcome.tables:
        blocks += [_grid(table), *_figure(table)]
    for name, record in outcome.confusions.items():
        blocks.append(_confusion(name, record))
    if outcome.conditions:
        blocks += conditions_document(outcome.conditions).blocks
    blocks += outcome.more
    if meaning := _meanings(outcome):
        blocks.append(Words(meaning))
    blocks.append(
        Words((*_legend(outcome), *plan.notes, *outcome.remarks, *_remarks(outcome)), listed=True)
    )
    return Document(f"Study {study.name}: {study.title}", tuple(blocks))


def _meanings(outcome: Outcome) -> tuple[str, ...]:
    tables = {table.spec.name: table for table in outcome.tables}

    def cell(table: str, row: str, column: str) -> Score | None:
        return tables[table](row, column)

    return tuple(line for say in outcome.plan.meanings for line in say(cell))


def _grid(table: Filled) -> Grid:
    """The cells as texts; a column of published numbers beside each that has any."""
    spec, rows = table.spec, dict.fromkeys(table.spec.rows)
    if spec.published is not None:
        shown = set(map(printed_name, rows))
        rows |= dict.fromkeys(row for row in spec.published.rows if row not in shown)
    paper = {c: [_published(table, row, c) for row in rows] for c in spec.columns}
    columns: list[str] = [spec.axes[0]]
    texts: list[list[str]] = [[row] for row in rows]
    for column in spec.columns:
        columns.append(column)
        for line, row in zip(texts, rows, strict=True):
            line.append(_text(table, row, column))
        if any(paper[column]):
            columns.append(f"{column}, paper")
            for line, value in zip(texts, paper[column], strict=True):
                line.append(value)
    return Grid(spec.title, tuple(columns), tuple(map(tuple, texts)))


def _text(table: Filled, row: str, column: str) -> str:
    """``57.1 (52.3 to 61.0) *``; in a relative table ``+3.1 (…)`` but for the reference.

    A late score has its deviation too: ``57.1 ± 1.2 (52.3 to 61.0)``.
    """
    score = table(row, column)
    if score is None:
        return ""
    relative = table.spec.relative and score.difference is not None
    value = score.difference if relative else score.value
    low, high = (
        (score.difference_low, score.difference_high) if relative else (score.low, score.high)
    )
    sign = "+" if relative else ""
    span = (
        "" if low is None or high is None else f" ({100 * low:{sign}.1f} to {100 * high:{sign}.1f})"
    )
    mark = " *" if score.p is not None and score.p <= 0.05 else ""
    spread = "" if score.spread is None or relative else f" ± {100 * score.spread:.1f}"
    return f"{100 * (value or 0.0):{sign}.1f}{spread}{span}{mark}"


def _published(table: Filled, row: str, column: str) -> str:
    if table.spec.published is None:
        return ""
    value = table.spec.published.value(row, column)
    sign = "+" if table.spec.relative else ""
    return "" if value is None else f"{100 * value:{sign}.1f}"


def _figure(table: Filled) -> list[Figure]:
    spec = table.spec
    if spec.figure == "heat":
        return [Figure(spec.name, _heat(table), spec.title)]
    makers = {"bars": _bars, "lines": _lines}
    return [Figure(spec.name, makers[spec.figure](table), spec.title)] if spec.figure else []


def _heat(table: Filled) -> str:
    spec = table.spec
    squares = []
    for row in spec.rows:
        scores = [(column, table(row, column)) for column in spec.columns]
        squares.append([_square(table, row, c, score) for c, score in scores])
    return heat_map(
        spec.title, spec.rows, spec.columns, squares, diverging=spec.relative, axes=spec.axes
    )


def _square(table: Filled, row: str, column: str, score: Score | None) -> Square:
    if score is None:
        return Square(None, "")
    value: float | None = score.value
    if table.spec.relative:
        value = score.difference if score.difference is not None else 0.0
    sign = "+" if table.spec.relative else ""
    about = f"{row}, {column}: {_text(table, row, column)}"
    return Square(value, f"{100 * (value or 0.0):{sign}.1f}", about)


def _bars(table: Filled) -> str:
    series = [Series(column, _points(table, column)) for column in table.spec.columns]
    return bars(table.spec.title, table.spec.rows, series, "%")


def _lines(table: Filled) -> str:
    series = []
    for column in table.spec.columns:
        points = zip(map(float, table.spec.rows), _points(table, column), strict=True)
        series.append(Series(column, tuple((x, *point[1:]) for x, point in points)))
    return lines(table.spec.title, series, *table.spec.axes)


def _points(table: Filled, column: str) -> tuple[tuple[float, float, float, float], ...]:
    points = []
    for i, row in enumerate(table.spec.rows):
        score = table(row, column)
        if score is not None:
            low, high = score.low, score.high
            ends = (score.value if low is None else low, score.value if high is None else high)
            points.append((float(i), score.value, *ends))
    return tuple(points)


def _confusion(name: str, record: RunRecord) -> Figure:
    """Percent of each true class, over folds and runs."""
    outcomes = outcomes_of(record)
    counts = sum(
        metrics.confusion(outcomes.truth, each, outcomes.num_labels)
        for each in outcomes.predictions
    )
    shares = counts / counts.sum(axis=1, keepdims=True).clip(min=1)  # type: ignore[union-attr]
    squares = [[Square(v, f"{100 * v:.0f}") for v in row] for row in shares.tolist()]
    title = f"Confusion matrix, {name} (% of the true class)"
    svg = heat_map(title, record.labels, record.labels, squares, axes=("true", "predicted"))
    return Figure(f"confusion-{name.lower().replace(' ', '-').replace(',', '')}", svg, title)


def _legend(outcome: Outcome) -> list[str]:
    entries = [e for t in outcome.plan.tables for e in t.entries.values()]
    chances = sorted({100 / len(record.labels) for record in outcome.records})
    chance = ", ".join(f"{each:.1f}" for each in chances)
    found = [f"scores in percent, chance UAR {chance}", *_how_scored(outcome)]
    if any(e.metric.startswith(LATE) for e in entries):
        counts = {int(late_scores(r).get("evaluations", 0)) for r in outcome.records} - {0}
        listed = ", ".join(map(str, sorted(counts)))
        found.append(
            "scores over the last fifth of training: means over its evaluations, each counted as a "
            f"run, ± their standard deviation (of {listed} evaluations)"
        )
    if any(table.against for table in outcome.plan.tables):
        found.append(
            "*: differs from its reference (the first row or column, or the in-corpus baseline), "
            "paired test of the same score on the same utterances, Holm-corrected over the table, "
            "p ≤ 0.05; no correction over several tables"
        )
    if any(table.published is not None for table in outcome.plan.tables):
        found.append("paper: what the paper prints, on its own splits and training")
    return found


def _how_scored(outcome: Outcome) -> list[str]:
    """How folds become one score and what the intervals resample, by the tested corpus."""
    crossed = any(isinstance(trial, Crossing) for trial in outcome.plan.trials)
    tested = {
        record.condition.removesuffix(SCRAMBLED) if crossed else record.corpus: record
        for record in outcome.records
    }
    scored: dict[str, list[str]] = {}
    units: dict[str, list[str]] = {}
    for corpus, record in tested.items():
        outcomes = outcomes_of(record)
        unit, kind = units_of(outcomes)
        scored.setdefault(significance.estimator_of(outcomes), []).append(corpus)
        units.setdefault(f"{unit.max() + 1} {kind}", []).append(corpus)
    resampled = ", ".join(f"{what} ({', '.join(of)})" for what, of in units.items())
    return [
        *(f"{', '.join(of)}: {ESTIMATORS[how]}" for how, of in scored.items()),
        f"in brackets a 95 % interval by a bootstrap that resamples {resampled}; training is not "
        "repeated in it",
    ]


def _remarks(outcome: Outcome) -> list[str]:
    """The leaderboard's warnings of each corpus, once."""
    found: dict[str, None] = {}
    single = {trial.corpus for trial in outcome.plan.trials if isinstance(trial, Trial)}
    for record in outcome.records:
        sentences = record.audit.get("sentences")
        said = [*(sentences if isinstance(sentences, list | tuple) else ()), *record.notes]
        about = f"{record.corpus}: " if len(single) > 1 else ""
        found |= dict.fromkeys(f"{about}{each}" for each in said)
    return list(found)


def _lines_of(outcome: Outcome) -> list[dict[str, Json]]:
    """Every cell as plain values."""
    return [
        _cell(table, row, column) for table in outcome.tables for row, column in table.spec.entries
    ]


def _cell(table: Filled, row: str, column: str) -> dict[str, Json]:
    score, entry = table.cells[row, column], table.spec.entries[row, column]
    printed = table.spec.published
    numbers: Mapping[str, Json] = {
        name: getattr(score, name)
        for name in ("value", "low", "high", "p", "difference", "difference_low",
                     "difference_high", "spread")
    }  # fmt: skip
    return {
        "table": table.spec.name,
        "row": row,
        "column": column,
        "metric": entry.metric,
        **numbers,
        "published": None if printed is None else printed.value(row, column),
        "training": entry.trial.about,
        "test": entry.test,
    }


def study_csv(outcome: Outcome) -> str:
    """One line a cell, scores in 0…1."""
    rows = _lines_of(outcome)
    file = io.StringIO()
    writer = csv.DictWriter(file, list(rows[0]) if rows else ["table"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def study_json(outcome: Outcome) -> str:
    """The study, its deviations, every cell, and the keys of the records behind it."""
    paper = read_paper(outcome.study.paper)
    text = {
        "schema": 1,
        "study": outcome.study.name,
        "paper": {"title": paper.title, "authors": paper.authors},
        "protocol": outcome.study.protocol,
        "deviations": list(outcome.plan.deviations),
        "notes": list(outcome.plan.notes),
        "meaning": list(_meanings(outcome)),
        "cells": _lines_of(outcome),
        "more": [asdict(block) for block in outcome.more if isinstance(block, Grid)],
        "records": [record.key for record in outcome.records],
    }
    return json.dumps(text, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
