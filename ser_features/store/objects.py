"""Objects on disk: bytes with a crc32c for every Zarr reader and a sha256 for the commit record."""

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

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
    """A new file that hashes what is written to it; ``total`` is its sum so far."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file, self._sha256, self.size = path.open("xb"), hashlib.sha256(), 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

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


def checked(raw: bytes, what: str) -> NDArray[np.uint8]:
    """The bytes before a crc32c; DamageError where it does not hold."""
    values = np.frombuffer(raw, np.uint8)
    stored = int.from_bytes(raw[-CRC_BYTES:], "little")
    if google_crc32c.value(values[:-CRC_BYTES]) != stored:
        raise DamageError(f"the checksum of its {what} does not hold")
    return values[:-CRC_BYTES]


def write_plain(path: Path, values: NDArray[Any]) -> ObjectSum:
    """Write one unsharded object."""
    with ObjectFile(path) as file:
        file.write_checked(values)
        return file.total


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
def store_errors(path: Path) -> Iterator[None]:
    """Turn what the system says while writing (disk full, read-only, vanished) into StoreError."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise StoreError(f"cannot write {error.filename or path}: {reason}") from error
