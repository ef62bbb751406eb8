"""Manifests from files: CSV, JSONL and Parquet. Every problem of a file is reported at once.

Columns: ``id``, ``path``, ``label`` and, if wanted, ``speaker``, ``session``, ``split``, ``start``,
``end`` (seconds). Relative paths resolve against the manifest's folder, or ``root``.
"""

import csv
import io
import json
from array import array
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
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
    """What a file holds: its columns, the rows with their numbers, and what is wrong.

    The rows of a CSV file are read where they are asked for, once: a dictionary of each of a
    million is more than all else. ``row`` is what a row is called, and ``numbers`` are of those
    that were asked for.
    """

    columns: tuple[str, ...] = ()
    rows: Iterable[tuple[int, Mapping[str, Json]]] = ()
    problems: list[str] = field(default_factory=list)
    row: str = "line"
    numbers: "array[int]" = field(default_factory=lambda: array("q"))

    def places(self) -> tuple[str, ...]:
        """Where each row is, in words."""
        return tuple(f"{self.row} {number}" for number in self.numbers)


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
    utterances = tuple(_utterances(found, root if root is not None else path.parent))
    manifest = Manifest(corpus or path.stem, utterances, notes=_notes(path, found))
    if found.problems or manifest.problems():
        # Nobody asks where the rows of a valid manifest stood.
        problems = [*found.problems, *replace(manifest, rows=found.places()).problems()]
        raise ManifestError(f"{path} is not valid, {len(problems)} problem(s):", problems)
    return manifest


def _read_bytes(path: Path) -> bytes:
    try:
        return read_whole(path)
    except FileNotFoundError:
        raise ManifestError(f"there is no manifest {path}") from None
    except OSError as error:
        raise ManifestError(f"cannot read {path}: {error.strerror}") from error


def _read_utf8(path: Path) -> bytes:
    """Bytes that are UTF-8, perhaps with a byte order mark."""
    raw = _read_bytes(path)
    try:
        raw.decode("utf-8-sig")
        return raw
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise ManifestError(
            f"{path}, line {line}: not UTF-8 (byte {raw[error.start]:#04x}); save it as UTF-8"
        ) from None


def _read_csv(path: Path) -> _Rows:
    found = _Rows()
    text = io.TextIOWrapper(io.BytesIO(_read_utf8(path)), "utf-8-sig", newline="")
    lines = _csv_lines(csv.reader(text, strict=True), found)
    header = next(lines, (1, []))[1]
    found.columns = tuple(name.strip().casefold() for name in header)
    found.rows = _csv_rows(lines, found)
    return found


def _csv_rows(
    lines: Iterable[tuple[int, list[str]]], found: _Rows
) -> Iterator[tuple[int, Mapping[str, Json]]]:
    columns = found.columns
    for line, cells in lines:
        if len(cells) > len(columns):
            extra = f"{len(cells)} cells under {len(columns)} columns"
            found.problems.append(f"line {line}: {extra}; is a comma not quoted?")
        yield line, dict(zip(columns, cells, strict=False))


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
    found, rows = _Rows(), list[tuple[int, Mapping[str, Json]]]()
    columns: dict[str, None] = {}
    # Not splitlines: a string may hold U+2028, which is no line end in JSON.
    for number, text in enumerate(_read_utf8(path).decode("utf-8-sig").split("\n"), 1):
        if not text.strip():
            continue
        row = _json_object(text)
        if isinstance(row, str):
            found.problems.append(f"line {number}: {row}")
            continue
        columns |= dict.fromkeys(row)
        rows.append((number, row))
    found.columns, found.rows = tuple(columns), rows
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
    return _Rows(columns, enumerate(rows, 1), row="row")


def _require_columns(path: Path, found: _Rows) -> None:
    there = set(found.columns)
    missing = [name for name in REQUIRED if name not in there]
    twice = sorted({name for name in there if found.columns.count(name) > 1})
    problems = [_missing_column(name, found.columns) for name in missing]
    problems += [f"column {name!r} is there twice" for name in twice]
    problems += _other_separator(found.columns)
    if problems and (found.columns or not found.problems):
        deque(found.rows, 0)  # what is wrong with the rows is told too
        needs = f"needs the columns {', '.join(REQUIRED)}; may have {', '.join(OPTIONAL)}"
        raise ManifestError(f"{path} {needs}", [*problems, *found.problems])


def _other_separator(columns: Sequence[str]) -> list[str]:
    signs = [sign for sign in (";", "\t", "|") if len(columns) == 1 and sign in columns[0]]
    return [f"the columns are parted by {sign!r}; part them by commas" for sign in signs[:1]]


def _missing_column(name: str, columns: Sequence[str]) -> str:
    return f"no column {name!r}; found {', '.join(map(repr, columns)) or 'none'}"


def _notes(path: Path, found: _Rows) -> tuple[str, ...]:
    extra = [name for name in found.columns if name not in REQUIRED + OPTIONAL]
    return (f"{path.name}: columns not used: {', '.join(extra)}",) if extra else ()


def _utterances(found: _Rows, base: Path) -> Iterator[Utterance]:
    """Each row as an utterance; what is wrong goes to ``found.problems``, and the row is kept, so
    that the checks of the whole manifest see it too.
    """
    problems: list[str] = []
    same, files = dict[str, str | None](), _Files(base)

    def shared(name: str, value: Json) -> str | None:
        """What many rows say, held once."""
        if value is None or type(value) is not str:
            return _text(name, value, problems)
        if value not in same:
            same[value] = _text(name, value, problems)
        return same[value]

    for number, cells in found.rows:
        get = cells.get
        name, path = _text("id", get("id"), problems), _text("path", get("path"), problems)
        yield Utterance(
            name or "",
            files[path or "."],
            shared("label", get("label")),
            shared("speaker", get("speaker")),
            shared("session", get("session")),
            shared("split", get("split")),
            _seconds("start", get("start"), problems),
            _seconds("end", get("end"), problems),
        )
        if path is None and not any(problem.startswith("path is") for problem in problems):
            problems.append("the path is empty")
        found.numbers.append(number)
        if problems:
            found.problems.extend(f"{found.row} {number}: {problem}" for problem in problems)
            problems.clear()


class _Files(dict[str, str]):
    """The text of ``base / text`` by text, made once: a recording may have many cuts."""

    def __init__(self, base: Path) -> None:
        self._base, self._prefix = base, str(base / "x")[:-1]

    def __missing__(self, text: str) -> str:
        # Where pathlib has nothing to leave out, which it takes ten times as long to find.
        plain = text[0] not in "/." and text[-1] != "/" and "//" not in text and "/./" not in text
        made = self._prefix + text if plain and text[-2:] != "/." else str(self._base / text)
        self[text] = made
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
