"""Progress of long work: bars on a terminal, a line now and then in a log."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

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
)
from rich.table import Column
from rich.text import Text

AUDIO = "s of audio"
WIDE = 110
"""Columns of a terminal from which a bar has room for everything."""
EVERY = 60.0
"""Seconds between two lines where nobody watches a bar."""


def rate(task: Task) -> str:
    """Units per second since the stage began; audio as a multiple of real time.

    Not rich's speed of the last seconds: shards can take longer than that.
    """
    speed = _speed(task)
    unit = str(task.fields["unit"])
    if not speed or unit == "%":
        return ""
    return f"{speed:.1f}x real time" if unit == AUDIO else f"{speed:,.1f} {unit}/s"


def left(task: Task) -> str:
    """The time that the rest takes at the speed so far, such as ``0:12:34``."""
    speed = _speed(task)
    if not speed or task.total is None:
        return "-:--:--"
    return str(timedelta(seconds=round(max(0.0, task.total - task.completed) / speed)))


def _speed(task: Task) -> float:
    return task.completed / task.elapsed if task.elapsed else 0.0


class TaskColumn(ProgressColumn):
    """``rate`` or ``left`` as a column."""

    max_refresh = 0.5

    def __init__(self, text: Callable[[Task], str]) -> None:
        self._text = text
        super().__init__()

    def render(self, task: Task) -> Text:
        """The cell."""
        return Text(self._text(task), style="cyan")


class Bars:
    """Draws a library's progress as bars, one per stage; where there is no terminal, as lines."""

    def __init__(self, drawing: Progress, *, lines: bool = False, every: float = EVERY) -> None:
        self._drawing, self._lines, self._every = drawing, lines, every
        self._task: Task | None = None
        self._said = time.monotonic()

    def start(self, what: str, total: float, unit: str) -> None:
        """Close the stage before and begin one of ``total`` units."""
        if self._task is not None:
            self._drawing.remove_task(self._task.id)
        number = self._drawing.add_task(escape(what), total=total or None, unit=unit)
        self._task = next(task for task in self._drawing.tasks if task.id == number)

    def advance(self, amount: float) -> None:
        """Move the bar, or write a line where the last one is old."""
        if self._task is None:
            return
        self._drawing.advance(self._task.id, amount)
        if self._lines and time.monotonic() - self._said >= self._every:
            self._said = time.monotonic()
            self._drawing.console.print(_line(self._task), highlight=False, soft_wrap=True)

    def say(self, message: str) -> None:
        """Print a line above the bars."""
        self._drawing.console.print(escape(message), highlight=False, soft_wrap=True)


def _line(task: Task) -> str:
    """A stage in one line.

    Such as ``extracting hubert-base: 31 %, 24.1x real time, 0:12:34 left``.
    """
    share = f"{100 * task.completed / task.total:.0f} %" if task.total else f"{task.completed:.0f}"
    parts = [share, rate(task), f"{left(task)} left" if task.total else ""]
    return f"{task.description}: {', '.join(filter(None, parts))}"


@contextmanager
def bars(quiet: bool = False) -> Iterator[Bars]:
    """Progress on standard error; nothing where ``quiet``."""
    console = Console(stderr=True, quiet=quiet)
    with drawing_on(console) as drawing:
        yield Bars(drawing, lines=not console.is_terminal)


def drawing_on(console: Console) -> Progress:
    """The bars of a console; on a narrow one the stage's name and the bar give way to times."""
    wide = console.width >= WIDE
    counted = TextColumn("{task.completed:.0f}/{task.total:.0f} {task.fields[unit]}")
    what = Column(ratio=1, no_wrap=True, overflow="ellipsis")
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", table_column=what),
        BarColumn(20 if wide else 10),
        *([counted] if wide else []),
        TaskColumn(rate),
        TimeElapsedColumn(),
        TextColumn("left"),
        TaskColumn(left),
        console=console,
        transient=True,
        expand=True,
        disable=not console.is_terminal,
    )
