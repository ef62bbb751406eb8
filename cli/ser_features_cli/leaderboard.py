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
    results: ResultsOption, format: FormatOption = "table", output: OutputOption = None
) -> None:
    """Show the leaderboard of one or more results folders.

    Example: serfeat leaderboard --results results --format html --output leaderboard.html
    """
    show(results, format, output)


def show(results: list[Path], format: str = "table", output: Path | None = None) -> None:
    """Print or write the leaderboard of all records in the folders."""
    from ser_features.errors import ResultsError
    from ser_features.leaderboard import build_rows
    from ser_features.report import FORMATS
    from ser_features.report.terminal import leaderboard as as_table
    from ser_features.results import load_records

    text = None if format == "table" else FORMATS[format]
    loaded = load_records(results)
    if not loaded.records:
        problems = "".join(f"; {problem}" for problem in loaded.problems)
        folders = ", ".join(map(str, results))
        raise ResultsError(f"no run records in {folders}; 'serfeat bench' writes them{problems}")
    rows = build_rows(loaded.records, loaded.paths)
    if text is not None:
        _write(text(rows, loaded.problems), output)
    elif output is None:
        out.print(as_table(rows, loaded.problems))
    else:
        from rich.console import Console

        with output.open("w", encoding="utf-8") as file:
            Console(file=file, width=140).print(as_table(rows, loaded.problems))
    if output is not None:
        err.print(f"wrote {escape(str(output))}", highlight=False, soft_wrap=True)


def _write(text: str, output: Path | None) -> None:
    from ser_features.files import write_atomic

    if output is None:
        typer.echo(text, nl=False)
    else:
        write_atomic(output, text)
