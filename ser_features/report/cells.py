"""What every format shows in the same words: sections, cells, layer strips, the legend."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from ser_features.report.settings import settings
from ser_features.rows import ESTIMATORS, MARKS, Row

BARS = "▁▂▃▄▅▆▇█"
FEW = 6
"""With fewer speakers, the legend says what tests can tell."""


@dataclass(frozen=True, slots=True)
class Curve:
    """The layer-by-layer result of one upstream: (layer, row) with complete rows only."""

    upstream: str
    augmentation: str
    head: str
    points: tuple[tuple[int, Row], ...]
    settings: str = ""

    @property
    def name(self) -> str:
        """What tells it from the other curves of its section."""
        within = "; ".join(filter(None, (self.head, self.settings)))
        return clean(f"{name(self.points[0][1])} ({within})")


@dataclass(frozen=True, slots=True)
class Section:
    """Rows on one corpus, protocol, set of labels and test condition.

    ``curves`` are its rows of head layers.
    """

    corpus: str
    protocol: str
    labels: tuple[str, ...]
    rows: tuple[Row, ...]
    curves: tuple[Curve, ...]
    condition: str = "clean"

    @property
    def title(self) -> str:
        """One line that says what was tested."""
        every = [*self.rows, *(row for curve in self.curves for _, row in curve.points)]
        utterances = max((row.num_utterances for row in every), default=0)
        speakers = max((row.num_speakers for row in every), default=0)
        size = f"{utterances} utterances, {speakers or 'unknown'} speakers"
        tested = [] if self.condition == "clean" else [f"tested under {self.condition}"]
        return clean(
            " · ".join([self.corpus, self.protocol, ", ".join(self.labels), *tested, size])
        )


def sections(rows: Sequence[Row]) -> list[Section]:
    """The rows by group, in the order given."""
    found = []
    for (corpus, protocol, labels, condition), group in groupby(rows, lambda row: row.group):
        members = list(group)
        table = tuple(row for row in members if row.layer is None or not row.complete)
        curves = tuple(_curves(members))
        found.append(Section(corpus, protocol, labels, table, curves, condition))
    return found


def _curves(rows: Sequence[Row]) -> list[Curve]:
    points: dict[tuple[str, ...], list[tuple[int, Row]]] = {}
    apart = settings(rows)
    for row in rows:
        if row.layer is not None and row.complete:
            kind = (row.upstream, row.augmentation, row.head)
            key = (*kind, apart.get(id(row), ""), row.strategy)
            points.setdefault(key, []).append((row.layer, row))
    return [
        Curve(upstream, augmented, head, tuple(sorted(found, key=lambda x: x[0])), told)
        for (upstream, augmented, head, told, _), found in points.items()
    ]


def clean(text: str) -> str:
    """The text without characters that would steer a terminal or break a line."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def percent(score: float | None, digits: int = 1) -> str:
    """A score of 0…1 in percent; nothing for None.

    >>> percent(0.9049)
    '90.5'
    """
    return "" if score is None else f"{100 * score:.{digits}f}"


def interval(row: Row) -> str:
    """The 95 % interval of the UAR in percent, such as ``86.7–93.5``."""
    return "" if row.uar_ci is None else "–".join(percent(end) for end in row.uar_ci)


def spread(row: Row) -> str:
    """Standard deviation of the UAR over folds / over seeds, in percent; a dash for one value."""
    if not row.complete:
        return ""
    return " / ".join(percent(s) or "–" for s in (row.uar_std_folds, row.uar_std_seeds))


def uar(row: Row) -> str:
    """The UAR in percent, or what is missing: an incomplete row has no score."""
    if row.complete:
        return percent(row.uar)
    return f"{len(row.missing)} of {row.num_folds * row.num_seeds} missing"


def name(row: Row) -> str:
    """The upstream and, where there are, its augmentation and strategy."""
    return " + ".join(filter(None, (clean(row.upstream), augmentation(row), strategy(row))))


def augmentation(row: Row) -> str:
    """What was done to the training side; nothing where it is clean."""
    return "" if row.augmentation in ("", "none", "clean") else clean(row.augmentation)


