"""Acoustic conditions as a report: figure, tables, CSV and JSON."""

import csv
import io
import json
import math
from collections.abc import Sequence

from ser_features.acoustics.conditions import Conditions, overlaps
from ser_features.acoustics.measures import MEASURES
from ser_features.records import Json
from ser_features.report.document import Block, Document, Figure, Grid, Words
from ser_features.report.figures import distributions


def conditions_document(found: Sequence[Conditions]) -> Document:
    """The report: how each measure is distributed, and how alike corpora are."""
    alike = overlaps(found)
    blocks: list[Block] = [
        Figure(
            "conditions", _figure(found), "Each measure's distribution, by condition and corpus"
        ),
        *(_table(each) for each in found),
        *([_alike(alike)] if alike else []),
        Words(tuple(_methods()), listed=True),
        *([Words(lines, listed=True)] if (lines := tuple(_rejects(found))) else []),
    ]
    names = dict.fromkeys(each.corpus for each in found)
    return Document(f"Acoustic conditions of {', '.join(names)}", tuple(blocks))


def conditions_csv(found: Sequence[Conditions]) -> str:
    """One line an utterance and condition; an empty cell where a measure has no value."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(
        ["corpus", "condition", "id", *(f"{m.name} ({m.unit})" for m in MEASURES.values())]
    )
    for each in found:
        for name, row in zip(each.ids, each.values.tolist(), strict=True):
            numbers = ["" if math.isnan(value) else f"{value:.6g}" for value in row]
            writer.writerow([each.corpus, each.condition, name, *numbers])
    return file.getvalue()


def conditions_json(found: Sequence[Conditions]) -> str:
    """Summaries, overlaps and the methods."""
    methods = [{"name": m.name, "unit": m.unit, "method": m.method, "limits": m.limits}
               for m in MEASURES.values()]  # fmt: skip
    text = {
        "schema": 1,
        "conditions": [
            {
                "corpus": each.corpus,
                "condition": each.condition,
                "utterances": len(each.ids),
                "rejected": len(each.rejects),
                "measures": each.summary(),
            }
            for each in found
        ],
        "overlaps": overlaps(found),
        "measures": methods,
    }
    return json.dumps(text, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _figure(found: Sequence[Conditions]) -> str:
    rows = {
        condition: {
            name: {each.corpus: each.of(name) for each in found if each.condition == condition}
            for name in MEASURES
        }
        for condition in dict.fromkeys(each.condition for each in found)
    }
    return distributions(rows, {m.name: f"{m.title} ({m.unit})" for m in MEASURES.values()})


def _table(each: Conditions) -> Grid:
    rows = []
    for name, one in each.summary().items():
        measure = MEASURES[name]
        numbers = [one.get(key) for key in ("mean", "q05", "q25", "median", "q75", "q95")]
        texts = ["" if n is None else f"{n:.3g}" for n in numbers]
        rows.append((measure.title, measure.unit, str(one["count"]), *texts))
    columns = ("measure", "unit", "utterances", "mean", "5 %", "25 %", "median", "75 %", "95 %")
    return Grid(f"{each.corpus}, {each.condition}", columns, tuple(rows), names=2)


def _alike(alike: Sequence[dict[str, Json]]) -> Grid:
    rows = []
    for each in alike:
        values = [each["overlap"][name] for name in MEASURES]
        texts = ["" if value is None else f"{value:.2f}" for value in values]
        rows.append((" and ".join(each["corpora"]), str(each["condition"]), *texts))
    columns = ("corpora", "condition", *(m.title for m in MEASURES.values()))
    title = (
        "Overlap of the distributions (0: apart; two samples of one distribution read about 0.8 "
        "for 150 utterances, 0.9 for 1000)"
    )
    return Grid(title, columns, tuple(rows), names=2)


def _methods() -> list[str]:
    return [f"{m.title}: {m.method}. Limits: {m.limits}." for m in MEASURES.values()]


def _rejects(found: Sequence[Conditions]) -> list[str]:
    lines = []
    for each in found:
        listed = "; ".join(f"{r.id} ({r.reason})" for r in each.rejects[:5])
        more = f" and {len(each.rejects) - 5} more" if len(each.rejects) > 5 else ""
        if each.rejects:
            count = f"{len(each.rejects)} utterances could not be measured"
            lines.append(f"{each.corpus}, {each.condition}: {count}: {listed}{more}")
    return lines
