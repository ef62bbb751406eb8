"""Where the command line prints: results to standard output, everything else to standard error."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

# A pipe or file has no width of its own, and names cut to 80 columns could not be used.
PIPED_WIDTH = 140
out = Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else PIPED_WIDTH)
err = Console(stderr=True)
INTERRUPTED = "interrupted: what is written stays; run the same command again to go on"


def line(text: str) -> None:
    """Print one line to standard error as it is: no markup, no wrapping."""
    err.print(escape(text), highlight=False, soft_wrap=True)


class RateColumn(ProgressColumn):
    """Units per second; seconds of audio per second is shown as a multiple of real time."""

    def render(self, task: Task) -> Text:
        """The rate so far, as text."""
        unit = str(task.fields["unit"])
        speed = task.finished_speed or task.speed
        if not speed:
            return Text("")
        text = f"{speed:.1f}x real time" if unit == "s of audio" else f"{speed:,.0f} {unit}/s"
        return Text(text, style="cyan")


class Bars:
    """Draws a library's progress as bars, one per stage."""

    def __init__(self, drawing: Progress) -> None:
        self._drawing = drawing
        self._task: int | None = None

    def start(self, what: str, total: float, unit: str) -> None:
        """Close the stage before and begin one of ``total`` units."""
        if self._task is not None:
            self._drawing.remove_task(self._task)  # type: ignore[arg-type]
        self._task = self._drawing.add_task(escape(what), total=total or None, unit=unit)

    def advance(self, amount: float) -> None:
        """Move the bar."""
        if self._task is not None:
            self._drawing.advance(self._task, amount)  # type: ignore[arg-type]

    def say(self, message: str) -> None:
        """Print a line above the bars."""
        self._drawing.console.print(escape(message), highlight=False, soft_wrap=True)


def counted(number: int, noun: str) -> str:
    """A number of things.

    >>> counted(1, "file"), counted(2, "file")
    ('1 file', '2 files')
    """
    return f"{number} {noun}" + ("" if number == 1 else "s")


@contextmanager
def bars(quiet: bool = False) -> Iterator[Bars]:
    """Progress bars on standard error; an interrupt says how to go on and exits with 1."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f} {task.fields[unit]}"),
        RateColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True, quiet=quiet)
    try:
        drawn = console.is_terminal
        with Progress(*columns, console=console, transient=True, disable=not drawn) as drawing:
            yield Bars(drawing)
    except KeyboardInterrupt:
        err.print(INTERRUPTED)
        raise typer.Exit(1) from None
