"""The figures of studies: distributions, heat maps, lines and bars. Each gives SVG text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ser_features.report import svg
from ser_features.report.svg import COLOURS, Box

Floats = NDArray[np.float64]
_PANEL, _GAP, _TALL = 150, 46, 90


def distributions(
    rows: Mapping[str, Mapping[str, Mapping[str, Floats]]], units: Mapping[str, str]
) -> str:
    """Densities as in paper 3's Fig. 4: ``rows[condition][measure][corpus]`` are values.

    A row of panels for each condition, a column for each measure; each column has one range.
    ``units`` maps the measures, in their order, to the words on their axes.
    """
    corpora = list(dict.fromkeys(c for row in rows.values() for cell in row.values() for c in cell))
    parts = svg.legend(70, 20, corpora)
    top = 40 + 15 * len(corpora)
    for i, (condition, row) in enumerate(rows.items()):
        y = top + i * (_TALL + _GAP)
        parts.append(svg.text(14, y + _TALL / 2, condition, anchor="middle", turn=-90, bold=True))
        for j, (measure, title) in enumerate(units.items()):
            limits = _limits([v for r in rows.values() for v in r[measure].values()])
            box = Box(40 + j * (_PANEL + 20), y, _PANEL, _TALL, limits, (0, 1))
            parts += svg.axes(box, title, scale=0)
            parts += [
                svg.path(_density(row[measure][corpus], box), COLOURS[k % 10], COLOURS[k % 10])
                for k, corpus in enumerate(corpora)
                if len(row[measure].get(corpus, ()))
            ]
    width, height = 50 + len(units) * (_PANEL + 20), top + len(rows) * (_TALL + _GAP)
    return svg.document(width, height, "Distributions of acoustic conditions", parts)


def _limits(values: Sequence[Floats]) -> tuple[float, float]:
    every = np.concatenate([np.asarray(each) for each in values])
    if not len(every):
        return 0.0, 1.0
    low, high = np.quantile(every, (0.005, 0.995))
    spare = 0.05 * (high - low) or 0.5
    return float(low - spare), float(high + spare)


def _density(values: Floats, box: Box) -> list[tuple[float, float]]:
    """A smoothed histogram, its peak at the top of the panel."""
    bins = 48
    counts, edges = np.histogram(np.clip(values, *box.x), np.linspace(*box.x, bins + 1))
    kernel = np.exp(-0.5 * (np.arange(-4, 5) / 1.5) ** 2)
    smooth = np.convolve(counts, kernel / kernel.sum(), "same")
    heights = 0.95 * smooth / max(smooth.max(), 1e-12)
    centres = (edges[1:] + edges[:-1]) / 2
    inner = [box.at(x, y) for x, y in zip(centres, heights, strict=True)]
    return [box.at(box.x[0], 0), *inner, box.at(box.x[1], 0)]


@dataclass(frozen=True, slots=True)
class Square:
    """One cell of a heat map: ``value`` colours it, ``words`` stand in it, ``about`` explains."""

    value: float | None
    words: str
    about: str = ""


def heat_map(
    title: str,
    rows: Sequence[str],
    columns: Sequence[str],
    squares: Sequence[Sequence[Square]],
    *,
    diverging: bool = False,
    axes: tuple[str, str] = ("", ""),
) -> str:
    """A matrix of coloured numbers; ``diverging`` colours around 0. Rows × columns of squares."""
    wide, tall = 76, 34
    left = 30 + 6.2 * max(map(len, rows), default=0)
    top = 66
    values = [abs(s.value) for row in squares for s in row if s.value is not None]
    limit = max(values, default=1.0) or 1.0
    parts = [svg.text(left, 18, title, bold=True), svg.text(left, 36, axes[1])]
    parts += [svg.text(left - 8, top - 8, axes[0], anchor="end")]
    for j, column in enumerate(columns):
        parts.append(svg.text(left + wide * (j + 0.5), top - 8, column, anchor="middle"))
    for i, (name, row) in enumerate(zip(rows, squares, strict=True)):
        y = top + tall * i
        parts.append(svg.text(left - 8, y + tall / 2 + 4, name, anchor="end"))
        for j, square in enumerate(row):
            parts += _square(square, left + wide * j, y, (wide, tall), limit, diverging)
    width = max(left + wide * len(columns) + 12, left + 6.6 * len(title))
    return svg.document(width, top + tall * len(rows) + 12, title, parts)


def _square(
    square: Square, x: float, y: float, size: tuple[int, int], limit: float, diverging: bool
) -> list[str]:
    if square.value is None:
        return [svg.rect(x, y, size[0] - 1, size[1] - 1, "#f4f4f4", square.about)]
    fill = svg.shade(square.value, limit, diverging=diverging)
    place = (x + size[0] / 2, y + size[1] / 2 + 4)
    return [
        svg.rect(x, y, size[0] - 1, size[1] - 1, fill, square.about),
        svg.text(*place, square.words, anchor="middle", fill=svg.ink_on(fill)),
    ]


@dataclass(frozen=True, slots=True)
class Series:
    """One line or one colour of bars: ``(x, y, low, high)``, low and high the error bar's ends."""

    name: str
    points: tuple[tuple[float, float, float, float], ...]


