"""Sharded Zarr objects (Zarr v3 ``sharding_indexed``, index at the end), written and read.

Not through zarrs 0.2.3, for two measured reasons: it compares a crc32c only where it decodes a
whole object and gives out flipped bits where it decodes a part (tests/store/test_store_shards.py
shows it), and writing through it takes more than twice the processor time. Here every chunk that is
touched is compared, and one that is not there is an error, not fill values.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ser_features.errors import DamageError
from ser_features.store.objects import CRC_BYTES, ObjectFile, ObjectSum, checked

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


def write_object(path: Path, cut: Sharding, rows: NDArray[Any]) -> ObjectSum | None:
    """Write one object from its first rows [n <= cut.rows, L, D]; what is only NaN is not stored.

    Returns None, and writes no file, where nothing is left to store.
    """
    index = np.full((*cut.grid, 2), _ABSENT, np.uint64)
    with ObjectFile(path) as file:
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
        total = file.total
    if not stored:
        path.unlink()
        return None
    return total


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
    path: Path, cut: Sharding, start: int, layers: Sequence[int], out: NDArray[Any]
) -> None:
    """Fill ``out`` [n, len(layers), D] with rows ``start : start + n`` of the object ``path``.

    Raises FileNotFoundError, and DamageError where a checksum does not hold or a chunk is absent.
    """
    with path.open("rb") as file:
        index = _read_index(file, cut)
        for chunk in range(start // cut.inner_rows, -(-(start + len(out)) // cut.inner_rows)):
            base = chunk * cut.inner_rows - start  # where this chunk's first row goes in out
            rows = slice(max(base, 0), base + cut.inner_rows)
            inner = slice(max(-base, 0), max(-base, 0) + len(out[rows]))
            for group, members in _by_group(layers, cut.inner_layers).items():
                values = _read_chunk(file, cut, index[chunk, group])
                for position, layer in members:
                    out[rows, position] = values[inner, layer]


def _read_index(file: BinaryIO, cut: Sharding) -> NDArray[np.uint64]:
    """(offset, size) of every inner chunk, [*grid, 2]."""
    size = cut.grid[0] * cut.grid[1] * 16
    end = file.seek(0, 2)
    if end < size + CRC_BYTES:
        raise DamageError(f"{end} bytes, too few for its index")
    file.seek(end - size - CRC_BYTES)
    return checked(file.read(), "index").view("<u8").reshape(*cut.grid, 2)


def _read_chunk(file: BinaryIO, cut: Sharding, entry: NDArray[np.uint64]) -> NDArray[Any]:
    """One inner chunk [inner_rows, inner_layers, D]."""
    if entry[0] == _ABSENT or entry[1] != cut.chunk_bytes:
        raise DamageError("a chunk is not there")
    file.seek(int(entry[0]))
    values = checked(file.read(cut.chunk_bytes), "chunk").view(
        np.dtype(cut.dtype).newbyteorder("<")
    )
    return values.reshape(cut.inner_rows, cut.inner_layers, cut.dim)


def _by_group(layers: Sequence[int], inner_layers: int) -> dict[int, list[tuple[int, int]]]:
    """Inner chunk along layers → (position asked, layer within the chunk)."""
    groups: dict[int, list[tuple[int, int]]] = {}
    for position, layer in enumerate(layers):
        groups.setdefault(layer // inner_layers, []).append((position, layer % inner_layers))
    return groups