def strategy(row: Row) -> str:
    """How other data entered training; nothing where none did."""
    return clean(row.strategy)


def apart(rows: Sequence[Row]) -> Callable[[Row], str]:
    """The cell of what differs between rows of one name; empty where a name is there once."""
    found = settings(rows)
    return lambda row: clean(found.get(id(row), ""))


def late(row: Row) -> str:
    """UAR over the last fifth of training, mean ± deviation in percent."""
    if not row.late:
        return ""
    return f"{percent(row.late['uar'])} ± {percent(row.late['uar_std'])}"


def symbols(row: Row) -> str:
    """The row's marks as signs, in the legend's order."""
    return " ".join(mark.symbol for key, mark in MARKS.items() if key in row.marks)


def strip(values: Sequence[float]) -> str:
    """Non-negative values as bars, the largest full.

    >>> strip([0.1, 0.2, 0.4])
    '▂▄█'
    """
    top = max(values, default=0.0)
    if top <= 0:
        return BARS[0] * len(values)
    return "".join(BARS[min(7, max(0, round(8 * value / top) - 1))] for value in values)


def curve_line(curve: Curve) -> str:
    """A curve as text: its strip, its best layer, and why that is optimistic."""
    scores = [row.uar or 0.0 for _, row in curve.points]
    low = min(scores)
    bars = strip([score - low + 0.02 for score in scores])
    layer, best = max(curve.points, key=lambda point: point[1].uar or 0.0)
    first, last = curve.points[0][0], curve.points[-1][0]
    return clean(
        f"{curve.name}: layers {first}–{last} {bars}  "
        f"highest: layer {layer}, UAR {percent(best.uar)} (picked on test data: optimistic)"
    )


def legend(rows: Sequence[Row]) -> list[str]:
    """What the columns and the marks in use mean, a sentence each."""
    used = {mark for row in rows for mark in row.marks}
    lines = [
        f"{mark.symbol} {mark.title}: {mark.meaning}" for key, mark in MARKS.items() if key in used
    ]
    estimators = dict.fromkeys(row.estimator for row in rows if row.estimator)
    lines += [f"scores: {ESTIMATORS[estimator]}" for estimator in estimators]
    units = dict.fromkeys((row.ci_num_units, row.ci_unit) for row in rows if row.ci_unit)
    if units:
        resampled = ", ".join(f"{count} {unit}" for count, unit in units)
        lines.append(f"95 % CI: of the UAR, by a bootstrap that resamples {resampled}")
        few = [f"{count} {unit}" for count, unit in units if count and count < FEW]
        if few:
            lines.append(
                f"only {', '.join(few)}: tests tell large differences alone; "
                "★ and B may be on rows far from the best, or far above a baseline"
            )
        lines.append("± folds / seeds: standard deviation of the UAR over folds, and over seeds")
    if any(row.late for row in rows):
        lines.append(
            "late UAR: mean ± deviation over the evaluations in the last 20 % of training; "
            "rows are ranked by the selected checkpoint's UAR"
        )
    return lines


def remarks(rows: Sequence[Row]) -> Mapping[str, list[str]]:
    """Each distinct remark or note, and the names of the rows it is about (all of them: none)."""
    said: dict[str, list[str]] = {}
    apart = settings(rows)
    for row in rows:
        within = clean("; ".join(filter(None, (row.head, apart.get(id(row))))))
        for remark in dict.fromkeys((*row.remarks, *row.notes)):
            said.setdefault(clean(remark), []).append(f"{name(row)} ({within})")
    return {text: [] if len(names) == len(rows) > 1 else names for text, names in said.items()}


def remark_lines(rows: Sequence[Row]) -> list[str]:
    """The remarks as lines, each followed by the rows it is about."""
    lines = []
    for text, names in remarks(rows).items():
        more = f" and {len(names) - 4} more" if len(names) > 4 else ""
        about = f"{', '.join(names[:4])}{more}: " if names else ""
        lines.append(about + text)
    return lines
