"""What the papers print, as data: each number with its paper, table, row and column."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from ser_features.records import Json

_FOLDER = Path(__file__).with_name("published")


def printed_name(name: str) -> str:
    """What papers call a row or column: IEMOCAP's label sets are one corpus.

    >>> printed_name("iemocap-exp1"), printed_name("iemocap-all-scrambled")
    ('iemocap', 'iemocap-scrambled')
    """
    return re.sub(r"^iemocap-(all|exp\d)\b", "iemocap", name)


@dataclass(frozen=True, slots=True)
class PublishedTable:
    """One printed table or figure (or the part of it on one corpus).

    ``rows`` maps a row's name to its values, parallel to ``columns``, None where the paper has a
    blank; ``unit`` is ``percent`` or ``fraction`` (0…1), as printed. ``corpus`` is what it was
    tested on ("" where the columns say it), ``train`` what it was trained on where that differs.
    """

    id: str
    about: str
    unit: str
    columns: tuple[str, ...]
    rows: Mapping[str, tuple[float | None, ...]]
    corpus: str = ""
    metric: str = ""
    train: tuple[str, ...] = ()

    def value(self, row: str, column: str) -> float | None:
        """The number in 0…1 (a difference may be negative); None where nothing is printed."""
        row, column = printed_name(row), printed_name(column)
        if row not in self.rows or column not in self.columns:
            return None
        printed = self.rows[row][self.columns.index(column)]
        return printed if printed is None or self.unit == "fraction" else printed / 100


@dataclass(frozen=True, slots=True)
class Paper:
    """A paper's tables. ``text`` is the file they were read from, ``unread`` what it lacks.

    ``facts`` are what it prints of upstreams: pre-training corpus, millions of parameters.
    """

    title: str
    authors: str
    text: str
    unread: tuple[str, ...]
    tables: tuple[PublishedTable, ...]
    facts: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def table(self, name: str, **wanted: object) -> PublishedTable | None:
        """The first table called ``name`` whose fields are as wanted.

        A corpus goes by any of the names that users give it.
        """
        if "corpus" in wanted:
            wanted["corpus"] = printed_name(str(wanted["corpus"]))
        for table in self.tables:
            if table.id == name and all(getattr(table, k) == v for k, v in wanted.items()):
                return table
        return None


@cache
def read_paper(name: str) -> Paper:
    """The paper of a study, by the name of its file."""
    text = json.loads((_FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    tables = tuple(_table(each) for each in text.pop("tables"))
    return Paper(**{**text, "unread": tuple(text["unread"])}, tables=tables)


def _table(text: dict[str, Json]) -> PublishedTable:
    rows = {name: tuple(values) for name, values in text["rows"].items()}
    columns, train = tuple(text["columns"]), tuple(text.get("train", ()))
    return PublishedTable(**{**text, "rows": rows, "columns": columns, "train": train})
