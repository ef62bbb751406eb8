"""``serfeat leaderboard``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ser_features.errors import ResultsError, UsageError
from ser_features_cli.console import PIPED_WIDTH, line, out

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ser_features.results import Loaded
    from ser_features.rows import Row

TABLE = "table"

ResultsOption = Annotated[
    list[Path],
    typer.Option(
        "--results", help="A folder of run records; repeat it to merge machines.", metavar="FOLDER"
    ),
]
FormatOption = Annotated[
    str, typer.Option("--format", help="table, markdown, csv, json, latex or html.")
]
OutputOption = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", help="Write to this file instead of the terminal.", dir_okay=False
    ),
]


def leaderboard(
    results: ResultsOption, format: FormatOption = TABLE, output: OutputOption = None
) -> None:
    """Show the leaderboard of one or more results folders.

    Example: serfeat leaderboard --results results --format html --output leaderboard.html
    """
    show(results, format, output)


def check_format(format: str) -> None:
    """UsageError for a format that does not exist."""
    from ser_features.registry import unknown
    from ser_features.report import FORMATS

    if format not in (TABLE, *FORMATS):
        raise UsageError(unknown("format", format, (TABLE, *FORMATS)))


def show(results: list[Path], format: str = TABLE, output: Path | None = None) -> None:
    """Print or write the leaderboard of all records in the folders."""
    check_format(format)
    _show(_load(results), format, output)


def show_files(paths: "Sequence[Path]", format: str = TABLE, output: Path | None = None) -> None:
    """Print or write the leaderboard of these records."""
    from ser_features.results import Loaded, load_record

    records = tuple(load_record(path) for path in paths)
    _show(Loaded(records, tuple((path,) for path in paths)), format, output)


def _show(loaded: "Loaded", format: str, output: Path | None) -> None:
    from ser_features.leaderboard import build_rows

    rows = build_rows(loaded.records, loaded.paths)
    if format == TABLE and output is None:
        from ser_features.report.terminal import leaderboard as as_table

        out.print(as_table(rows, loaded.problems))
    else:
        _write(_text(rows, loaded, format), output)
    if format in ("csv", "json"):  # these have no place for them
        for problem in loaded.problems:
            line(f"not used: {problem}")


def _load(results: list[Path]) -> "Loaded":
    from ser_features.results import load_records

    loaded = load_records(results)
    if not loaded.records:
        problems = "".join(f"; {problem}" for problem in loaded.problems)
        folders = ", ".join(map(str, results))
        raise ResultsError(f"no run records in {folders}; 'serfeat bench' writes them{problems}")
    return loaded


def _text(rows: "list[Row]", loaded: "Loaded", format: str) -> str:
    from ser_features.report import FORMATS

    if format != TABLE:
        return FORMATS[format](rows, loaded.problems)
    import io

    from rich.console import Console

    from ser_features.report.terminal import leaderboard as as_table

    file = io.StringIO()
    Console(file=file, width=PIPED_WIDTH).print(as_table(rows, loaded.problems))
    return file.getvalue()


def _write(text: str, output: Path | None) -> None:
    from ser_features.files import write_atomic

    if output is None:
        typer.echo(text, nl=False)
        return
    write_atomic(output, text)
    line(f"wrote {output}")
