"""The leaderboard for a terminal, as a rich renderable that fits the width it is given."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.table import Table
from rich.text import Text

from ser_features.report import cells
from ser_features.rows import Row


@dataclass(frozen=True, slots=True)
class Column:
    """A column; those of the highest ``rank`` are dropped first where the terminal is narrow."""

    title: str
    cell: Callable[[Row], str]
    rank: float
    justify: str = "right"
    widest: int | None = None
    """Longer cells are folded at this width."""


NAMES = 0.5
"""Rank of columns that tell rows apart: as good as never dropped, but left out where empty."""

COLUMNS = (
    Column("upstream", lambda row: cells.clean(row.upstream), 0, "left"),
    Column("augmentation", cells.augmentation, NAMES, "left"),
    Column("strategy", cells.strategy, NAMES, "left"),
    Column("head", lambda row: cells.clean(row.head), 0, "left"),
    Column("UAR", cells.uar, 0),
    Column("95 % CI", cells.interval, 2),
    Column("± folds / seeds", cells.spread, 5),
    Column("WA", lambda row: cells.percent(row.wa), 3),
    Column("macro-F1", lambda row: cells.percent(row.macro_f1), 7),
    Column("weighted F1", lambda row: cells.percent(row.weighted_f1), 6),
    Column("late UAR", cells.late, 6),
    Column("layer weights", lambda row: cells.strip(row.layer_weights), 4, "left"),
    Column("marks", cells.symbols, 1, "left"),
)
NAMED = 4
"""Of these columns so many name the row."""


class SectionTable:
    """One section's table; narrow terminals lose the less important columns, never a row."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = rows

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> Iterator[RenderableType]:
        apart = Column("settings", cells.apart(self.rows), NAMES, "left", widest=24)
        columns = [*COLUMNS[:NAMED], apart, *COLUMNS[NAMED:]]
        columns = [c for c in columns if c.rank == 0 or any(c.cell(row) for row in self.rows)]
        every = columns.copy()
        while _width(columns, self.rows) > options.max_width:
            last = max(columns, key=lambda column: column.rank)
            if last.rank < 1:
                break
            columns.remove(last)
        yield self._table(columns)
        dropped = ", ".join(column.title for column in every if column not in columns)
        if dropped:
            yield Text(f"not shown at this width: {dropped}", style="dim")

    def _table(self, columns: Sequence[Column]) -> Table:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in columns:
            left = column.justify == "left"
            table.add_column(
                column.title,
                justify="left" if left else "right",
                overflow="fold",
                max_width=column.widest,
            )
        for row in self.rows:
            style = "bold" if "best" in row.marks else "dim" if not row.complete else ""
            table.add_row(*(Text(column.cell(row)) for column in columns), style=style)
        return table


def leaderboard(rows: Sequence[Row], problems: Sequence[str] = ()) -> RenderableType:
    """The whole leaderboard: a table for each group, marks explained below, problems last.

    No text from outside is read as rich markup or sent as a control code.
    """
    parts: list[RenderableType] = []
    for section in cells.sections(rows):
        parts += [Text(section.title, style="bold"), SectionTable(section.rows)]
        parts += [Text(cells.curve_line(curve)) for curve in section.curves]
        parts += [Text(line, style="dim") for line in cells.remark_lines(section.rows)]
        parts += [Text("")]
    parts += [Text(line, style="dim") for line in cells.legend(rows)]
    parts += [Text(f"not used: {cells.clean(each)}", style="red") for each in problems]
    if not rows:
        parts.insert(0, Text("no results yet: run 'serfeat bench' first"))
    return Group(*parts)


def _width(columns: Sequence[Column], rows: Sequence[Row]) -> int:
    return sum(_column_width(column, rows) + 2 for column in columns) - 1


def _column_width(column: Column, rows: Sequence[Row]) -> int:
    width = max(map(cell_len, (column.title, *(column.cell(row) for row in rows))))
    return width if column.widest is None else min(width, column.widest)
