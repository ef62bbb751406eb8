"""Scores over the ratio of added to real data: the figure of a sweep (paper 1, Fig. 1)."""

from collections.abc import Mapping, Sequence

from ser_features.report import cells
from ser_features.report.figures import Series, lines
from ser_features.rows import Row


def ratio_of(row: Row) -> float | None:
    """Added to real utterances in the row's training side; None without a strategy or a ratio."""
    training = row.config.get("training")
    strategy = training.get("strategy") if isinstance(training, Mapping) else None
    ratio = strategy.get("ratio") if isinstance(strategy, Mapping) else None
    return float(ratio) if isinstance(ratio, int | float) else None


def sweeps(rows: Sequence[Row]) -> dict[str, list[tuple[float, Row]]]:
    """Complete rows of one section that differ in their ratio only, two or more, by ratio.

    The row of the same upstream and head without other data is the point at 0.
    """
    found: dict[str, list[tuple[float, Row]]] = {}
    for row in rows:
        ratio = ratio_of(row)
        if ratio is not None and row.complete:
            way = cells.clean(row.strategy.removesuffix(f" {ratio:g}"))
            extra = filter(None, [cells.clean(row.upstream), cells.augmentation(row), way])
            name = f"{' + '.join(extra)} ({cells.clean(row.head)})"
            found.setdefault(name, []).append((ratio, row))
    whole = {name: points for name, points in found.items() if len(points) > 1}
    return {
        name: sorted([*_plain(points[0][1], rows), *points], key=lambda point: point[0])
        for name, points in whole.items()
    }


def _plain(of: Row, rows: Sequence[Row]) -> list[tuple[float, Row]]:
    same = (of.upstream, of.head)
    return [
        (0.0, row)
        for row in rows
        if (row.upstream, row.head) == same
        and row.complete
        and not (row.strategy or cells.augmentation(row))
    ][:1]


def figures(rows: Sequence[Row]) -> list[str]:
    """An SVG for each sweep among the rows of one section: UAR and WA with their 95 % intervals."""
    return [_figure(name, points) for name, points in sweeps(rows).items()]


def _figure(name: str, points: Sequence[tuple[float, Row]]) -> str:
    def series(title: str, score: str) -> Series:
        found = []
        for ratio, row in points:
            value = getattr(row, score) or 0.0
            low, high = getattr(row, f"{score}_ci") or (value, value)
            found.append((ratio, value, low, high))
        return Series(title, tuple(found))

    both = [series("UAR", "uar"), series("WA", "wa")]
    return lines(name, both, "added : real utterances", "%")
