"""Where audio was found again: files that were moved or touched and sound the same.

A run that decodes a file to learn that its audio is the stored one records where that was. This
spares the next run the decoding, and tells repair where the audio lies; no feature depends on it.
So a record that is lost, damaged or stale costs decoding once, and is never an error to a reader.

There are ``MOST`` files, each written whole in its turn: people who share a store and keep the
corpus in different folders do not undo each other's records, and nothing grows without bound.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from ser_features.errors import StoreError, UnreachableError
from ser_features.files import uncollected
from ser_features.records import Source
from ser_features.store.forms import Moved, check_sources, moved_to_json
from ser_features.store.layout import MOST as MOST_NUMBER
from ser_features.store.place import put_sealed
from ser_features.store.schema import Location
from ser_features.store.state import load_moved, moved_slots

MOST = 4


@uncollected()
def find_moved(location: Location) -> tuple[dict[str, Source], ...]:
    """Where utterances were found again, by id, the newest record first; without their draws.

    It counts only where ``audio_sha256`` is that of the stored utterance. Damaged records are left
    out; raises UnreachableError where the store gives no answer.
    """
    records = sorted(_read(location).values(), key=lambda record: record.number, reverse=True)
    return tuple({source.id: source for source in record.sources} for record in records)


@uncollected()
def remember(location: Location, found: Iterable[Source], stored: Mapping[str, Source]) -> None:
    """Record where utterances were found again. The caller holds the lock.

    Only what ``stored`` holds with the same ``audio_sha256`` is kept. Where all slots are taken,
    the oldest record goes over into this one. Raises StoreError where it cannot be written.
    """
    found = _checked(found)
    records = _read(location)
    free = [slot for slot in range(MOST) if slot not in records]
    slot = free[0] if free else min(records, key=lambda slot: records[slot].number)
    before = records[slot].sources if slot in records else ()
    kept = {
        source.id: replace(source, draw="")
        for source in (*before, *found)
        if source.id in stored and stored[source.id].audio_sha256 == source.audio_sha256
    }
    last = max((record.number for record in records.values()), default=-1)
    record = Moved(min(last + 1, MOST_NUMBER - 1), tuple(kept.values()))
    put_sealed(location.moved(slot), moved_to_json(record), compact=True)


def forget(location: Location) -> None:
    """Remove every record; the caller holds the lock."""
    for slot in moved_slots(location):
        location.moved(slot).unlink(missing_ok=True)


def _checked(found: Iterable[Source]) -> tuple[Source, ...]:
    found = tuple(found)
    try:
        check_sources(found)
    except ValueError as error:
        raise StoreError(f"where audio was found cannot be recorded: {error}") from error
    return found


def _read(location: Location) -> dict[int, Moved]:
    """The sound records by slot."""
    found = {}
    for slot in moved_slots(location):
        try:
            found[slot] = load_moved(location, slot)
        except UnreachableError:
            raise
        except (StoreError, OSError):
            continue
    return found
