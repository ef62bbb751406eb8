"""Named tables: explicit, without duplicates, with 'did you mean' when a name is not there."""

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Generic, TypeVar

from ser_features.errors import UsageError

T = TypeVar("T")


class Table(Mapping[str, T], Generic[T]):
    """An immutable name → entry mapping whose errors name the nearest entries.

    >>> heads = Table("head", [("superb", 1), ("mlp", 2)])
    >>> heads["superb"]
    1
    >>> heads["supreb"]
    Traceback (most recent call last):
    ...
    ser_features.errors.UsageError: unknown head 'supreb'; did you mean 'superb'? Known: mlp, superb
    """

    def __init__(self, kind: str, entries: Iterable[tuple[str, T]]) -> None:
        self.kind = kind
        self._entries: dict[str, T] = {}
        for name, entry in entries:
            if name in self._entries:
                raise ValueError(f"{kind} {name!r} is in the table twice")
            self._entries[name] = entry

    def __getitem__(self, name: str) -> T:
        """The entry called ``name``; UsageError with the nearest names otherwise."""
        if name in self._entries:
            return self._entries[name]
        raise UsageError(unknown(self.kind, name, self._entries))

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """The sentence for a name that is not known, with the nearest ones."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.6)
    hint = f"did you mean {' or '.join(repr(n) for n in near)}? " if near else ""
    return f"unknown {kind} {name!r}; {hint}Known: {', '.join(names)}"


def by_name(kind: str, entries: Iterable[T], name: Callable[[T], str]) -> Table[T]:
    """A table of entries that carry their own name."""
    return Table(kind, [(name(entry), entry) for entry in entries])
