"""``serfeat leaderboard``."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from ser_features_cli.console import err, out

ResultsOption = Annotated[
    list[Path],
    typer.Option("--results", help="A folder of run records; repeat it to merge machines."),
]
FormatOption = Annotated[
    str, typer.Option("--format", help="table, markdown, csv, json, latex or html.")
]
OutputOption = Annotated[
    Path | None, typer.Option("--output", "-o", help="Write to this file instead of the terminal.")
]


def leaderboard(
    results: ResultsOption,
    format: FormatOption = "table",
    output: OutputOption = None,
) -> None:
    """Show the leaderboard of one or more results folders.

    Example: serfeat leaderboard --results results --format html --output leaderboard.html
    """
    from ser_features.leaderboard import build_board
    from ser_features.report.table import FORMATS, render
    from ser_features.results import load_records

    writer = FORMATS[format]
    loaded = load_records(results)
    for problem in loaded.problems:
        err.print(f"[yellow]note:[/] {escape(str(problem))}", highlight=False, soft_wrap=True)
    board = build_board(loaded)
    show(board, writer, output)
