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
ENDINGS = {
    ".md": "markdown", ".csv": "csv", ".json": "json", ".tex": "latex", ".html": "html",
    ".htm": "html",
}  # fmt: skip

ResultsOption = Annotated[
    list[Path],
    typer.Option(
        "--results", help="A folder of run records; repeat it to merge machines.", metavar="FOLDER"
    ),
]
FormatOption = Annotated[
    str | None,
    typer.Option(
        "--format",
        help="table, markdown, csv, json, latex or html; if unset, what the name of --output ends "
        "in (.md, .csv, .json, .tex, .html), else table.",
    ),
]
OutputOption = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", help="Write to this file instead of the terminal.", dir_okay=False
    ),
]


def leaderboard(
    results: ResultsOption, format: FormatOption = None, output: OutputOption = None
) -> None:
    """Show the leaderboard of one or more results folders.

    Example: serfeat leaderboard --results results --output leaderboard.html
    """
    show(results, choose_format(format, output), output)


def choose_format(format: str | None, output: Path | None) -> str:
    """The format asked for, or that of the output's name; UsageError where there is none such."""
    if format is None:
        return ENDINGS.get(output.suffix.lower(), TABLE) if output else TABLE
    from ser_features.registry import unknown
    from ser_features.report import FORMATS

    if format not in (TABLE, *FORMATS):
        raise UsageError(unknown("format", format, (TABLE, *FORMATS)))
    return format


def show(results: list[Path], format: str = TABLE, output: Path | None = None) -> None:
    """Print or write the leaderboard of all records in the folders."""
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
