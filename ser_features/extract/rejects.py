"""The report of rejected utterances: a CSV beside the features, read back on the next run."""

import csv
import io
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from ser_features.files import read_whole
from ser_features.records import Rejection, Utterance
from ser_features.store.objects import store_errors
from ser_features.store.place import Place, put

# Found only by decoding the whole file; everything else is cheap to look at again.
DECODED = frozenset({"augmentation", "not-finite", "silent", "truncated"})
COLUMNS = ("id", "path", "reason", "detail", "size", "mtime_ns")


def stat_of(path: Path | str) -> tuple[int, int]:
    """A file's bytes and modification time in nanoseconds; never fails.

    Both are -1 where the file is not there.
    """
    try:
        found = os.stat(path)  # noqa: PTH116  (Path.stat takes twice as long)
    except OSError:
        return -1, -1
    return found.st_size, found.st_mtime_ns


def write_rejects(report: Place, rejects: Iterable[Rejection]) -> None:
    """Write the report whole; with no rejects, remove an old one."""
    rows = sorted(rejects, key=lambda row: row.id)
    if not rows:
        with store_errors(report):
            if report.exists() or report.is_symlink():  # a store may be read-only
                report.unlink(missing_ok=True)
        return
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        writer.writerow([row.id, row.path, row.reason, row.detail, *stat_of(Path(row.path))])
    data = text.getvalue().encode(errors="backslashreplace")  # a path may be no valid Unicode
    with suppress(OSError):
        if read_whole(report) == data:
            return
    put(report, data)


def known_rejects(report: Place, utterances: Iterable[Utterance]) -> dict[str, Rejection]:
    """Rejections of an earlier run that still hold: same id, path, file size and time.

    A report that cannot be read only costs trying those files again.
    """
    try:
        text = io.StringIO(read_whole(report).decode(), newline="")
        rows = {row["id"]: row for row in csv.DictReader(text)}
    except (OSError, KeyError, ValueError, csv.Error):
        return {}
    return {
        utterance.id: Rejection(utterance.id, row["path"], row["reason"], row["detail"])
        for utterance in utterances
        if (row := rows.get(utterance.id)) is not None and _still_holds(row, utterance.path)
    }


def _still_holds(row: dict[str, str], path: Path) -> bool:
    same = tuple(map(str, stat_of(path))) == (row.get("size"), row.get("mtime_ns"))
    return same and row.get("reason") in DECODED and row.get("path") == str(path)
