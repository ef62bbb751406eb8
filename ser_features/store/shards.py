"""Sharded Zarr objects (Zarr v3 ``sharding_indexed``, index at the end), written and read.

Not through zarrs 0.2.3, for two measured reasons: it compares a crc32c only where it decodes a
whole object and gives out flipped bits where it decodes a part (tests/store/test_store_shards.py
shows it), and writing through it takes more than twice the processor time. Here every chunk that is
touched is compared, and one that is not there is an error, not fill values.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ser_features.errors import DamageError
from ser_features.store.fetch import open_object
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
    groups = _by_group(layers, cut.inner_layers)
    chunks = range(start // cut.inner_rows, -(-(start + len(out)) // cut.inner_rows))
    buffer = _ChunkBuffer.of(cut)
    with open_object(place, cut.object_bytes) as file:
        index = _read_index(file.tail(cut.index_bytes), cut).tolist()
        wanted = [(chunk, group) for chunk in chunks for group in groups]
        spans = _spans((index[chunk][group] for chunk, group in wanted), cut.chunk_bytes)
        targets = [
            _target(cut, out, chunk * cut.inner_rows - start, groups[group])
            for chunk, group in wanted
        ]
        filled = file.fill(spans, (buffer.around(target) for target in targets))
        for target, buffers in zip(targets, filled, strict=True):
            check_crc(buffers[:-1], buffers[-1], "chunk")
            buffer.copy_to(target)


@dataclass(frozen=True, slots=True)
class _Target:
    """Where rows ``first : last`` of a chunk go: one ``rows`` [n, D] for each of its ``layers``."""

    first: int
    last: int
    layers: tuple[int, ...]
    rows: tuple[NDArray[Any], ...]

    @property
    def slice(self) -> slice:
        """The rows within the chunk."""
        return slice(self.first, self.last)


def _target(
    cut: Sharding, out: NDArray[Any], base: int, layers: Sequence[tuple[int, int]]
) -> _Target:
    """``base`` is where in ``out`` the chunk's first row goes, or would."""
    first, last = max(-base, 0), min(len(out) - base, cut.inner_rows)
    rows = tuple(out[base + first : base + last, position] for position, _ in layers)
    return _Target(first, last, tuple(layer for _, layer in layers), rows)


@dataclass(frozen=True, slots=True)
class _ChunkBuffer:
    """Room for what of a chunk is read and checked, but is not wanted or must be copied."""

    values: NDArray[Any]  # [inner_rows, inner_layers, D]
    crc: NDArray[np.uint8]

    @classmethod
    def of(cls, cut: Sharding) -> "_ChunkBuffer":
        shape, dtype = (cut.inner_rows, cut.inner_layers, cut.dim), np.dtype(cut.dtype)
        return cls(np.empty(shape, dtype.newbyteorder("<")), np.empty(CRC_BYTES, np.uint8))

    def around(self, target: _Target) -> list[NDArray[np.uint8]]:
        """Buffers of a whole chunk in order, its crc32c last."""
        wanted = target.rows[0] if self._in_place(target) else self.values[target.slice]
        pieces = (self.values[: target.first], wanted, self.values[target.last :])
        return [piece.reshape(-1).view(np.uint8) for piece in pieces] + [self.crc]

    def copy_to(self, target: _Target) -> None:
        if not self._in_place(target):
            for layer, rows in zip(target.layers, target.rows, strict=True):
                rows[:] = self.values[target.slice, layer]

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


def _spans(entries: Iterable[Sequence[int]], chunk_bytes: int) -> list[tuple[int, int]]:
    """``(start, end)`` of chunks by their (offset, size) in the index."""
    spans = []
    for offset, size in entries:
        if size != chunk_bytes or offset >= 2**62:
            raise DamageError("a chunk is not there")
        spans.append((offset, offset + size))
    return spans


def _by_group(layers: Sequence[int], inner_layers: int) -> dict[int, list[tuple[int, int]]]:
    """Inner chunk along layers → (position asked, layer within the chunk)."""
    groups: dict[int, list[tuple[int, int]]] = {}
    for position, layer in enumerate(layers):
        groups.setdefault(layer // inner_layers, []).append((position, layer % inner_layers))
    return groups
