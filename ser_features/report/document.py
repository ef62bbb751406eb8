"""A report of words, tables and figures, and its forms: terminal, Markdown, HTML."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ser_features.report.cells import clean

_PAGE = Path(__file__).with_name("page")


@dataclass(frozen=True, slots=True)
class Grid:
    """A table of texts; the first ``names`` columns are names, the others numbers."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    names: int = 1


@dataclass(frozen=True, slots=True)
class Figure:
    """A picture as SVG text; ``name`` becomes its file name."""

    name: str
    svg: str
    caption: str


@dataclass(frozen=True, slots=True)
class Words:
    """Sentences; each is a paragraph, or a bullet where ``listed``."""

    lines: tuple[str, ...]
    listed: bool = False


Block = Grid | Figure | Words


@dataclass(frozen=True, slots=True)
class Document:
    """A title and what is below it."""

    title: str
    blocks: tuple[Block, ...]

    @property
    def figures(self) -> tuple[Figure, ...]:
        """The pictures."""
        return tuple(block for block in self.blocks if isinstance(block, Figure))


def as_markdown(document: Document) -> str:
    """Markdown; figures are links to ``NAME.svg`` beside it."""
    lines = [f"# {escape(document.title)}", ""]
    for block in document.blocks:
        if isinstance(block, Grid):
            lines += [f"**{escape(block.title)}**", "", *_grid(block), ""]
        elif isinstance(block, Figure):
            lines += [f"![{escape(block.caption)}]({block.name}.svg)", ""]
        elif block.listed:
            lines += [*(f"- {escape(each)}" for each in block.lines), ""]
        else:
            lines += [part for each in block.lines for part in (escape(each), "")]
    return "\n".join(lines).rstrip() + "\n"


def _grid(grid: Grid) -> list[str]:
    marks = (" --- " if i < grid.names else " ---: " for i in range(len(grid.columns)))
    rows = [f"| {' | '.join(map(escape, row))} |" for row in (grid.columns, *grid.rows)]
    return [rows[0], "|" + "|".join(marks) + "|", *rows[1:]]


def escape(text: str) -> str:
    """Text that Markdown shows as it is."""
    return re.sub(r"([\\`*_\[\]<>|#~$&])", r"\\\1", clean(text))


def templates() -> Environment:
    """Where pages come from: whatever is put into them is escaped."""
    return Environment(
        loader=FileSystemLoader(_PAGE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def as_html(document: Document) -> str:
    """One HTML file that needs no network; the only markup taken over is that of figures."""
    kinds = {Grid: "grid", Figure: "figure", Words: "words"}
    blocks = [(kinds[type(block)], block) for block in document.blocks]
    page = templates().get_template("document.html")
    return page.render(title=clean(document.title), blocks=blocks)


def as_terminal(document: Document) -> RenderableType:
    """A rich renderable; figures are named only."""
    parts: list[RenderableType] = [Text(clean(document.title), style="bold"), Text("")]
    for block in document.blocks:
        if isinstance(block, Grid):
            parts += [Text(clean(block.title), style="bold"), _table(block), Text("")]
        elif isinstance(block, Words):
            mark = "- " if block.listed else ""
            parts += [Text(mark + clean(each)) for each in block.lines] + [Text("")]
    return Group(*parts)


def _table(grid: Grid) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for i, column in enumerate(grid.columns):
        table.add_column(column, justify="left" if i < grid.names else "right", overflow="fold")
    for row in grid.rows:
        table.add_row(*(Text(clean(cell)) for cell in row))
    return table


def files(document: Document, name: str) -> Sequence[tuple[str, str]]:
    """File name -> text: ``NAME.md``, ``NAME.html`` and each figure."""
    pages = [(f"{name}.md", as_markdown(document)), (f"{name}.html", as_html(document))]
    return [*pages, *((f"{figure.name}.svg", figure.svg) for figure in document.figures)]
