"""Sharded Zarr objects (Zarr v3 ``sharding_indexed``, index at the end), written and read.

Not through zarrs 0.2.3, for two measured reasons: it compares a crc32c only where it decodes a
whole object and gives out flipped bits where it decodes a part (tests/store/test_store_shards.py
shows it), and writing through it takes more than twice the processor time. Here every chunk that is
touched is compared, and one that is not there is an error, not fill values.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ser_features.errors import DamageError
from ser_features.store.fetch import Span, open_object
from ser_features.store.hands import drain
from ser_features.store.objects import CRC_BYTES, ObjectFile, check_crc
from ser_features.store.place import Place

_ABSENT = np.uint64(2**64 - 1)


@dataclass(frozen=True, slots=True)
class Sharding:
    """How one object [rows, L, D] of an array is cut: chunks [inner_rows, inner_layers, D]."""

    dtype: str
    rows: int
    num_layers: int
    dim: int
    inner_rows: int
    inner_layers: int

    @property
    def grid(self) -> tuple[int, int]:
        """Inner chunks along rows and layers."""
        return self.rows // self.inner_rows, self.num_layers // self.inner_layers

    @property
    def chunk_bytes(self) -> int:
        """Bytes of one encoded inner chunk."""
        size = self.inner_rows * self.inner_layers * self.dim * np.dtype(self.dtype).itemsize
        return size + CRC_BYTES

    @property
    def index_bytes(self) -> int:
        """Bytes of the index at the end."""
        return self.grid[0] * self.grid[1] * 16 + CRC_BYTES

    @property
    def object_bytes(self) -> int:
        """Bytes of an object in which every chunk is stored."""
        return self.grid[0] * self.grid[1] * self.chunk_bytes + self.index_bytes


def write_object(file: ObjectFile, cut: Sharding, rows: NDArray[Any]) -> bool:
    """Write one object from its first rows [n <= cut.rows, L, D]; what is only NaN is not stored.

    False where nothing is left to store, so that there should be no object.
    """
    index = np.full((*cut.grid, 2), _ABSENT, np.uint64)
    for i, start in enumerate(range(0, len(rows), cut.inner_rows)):
        piece = rows[start : start + cut.inner_rows]
        for group in range(cut.grid[1]):
            layers = slice(group * cut.inner_layers, (group + 1) * cut.inner_layers)
            chunk = _padded(piece[:, layers], cut)
            if not _only_nan(chunk):
                index[i, group] = file.size, cut.chunk_bytes
                file.write_checked(chunk)
    stored = file.size > 0
    file.write_checked(index)
    return stored


def _padded(piece: NDArray[Any], cut: Sharding) -> NDArray[Any]:
    """A whole inner chunk; rows that the object does not have are NaN."""
    if len(piece) == cut.inner_rows:
        return piece
    chunk = np.full((cut.inner_rows, *piece.shape[1:]), np.nan, piece.dtype)
    chunk[: len(piece)] = piece
    return chunk


def _only_nan(chunk: NDArray[Any]) -> bool:
    return bool(np.isnan(chunk.flat[0])) and bool(np.isnan(chunk).all())


def read_part(
    place: Place, cut: Sharding, start: int, layers: Sequence[int], out: NDArray[Any]
) -> None:
    """Fill ``out`` [n, len(layers), D] with rows ``start : start + n`` of the object ``place``.

    Where the values of a chunk lie in a row in ``out``, they are read there and not copied.
    Raises FileNotFoundError, and DamageError where a checksum does not hold or a chunk is absent.
    """
    with open_object(place, cut.object_bytes) as file:
        index = _read_index(file.tail(cut.index_bytes), cut).tolist()
        wanted = list(_wanted(cut, index, start, layers, out))
        file.prepare([span for span, _ in wanted])

        def read(some: Iterable[tuple[Span, _Target]]) -> None:
            room = _Room.of(cut)
            for span, target in some:
                buffers = room.around(target)
                file.fill(span, buffers)
                check_crc(buffers[:-1], buffers[-1], "chunk")
                room.copy_to(target)

        drain(read, wanted, len(wanted) * cut.chunk_bytes)


def _wanted(
    cut: Sharding,
    index: Sequence[Sequence[Sequence[int]]],
    start: int,
    layers: Sequence[int],
    out: NDArray[Any],
) -> Iterator[tuple[Span, "_Target"]]:
    """The chunks that are touched: where each lies in the object, and where its values go."""
    groups = _by_group(layers, cut.inner_layers)
    for chunk in range(start // cut.inner_rows, -(-(start + len(out)) // cut.inner_rows)):
        base = chunk * cut.inner_rows - start
        first, last = max(-base, 0), min(len(out) - base, cut.inner_rows)
        for group, pairs in groups.items():
            rows = tuple(out[base + first : base + last, position] for position, _ in pairs)
            target = _Target(first, last, tuple(layer for _, layer in pairs), rows)
            yield _span(index[chunk][group], cut.chunk_bytes), target


@dataclass(frozen=True, slots=True)
class _Target:
    """Where rows ``first : last`` of a chunk go: one ``rows`` [n, D] for each of its ``layers``."""

    first: int
    last: int
    layers: tuple[int, ...]
    rows: tuple[NDArray[Any], ...]


@dataclass(frozen=True, slots=True)
class _Room:
    """For what of a chunk is read and checked, but is not wanted or must be copied."""

    values: NDArray[Any]  # [inner_rows, inner_layers, D]
    raw: NDArray[np.uint8]  # the same memory
    crc: NDArray[np.uint8]

    @classmethod
    def of(cls, cut: Sharding) -> "_Room":
        shape, dtype = (cut.inner_rows, cut.inner_layers, cut.dim), np.dtype(cut.dtype)
        values = np.empty(shape, dtype.newbyteorder("<"))
        return cls(values, values.reshape(-1).view(np.uint8), np.empty(CRC_BYTES, np.uint8))

    def around(self, target: _Target) -> list[NDArray[np.uint8]]:
        """Buffers of a whole chunk in order, its crc32c last."""
        if not self._in_place(target):
            return [self.raw, self.crc]
        size = len(self.raw) // len(self.values)
        wanted = target.rows[0].reshape(-1).view(np.uint8)
        pieces = (self.raw[: target.first * size], wanted, self.raw[target.last * size :])
        return [*(piece for piece in pieces if len(piece)), self.crc]

    def copy_to(self, target: _Target) -> None:
        if not self._in_place(target):
            part = slice(target.first, target.last)
            for layer, rows in zip(target.layers, target.rows, strict=True):
                rows[:] = self.values[part, layer]

    def _in_place(self, target: _Target) -> bool:
        rows = target.rows[0]
        alone = self.values.shape[1] == len(target.rows) == 1
        return alone and rows.flags.c_contiguous and rows.dtype == self.values.dtype


def _read_index(raw: Any, cut: Sharding) -> NDArray[np.uint64]:
    """(offset, size) of every inner chunk, [*grid, 2]."""
    if len(raw) < cut.index_bytes:
        raise DamageError(f"{len(raw)} bytes, too few for its index")
    values = np.frombuffer(raw, np.uint8)
    index, crc = values[:-CRC_BYTES], values[-CRC_BYTES:]
    check_crc([index], crc, "index")
    return index.view("<u8").reshape(*cut.grid, 2)


def _span(entry: Sequence[int], chunk_bytes: int) -> Span:
    """``(start, end)`` of a chunk by its (offset, size) in the index."""
    offset, size = entry
    if size != chunk_bytes or offset >= 2**62:
        raise DamageError("a chunk is not there")
    return offset, offset + size


def _by_group(layers: Sequence[int], inner_layers: int) -> dict[int, list[tuple[int, int]]]:
    """Inner chunk along layers → (position asked, layer within the chunk)."""
    groups: dict[int, list[tuple[int, int]]] = {}
    for position, layer in enumerate(layers):
        groups.setdefault(layer // inner_layers, []).append((position, layer % inner_layers))
    return groups
