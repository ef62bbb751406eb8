"""Where audio was found again: files that were moved or touched and sound the same.

A run that decodes a file to learn that its audio is the stored one records where that was. This
spares the next run the decoding, and tells repair where the audio lies; no feature depends on it.
So a record that is lost, damaged or stale costs decoding once, and is never an error to a reader.

There are ``MOST`` files, each written whole in its turn: people who share a store and keep the
corpus in different folders do not undo each other's records, and nothing grows without bound.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from threading import Lock
from typing import TypeVar

from msgspec import UNSET
from msgspec.structs import replace

from ser_features.errors import StoreError, UnreachableError
from ser_features.files import uncollected
from ser_features.records import Source
from ser_features.store.forms import Moved, check_sources, moved_to_json
from ser_features.store.layout import MOST as MOST_NUMBER
from ser_features.store.place import put_sealed
from ser_features.store.schema import Location
from ser_features.store.state import load_moved, load_moved_number, moved_slots

T = TypeVar("T")
MOST = 4


class Found(Mapping[str, Source]):
    """One record by utterance, read when first asked: the newest is enough for most runs."""

    def __init__(self, location: Location, slot: int) -> None:
        self._location, self._slot, self._lock = location, slot, Lock()
        self._sources: dict[str, Source] | None = None

    def __getitem__(self, key: str) -> Source:
        return self._read()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._read())

    def __len__(self) -> int:
        return len(self._read())

    def _read(self) -> dict[str, Source]:
        with self._lock:
            if self._sources is None:
                with uncollected():
                    record = _attempt(lambda: load_moved(self._location, self._slot))
                    self._sources = {one.id: one for one in record.sources} if record else {}
            return self._sources


def find_moved(location: Location) -> tuple[Found, ...]:
    """Where utterances were found again, the newest record first; without their draws.

    It counts only where ``audio_sha256`` is that of the stored utterance. Damaged records are left
    out; raises UnreachableError where the store gives no answer, also when it is read from.
    """
    numbers = _numbers(location)
    return tuple(Found(location, slot) for slot in sorted(numbers, key=lambda s: -numbers[s]))


@uncollected()
def remember(location: Location, found: Iterable[Source], stored: Mapping[str, Source]) -> None:
    """Record where utterances were found again. The caller holds the lock.

    Only what ``stored`` holds with the same ``audio_sha256``, or is joined with, is kept. Where all
    slots are taken, the oldest record goes over into this one. Raises StoreError where it cannot be
    written.
    """
    found = _checked(found)
    numbers = _numbers(location)
    free = [slot for slot in range(MOST) if slot not in numbers]
    slot = free[0] if free else min(numbers, key=lambda slot: numbers[slot])
    before = () if free else Found(location, slot).values()
    partners = (source.partner for source in stored.values())
    joined = {(one.id, one.audio_sha256) for one in partners if isinstance(one, Source)}
    kept = {
        source.id: replace(source, draw="", partner=UNSET)
        for source in (*before, *found)
        if _is_of(source, stored) or (source.id, source.audio_sha256) in joined
    }
    number = min(max(numbers.values(), default=-1) + 1, MOST_NUMBER - 1)
    record = Moved(number, tuple(kept.values()))
    put_sealed(location.moved(slot), moved_to_json(record), compact=True)


def forget(location: Location) -> None:
    """Remove every record; the caller holds the lock."""
    for slot in moved_slots(location):
        location.moved(slot).unlink(missing_ok=True)


def _is_of(source: Source, stored: Mapping[str, Source]) -> bool:
    return source.id in stored and stored[source.id].audio_sha256 == source.audio_sha256


def _checked(found: Iterable[Source]) -> tuple[Source, ...]:
    found = tuple(found)
    try:
        check_sources(found)
    except ValueError as error:
        raise StoreError(f"where audio was found cannot be recorded: {error}") from error
    return found


def _numbers(location: Location) -> dict[int, int]:
    """The numbers of the sound records by slot."""
    slots = moved_slots(location)
    numbers = [_attempt(lambda i=slot: load_moved_number(location, i)) for slot in slots]  # type: ignore[misc]
    return {slot: n for slot, n in zip(slots, numbers, strict=True) if n is not None}


def _attempt(read: Callable[[], T]) -> T | None:
    """What is read, None where it is damaged."""
    try:
        return read()
    except UnreachableError:
        raise
    except (StoreError, OSError):
        return None