def lines(title: str, series: Sequence[Series], x_title: str, y_title: str) -> str:
    """Lines with error bars; y is in 0…1 and shown in percent."""
    box = _frame(series, None)
    parts = [svg.text(box.left, 18, title, bold=True)]
    parts += svg.axes(box, x_title, y_title, scale=100)
    for i, one in enumerate(series):
        colour = COLOURS[i % len(COLOURS)]
        parts.append(svg.path([box.at(x, y) for x, y, _, _ in one.points], colour))
        parts += [svg.line(box.at(x, lo), box.at(x, hi), colour) for x, _, lo, hi in one.points]
    parts += svg.legend(box.left + box.width + 16, 46, [one.name for one in series])
    return svg.document(*_size(box, [one.name for one in series]), title, parts)


def bars(title: str, groups: Sequence[str], series: Sequence[Series], y_title: str) -> str:
    """Grouped bars with error bars; a series has one point for each group, x its number."""
    box = _frame(series, len(groups))
    parts = [svg.text(box.left, 18, title, bold=True)]
    parts += [part for part in svg.axes(box, "", y_title, scale=100) if part]
    bottom = box.top + box.height
    parts.append(svg.rect(box.left, bottom + 1, box.width, 18, "#ffffff"))
    wide = 0.8 / max(1, len(series))
    for i, one in enumerate(series):
        for x, y, low, high in one.points:
            left, top = box.at(x - 0.4 + i * wide, y)
            right, _ = box.at(x - 0.4 + (i + 0.92) * wide, y)
            about = f"{one.name}, {groups[int(x)]}: {100 * y:.1f}"
            colour = COLOURS[i % len(COLOURS)]
            parts.append(svg.rect(left, top, right - left, bottom - top, colour, about))
            centre = x - 0.4 + (i + 0.46) * wide
            parts.append(svg.line(box.at(centre, low), box.at(centre, high)))
    for i, group in enumerate(groups):
        parts.append(svg.text(box.at(i, 0)[0], bottom + 14, group, anchor="middle"))
    parts += svg.legend(box.left + box.width + 16, 46, [one.name for one in series])
    return svg.document(*_size(box, [one.name for one in series]), title, parts)


def _frame(series: Sequence[Series], groups: int | None) -> Box:
    """The plotting area: y around the error bars, from 0 where there are bars (``groups``)."""
    points = [point for one in series for point in one.points]
    low = min((p[2] for p in points), default=0.0)
    high = max((p[3] for p in points), default=1.0)
    spare = 0.06 * (high - low) or 0.02
    xs = [p[0] for p in points] or [0.0]
    across = (-0.5, groups - 0.5) if groups else (min(xs), max(xs))
    y = (0.0 if groups else max(0.0, low - spare), min(1.0, high + spare))
    width = 420 if groups is None else max(260, 110 * groups)
    return Box(58, 34, width, 220, across, y)


def _size(box: Box, names: Sequence[str]) -> tuple[float, float]:
    words = 6.4 * max(map(len, names), default=0)
    return box.left + box.width + 46 + words, box.top + box.height + 40
