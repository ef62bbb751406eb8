"""The leaderboard as one HTML file that needs no network, and that no name can break out of."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

from ser_features.fingerprint import fingerprint
from ser_features.records import Json
from ser_features.report import cells, ratios
from ser_features.report.cells import Curve, Section
from ser_features.report.document import templates
from ser_features.rows import ESTIMATORS, MARKS, Row, row_json

_WIDTH, _HEIGHT = 640, 300  # of a curve's plotting area, in SVG units

NUM_HUES = 10
"""Colours of curves and dots in ``page.css``."""


def as_html(rows: Sequence[Row], problems: Sequence[str] = (), folder: Path | None = None) -> str:
    """The page. Links to records are relative to ``folder``, or absolute where it is None."""
    environment = templates()
    environment.filters["percent"] = cells.percent
    numbers = {id(row): i for i, row in enumerate(rows)}
    found = [_section(section, numbers, folder) for section in cells.sections(rows)]
    return environment.get_template("page.html").render(
        sections=found,
        heads=sorted({row.head for row in rows}),
        marks=[(key, mark) for key, mark in MARKS.items() if any(key in r.marks for r in rows)],
        all_marks=MARKS,
        legend=cells.legend(rows),
        problems=[cells.clean(problem) for problem in problems],
    )


def _section(section: Section, numbers: dict[int, int], folder: Path | None) -> dict[str, Any]:
    every = [*section.rows, *(row for curve in section.curves for _, row in curve.points)]
    apart = cells.apart(section.rows)
    views = {
        id(row): {**_row(row, numbers[id(row)], folder), "settings": apart(row)} for row in every
    }
    table = [views[id(row)] for row in section.rows]
    return {
        "title": section.title,
        "chance": 1 / max(1, len(section.labels)),
        "rows": table,
        "augmented": any(map(cells.augmentation, section.rows)),
        "strategies": any(map(cells.strategy, section.rows)),
        "settings": any(map(apart, section.rows)),
        "details": list(views.values()),
        "remarks": cells.remark_lines(section.rows),
        "curves": _chart(section) if section.curves else None,
        "ratios": [Markup(figure) for figure in ratios.figures(section.rows)],
        "num_layers": max((len(row.layer_weights) for row in section.rows), default=0),
        "costs": list(dict.fromkeys(name for row in section.rows for name in row.cost)),
        "audits": _audits(section.rows),
    }


def _row(row: Row, number: int, folder: Path | None) -> dict[str, Any]:
    """What the page shows of a row: the row itself and texts made from it."""
    seeds = sorted({score["seed"] for score in row.fold_scores})
    top = max(row.layer_weights, default=1.0)
    return {
        "row": row,
        "id": f"row-{number}",
        "name": cells.name(row),
        "upstream": cells.clean(row.upstream),
        "augmentation": cells.augmentation(row),
        "strategy": cells.strategy(row),
        "late": cells.late(row),
        "head": row.head if row.layer is None else f"{row.head} {row.layer}",
        "estimator": ESTIMATORS.get(row.estimator or "", ""),
        "spread": cells.spread(row),
        "uar": cells.uar(row),
        "strip": [(weight, weight / top) for weight in row.layer_weights],
        "dots": [_dot(score, seeds) for score in row.fold_scores],
        "confusion": [_shares(counts) for counts in row.confusion or ()],
        "provenance": _pretty({"config": row.config, "provenance": row.provenance}),
        "links": [(Path(path).name, _link(path, folder)) for path in row.paths],
    }


def _dot(score: Mapping[str, Json], seeds: Sequence[int]) -> dict[str, Json]:
    """A fold's score with the colour and the lane (0…1) of its seed."""
    place = seeds.index(score["seed"])
    return {**score, "hue": place % NUM_HUES, "lane": (place + 0.5) / len(seeds)}


def _shares(counts: Sequence[int]) -> list[tuple[int, float]]:
    total = sum(counts)
    return [(count, count / total if total else 0.0) for count in counts]


def _pretty(value: Json) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False, sort_keys=True, default=str)


def _link(path: str, folder: Path | None) -> str:
    """A URL that can only be a file: a path that looks like a scheme stays a path."""
    if folder is None:
        return Path(path).absolute().as_uri()
    return "./" + quote(os.path.relpath(path, folder))


def _audits(rows: Sequence[Row]) -> list[dict[str, Json]]:
    """Each distinct audit and which rows it is about; rows without one have ``known`` False."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(fingerprint(row_json(row)["audit"]), []).append(row)
    found = []
    for members in groups.values():
        audit = members[0].audit
        found.append(
            {
                "about": "all rows" if len(groups) == 1 else ", ".join(map(cells.name, members)),
                "known": bool(audit),
                "sentences": _items(audit, "sentences", str),
                "shared": [
                    {**each, "examples": _items(each, "examples", str)}
                    for each in _items(audit, "shared", dict)
                ],
            }
        )
    return found


def _items(audit: Mapping[str, Json], name: str, kind: type) -> list[Json]:
    """A list of a record's audit; other programs may have written something else there."""
    value = audit.get(name)
    return [each for each in value if isinstance(each, kind)] if isinstance(value, list) else []


def _chart(section: Section) -> dict[str, Any]:
    """Layer curves in SVG units; the y axis spans the scores seen, in steps of ten percent."""
    points = [point for curve in section.curves for point in curve.points]
    last = max(1, *(layer for layer, _ in points))
    beside = [b for curve in section.curves for b in _beside(curve, section)]
    low = int(10 * min([row.uar or 0.0 for _, row in points] + beside)) / 10

    def place(layer: int, score: float) -> tuple[float, float]:
        return round(_WIDTH * layer / last, 1), round(_HEIGHT * (1 - score) / (1 - low), 1)

    lines = [_line(curve, section, i, place) for i, curve in enumerate(section.curves)]
    ticks = [low + 0.1 * i for i in range(round((1 - low) * 10) + 1)]
    step = 1 + last // 13
    return {
        "width": _WIDTH,
        "height": _HEIGHT,
        "lines": lines,
        "x": [(layer, place(layer, low)[0]) for layer in range(0, last + 1, step)],
        "y": [(round(100 * tick), place(0, tick)[1]) for tick in ticks],
    }


def _line(curve: Curve, section: Section, index: int, place: Any) -> dict[str, Any]:
    """One curve, and beside it the weighted sum of layers where it was run on the same upstream."""
    beside = _beside(curve, section)
    return {
        "name": curve.name,
        "hue": index % NUM_HUES,
        "points": [(*place(layer, row.uar or 0.0), layer, row) for layer, row in curve.points],
        "beside": beside[0] if beside else None,
        "beside_y": place(0, beside[0])[1] if beside else None,
    }


def _beside(curve: Curve, section: Section) -> list[float]:
    """Scores of the weighted sum of layers on the same upstream."""
    same = (curve.upstream, curve.augmentation, "superb")
    return [r.uar for r in section.rows if (r.upstream, r.augmentation, r.head) == same and r.uar]
