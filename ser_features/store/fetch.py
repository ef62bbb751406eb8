"""Parts of an object: read in place from a file, or fetched by ranged requests side by side."""

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ser_features.errors import DamageError
from ser_features.store.place import Place, is_remote, remote
from ser_features.store.remote import ObjectPath

Span = tuple[int, int]
Buffers = Sequence[NDArray[np.uint8]]
# An object up to this size is fetched whole: a second request costs more than the bytes.
WHOLE = 8 * 2**20
# Parts this near to each other are fetched as one, up to PIECE bytes.
GAP = 128 * 2**10
PIECE = 8 * 2**20


class Parts(Protocol):
    """An object that was opened for reading parts of it."""

    def tail(self, num_bytes: int) -> Any:
        """A buffer of the last bytes; all where there are fewer."""

    def prepare(self, spans: Sequence[Span]) -> None:
        """Say what will be filled, so that it can be asked for at once."""

    def fill(self, span: Span, buffers: Buffers) -> None:
        """Fill buffers, together as long as it, with ``(start, end)``; from any thread."""


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
    """The kernel copies each part where it belongs: there is no other copy."""

    def __init__(self, handle: int) -> None:
        self._handle, self._size = handle, os.fstat(handle).st_size

    def tail(self, num_bytes: int) -> bytes:
        return os.pread(self._handle, num_bytes, max(self._size - num_bytes, 0))

    def prepare(self, spans: Sequence[Span]) -> None:
        pass

    def fill(self, span: Span, buffers: Buffers) -> None:
        (start, end), left = span, buffers
        while start < end:
            count = os.preadv(self._handle, [each.data for each in left], start)
            if not count:
                raise DamageError(f"{self._size} bytes, it was cut short")
            start, left = start + count, _behind(left, count)


def _behind(buffers: Buffers, count: int) -> Buffers:
    """What of the buffers comes after ``count`` bytes: a read may stop early."""
    left = []
    for each in buffers:
        if count < len(each):
            left.append(each[count:])
        count = max(count - len(each), 0)
    return left


class _RemoteParts:
    def __init__(self, place: ObjectPath, most_bytes: int) -> None:
        self._place = place
        self._whole = memoryview(place.read_bytes()) if most_bytes <= WHOLE else None
        self._parts: dict[Span, memoryview] = {}

    def tail(self, num_bytes: int) -> Any:
        if self._whole is None:
            with _cut_is_damage():
                return self._place.read_tail(num_bytes)
        return self._whole[max(len(self._whole) - num_bytes, 0) :]

    def prepare(self, spans: Sequence[Span]) -> None:
        if self._whole is not None:
            self._parts = {(start, end): self._whole[start:end] for start, end in spans}
            return
        pieces = joined(spans)
        with _cut_is_damage():
            found = self._place.read_spans([(piece[0][0], piece[-1][1]) for piece in pieces])
        views = (memoryview(each) for each in found)
        self._parts = {
            span: view[span[0] - piece[0][0] : span[1] - piece[0][0]]
            for piece, view in zip(pieces, views, strict=True)
            for span in piece
        }

    def fill(self, span: Span, buffers: Buffers) -> None:
        part = self._parts[span]
        if len(part) < span[1] - span[0]:
            raise DamageError("it was cut short")
        rest = np.frombuffer(part, np.uint8)
        for each in buffers:
            each[:], rest = rest[: len(each)], rest[len(each) :]


@contextmanager
def _cut_is_damage() -> Iterator[None]:
    """A server refuses a range that begins behind the end."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ERANGE:
            raise DamageError("it was cut short") from error
        raise


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
