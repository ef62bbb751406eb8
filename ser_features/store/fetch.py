"""Parts of an object: read in place from a file, or fetched by ranged requests side by side."""

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from ser_features.errors import DamageError
from ser_features.store.place import Place, is_remote, remote
from ser_features.store.remote import ObjectPath

Span = tuple[int, int]
# An object up to this size is fetched whole: a second request costs more than the bytes.
WHOLE = 8 * 2**20
# Parts this near to each other are fetched as one, up to PIECE bytes.
GAP = 128 * 2**10
PIECE = 8 * 2**20


class Parts(Protocol):
    """An object that was opened for reading parts of it."""

    def tail(self, num_bytes: int) -> Any:
        """A buffer of the last bytes; all where there are fewer."""

    def parts(self, spans: Sequence[Span]) -> Iterator[Any]:
        """A buffer for each ``(start, end)`` in order; valid until the next one is asked for."""


@contextmanager
def open_object(place: Place, most_bytes: int) -> Iterator[Parts]:
    """Open an object of at most ``most_bytes``; FileNotFoundError where it is not there."""
    if is_remote(place):
        yield _RemoteParts(remote(place), most_bytes)
        return
    handle = os.open(str(place), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        yield _FileParts(handle)
    finally:
        os.close(handle)


class _FileParts:
    """One buffer is used again for every part: it stays in the processor's cache."""

    def __init__(self, handle: int) -> None:
        self._handle, self._size = handle, os.fstat(handle).st_size

    def tail(self, num_bytes: int) -> bytes:
        return os.pread(self._handle, num_bytes, max(self._size - num_bytes, 0))

    def parts(self, spans: Sequence[Span]) -> Iterator[memoryview]:
        buffer = memoryview(bytearray(max((end - start for start, end in spans), default=0)))
        for start, end in spans:
            part = buffer[: end - start]
            if os.preadv(self._handle, [part], start) < len(part):
                raise DamageError(f"{self._size} bytes, it was cut short")
            yield part


class _RemoteParts:
    def __init__(self, place: ObjectPath, most_bytes: int) -> None:
        self._place = place
        self._whole = memoryview(place.read_bytes()) if most_bytes <= WHOLE else None

    def tail(self, num_bytes: int) -> Any:
        if self._whole is None:
            with _cut_is_damage():
                return self._place.read_tail(num_bytes)
        return self._whole[max(len(self._whole) - num_bytes, 0) :]

    def parts(self, spans: Sequence[Span]) -> Iterator[Any]:
        if self._whole is not None:
            for start, end in spans:
                yield _whole(self._whole[start:end], end - start)
            return
        pieces = joined(spans)
        with _cut_is_damage():
            found = self._place.read_spans([(piece[0][0], piece[-1][1]) for piece in pieces])
        views = (memoryview(each) for each in found)
        parts = {
            span: view[span[0] - piece[0][0] : span[1] - piece[0][0]]
            for piece, view in zip(pieces, views, strict=True)
            for span in piece
        }
        for start, end in spans:
            yield _whole(parts[start, end], end - start)


@contextmanager
def _cut_is_damage() -> Iterator[None]:
    """A server refuses a range that begins behind the end."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ERANGE:
            raise DamageError("it was cut short") from error
        raise


def _whole(part: memoryview, num_bytes: int) -> memoryview:
    if len(part) < num_bytes:
        raise DamageError("it was cut short")
    return part


def joined(spans: Sequence[Span]) -> list[list[Span]]:
    """Spans in rising order, near ones together, at most ``PIECE`` bytes where one allows it.

    >>> joined([(0, 10), (10, 20), (10**6, 10**6 + 5)])
    [[(0, 10), (10, 20)], [(1000000, 1000005)]]
    """
    pieces: list[list[Span]] = []
    for start, end in sorted(spans):
        near = pieces and start - pieces[-1][-1][1] <= GAP and end - pieces[-1][0][0] <= PIECE
        if near:
            pieces[-1].append((start, end))
        else:
            pieces.append([(start, end)])
    return pieces
