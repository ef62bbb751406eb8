"""Objects on disk: bytes with a crc32c for every Zarr reader and a sha256 for the commit record."""

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from ser_features.errors import DamageError, StoreError
from ser_features.files import fsync_folder

CRC_BYTES = 4


@dataclass(frozen=True, slots=True)
class ObjectSum:
    """What one object's bytes must be."""

    sha256: str
    size: int


class ObjectFile:
    """Hashes what is written to a new file, on a disk or in memory; ``total`` is its sum so far."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._sha256, self.size = file, hashlib.sha256(), 0

    @property
    def total(self) -> ObjectSum:
        """Hash and size of all that was written."""
        return ObjectSum(self._sha256.hexdigest(), self.size)

    def write_checked(self, values: NDArray[Any]) -> int:
        """Append an array's little-endian bytes and their crc32c; returns how many bytes."""
        little = values.astype(values.dtype.newbyteorder("<"), order="C", copy=False)
        raw = little.reshape(-1).view(np.uint8)
        for part in (raw.data, google_crc32c.value(raw).to_bytes(CRC_BYTES, "little")):
            self._sha256.update(part)
            self._file.write(part)
        self.size += len(raw) + CRC_BYTES
        return len(raw) + CRC_BYTES


def check_crc(content: Iterable[NDArray[np.uint8]], stored: NDArray[np.uint8], what: str) -> None:
    """DamageError where ``stored`` is not the crc32c of the bytes of ``content`` in a row."""
    crc = 0
    for each in content:
        crc = google_crc32c.extend(crc, each)
    if crc != int.from_bytes(stored.data, "little"):
        raise DamageError(f"the checksum of its {what} does not hold")


def flush(paths: Iterable[Path]) -> None:
    """Make written files durable, several at a time."""
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(_flush, paths))


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def publish(moves: Mapping[Path, Path]) -> None:
    """Give staged objects their names, each at once and whole, in order; then make that durable."""
    for staged, target in moves.items():
        staged.replace(target)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(fsync_folder, sorted({target.parent for target in moves.values()})))


@contextmanager
def store_errors(path: object) -> Iterator[None]:
    """Turn what the system says while writing (disk full, read-only, vanished) into StoreError."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise StoreError(f"cannot write {error.filename or path}: {reason}") from error
