"""Formats of the leaderboard; each takes rows and problems and gives text."""

from collections.abc import Callable, Sequence

from ser_features.registry import Table
from ser_features.report.html import as_html
from ser_features.report.text import as_csv, as_json, as_latex, as_markdown
from ser_features.rows import Row

Format = Callable[[Sequence[Row], Sequence[str]], str]

FORMATS: Table[Format] = Table(
    "format",
    [
        ("markdown", as_markdown),
        ("csv", as_csv),
        ("json", as_json),
        ("latex", as_latex),
        ("html", as_html),
    ],
)
"""By name; the terminal's ``table`` is not text: see ``ser_features.report.terminal``."""
