"""Where the command line prints: results to standard output, everything else to standard error."""

import os
import sys
from pathlib import Path

from rich.console import Console
from rich.markup import escape

for _name in ("stdout", "stderr"):  # a parent may have closed them
    if getattr(sys, _name) is None:
        setattr(sys, _name, Path(os.devnull).open("w"))  # noqa: SIM115 - kept open

# A pipe or file has no width of its own, and names cut to 80 columns could not be used.
PIPED_WIDTH = 140
out = Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else PIPED_WIDTH)
err = Console(stderr=True)
INTERRUPTED = "interrupted: what is written stays; run the same command again to go on"


def line(text: str) -> None:
    """Print one line to standard error as it is: no markup, no wrapping."""
    err.print(escape(text), highlight=False, soft_wrap=True)


def counted(number: int, noun: str) -> str:
    """A number of things.

    >>> counted(1, "file"), counted(2, "file")
    ('1 file', '2 files')
    """
    return f"{number} {noun}" + ("" if number == 1 else "s")
