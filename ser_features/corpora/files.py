"""Manifests from files: CSV, JSONL and Parquet. Every problem of a file is reported at once.

Columns: ``id``, ``path``, ``label`` and, if wanted, ``speaker``, ``session``, ``split``, ``start``,
``end`` (seconds). Relative paths resolve against the manifest's folder, or ``root``.
"""

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ser_features.corpora.folder import read_folder
from ser_features.errors import ManifestError
from ser_features.files import read_whole, uncollected
from ser_features.manifest import Manifest
from ser_features.records import Json, Utterance

REQUIRED = ("id", "path", "label")
OPTIONAL = ("speaker", "session", "split", "start", "end")


@dataclass
class _Rows:
    """What a file holds: its columns, ``(where, cells)`` of each row, and what is wrong."""

    columns: tuple[str, ...] = ()
    rows: list[tuple[str, Mapping[str, Json]]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    paths: dict[str, Path] = field(default_factory=dict)  # a recording may have many cuts

    def path(self, base: Path, text: str) -> Path:
        """``base / text``, made once."""
        if (found := self.paths.get(text)) is None:
            found = self.paths[text] = base / text
        return found


@uncollected()
def read_manifest(path: Path, *, root: Path | None = None, corpus: str | None = None) -> Manifest:
    """A valid manifest from a ``.csv``, ``.jsonl`` or ``.parquet`` file, or a folder of labels.

    ``corpus`` names it; the file's stem otherwise. Audio files are not touched. Raises
    ManifestError with all problems, each with its line or row.
    """
    if path.is_dir():
        return read_folder(path, corpus=corpus)
    readers = {".csv": _read_csv, ".jsonl": _read_jsonl, ".parquet": _read_parquet}
    if path.suffix.lower() not in readers and not path.exists():
        raise ManifestError(f"there is no manifest {path}")
    if path.suffix.lower() not in readers:
        kinds = ", ".join(readers)
        raise ManifestError(f"{path}: a manifest is a folder or one of {kinds}")
    found = readers[path.suffix.lower()](path)
    _require_columns(path, found)
    base = root if root is not None else path.parent
    utterances = tuple(_utterance(where, cells, base, found) for where, cells in found.rows)
    rows = tuple(where for where, _ in found.rows)
    notes = _notes(path, found)
    manifest = Manifest(corpus or path.stem, utterances, notes=notes, rows=rows)
    problems = [*found.problems, *manifest.problems()]
    if problems:
        raise ManifestError(f"{path} is not valid, {len(problems)} problem(s):", problems)
    return manifest


def _read_bytes(path: Path) -> bytes:
    try:
        return read_whole(path)
    except FileNotFoundError:
        raise ManifestError(f"there is no manifest {path}") from None
    except OSError as error:
        raise ManifestError(f"cannot read {path}: {error.strerror}") from error


def _read_text(path: Path) -> str:
    raw = _read_bytes(path)
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise ManifestError(
            f"{path}, line {line}: not UTF-8 (byte {raw[error.start]:#04x}); save it as UTF-8"
        ) from None


def _read_csv(path: Path) -> _Rows:
    found = _Rows()
    reader = csv.reader(io.StringIO(_read_text(path), newline=""), strict=True)
    lines = _csv_lines(reader, found)
    header = next(lines, (1, []))[1]
    found.columns = tuple(name.strip().casefold() for name in header)
    for line, cells in lines:
        if len(cells) > len(header):
            extra = f"{len(cells)} cells under {len(header)} columns"
            found.problems.append(f"line {line}: {extra}; is a comma not quoted?")
        found.rows.append((f"line {line}", dict(zip(found.columns, cells, strict=False))))
    return found


def _csv_lines(reader: Iterator[list[str]], found: _Rows) -> Iterator[tuple[int, list[str]]]:
    """Non-empty rows with the line they start on; a quoted cell may run over several lines."""
    line = 1
    try:
        for cells in reader:
            if cells:
                yield line, cells
            line = reader.line_num + 1  # type: ignore[attr-defined]
    except csv.Error as error:
        found.problems.append(f"line {line}: not CSV: {error}; the lines after it are not read")


def _read_jsonl(path: Path) -> _Rows:
    found = _Rows()
    columns: dict[str, None] = {}
    # Not splitlines: a string may hold U+2028, which is no line end in JSON.
    for number, text in enumerate(_read_text(path).split("\n"), 1):
        if not text.strip():
            continue
        row = _json_object(text)
        if isinstance(row, str):
            found.problems.append(f"line {number}: {row}")
            continue
        columns |= dict.fromkeys(row)
        found.rows.append((f"line {number}", row))
    found.columns = tuple(columns)
    return found


def _json_object(text: str) -> dict[str, Json] | str:
    """The object, or what is wrong."""
    try:
        row = json.loads(text)
    except (ValueError, RecursionError) as error:
        return f"not JSON: {str(error)[:80]}"
    return row if isinstance(row, dict) else f"found {text[:40]!r}, expected a JSON object"


def _read_parquet(path: Path) -> _Rows:
    import pyarrow
    import pyarrow.parquet

    buffer = pyarrow.BufferReader(_read_bytes(path))
    try:
        file = pyarrow.parquet.ParquetFile(buffer)
        columns = tuple(file.schema_arrow.names)
        wanted = [name for name in columns if name in REQUIRED + OPTIONAL]
        if file.metadata.num_rows > max(buffer.size(), 1000):
            raise ManifestError(f"{path}: {file.metadata.num_rows} rows in {buffer.size()} bytes")
        # In one thread: where a column is damaged, none goes on reading behind our back.
        rows = file.read(columns=wanted, use_threads=False).to_pylist()
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:
        raise ManifestError(f"{path} is not a readable Parquet file: {str(error)[:120]}") from None
    return _Rows(columns, [(f"row {i + 1}", row) for i, row in enumerate(rows)])


def _require_columns(path: Path, found: _Rows) -> None:
    there = set(found.columns)
    missing = [name for name in REQUIRED if name not in there]
    twice = sorted({name for name in there if found.columns.count(name) > 1})
    problems = [_missing_column(name, found.columns) for name in missing]
    problems += [f"column {name!r} is there twice" for name in twice]
    if problems and (found.columns or not found.problems):
        needs = f"needs the columns {', '.join(REQUIRED)}; may have {', '.join(OPTIONAL)}"
        raise ManifestError(f"{path} {needs}", [*problems, *found.problems])


def _missing_column(name: str, columns: Sequence[str]) -> str:
    return f"no column {name!r}; found {', '.join(map(repr, columns)) or 'none'}"


def _notes(path: Path, found: _Rows) -> tuple[str, ...]:
    extra = [name for name in found.columns if name not in REQUIRED + OPTIONAL]
    return (f"{path.name}: columns not used: {', '.join(extra)}",) if extra else ()


def _utterance(where: str, cells: Mapping[str, Json], base: Path, found: _Rows) -> Utterance:
    """The row as an utterance; what is wrong goes to ``found.problems``, and the row is kept, so
    that the checks of the whole manifest see it too.
    """
    problems: list[str] = []
    get = cells.get
    name, path = _text("id", get("id"), problems), _text("path", get("path"), problems)
    made = Utterance(
        name or "",
        found.path(base, path or "."),
        _text("label", get("label"), problems),
        _text("speaker", get("speaker"), problems),
        _text("session", get("session"), problems),
        _text("split", get("split"), problems),
        _seconds("start", get("start"), problems),
        _seconds("end", get("end"), problems),
    )
    if path is None and not any(problem.startswith("path is") for problem in problems):
        problems.append("the path is empty")
    if problems:
        found.problems.extend(f"{where}: {problem}" for problem in problems)
    return made


def _text(name: str, value: Json, problems: list[str]) -> str | None:
    """A cell as text without outer space; None where it is empty. Whole numbers are text too."""
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        problems.append(f"{name} is {str(value)[:40]}; expected text")
        return None
    if name == "path":  # A file name may really begin or end with a space.
        return value if value.strip() else None
    return value.strip() or None


def _seconds(name: str, value: Json, problems: list[str]) -> float | None:
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    try:
        if isinstance(value, bool):
            raise TypeError
        return float(value)
    except (TypeError, ValueError, OverflowError):
        problems.append(f"{name} is {str(value)[:40]!r}; expected seconds, such as 1.25")
        return None
