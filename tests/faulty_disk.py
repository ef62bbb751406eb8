"""A disk that fails on demand: every call that changes a folder goes through a counter.

The faults are put under the project's code, into ``os`` and the files that ``io`` opens, so that
they hit whatever functions it is made of.
"""

import errno
import io
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
# What needs no room on the disk, and so goes on when it is full.
FREE = frozenset({"unlink", "rmdir", "ftruncate", "chmod"})
PATHS = ("mkdir", "replace", "rename", "unlink", "rmdir", "chmod", "link", "symlink", "truncate")
HANDLES = ("fsync", "write", "pwrite", "ftruncate")


class Disk:
    """Counts the changes below ``folder`` and asks ``fault(number, name)`` before each of them."""

    def __init__(self, folder: Path, fault: Callable[[int, str], None]) -> None:
        self.folder, self.fault = str(folder.resolve()), fault
        self.changes, self.kinds = 0, Counter[str]()

    def touch(self, name: str, where: Any) -> None:
        """One change; the fault raises an OSError or does some harm."""
        if not self.holds(where):
            return
        self.changes += 1
        self.kinds[name] += 1
        self.fault(self.changes - 1, name)

    def holds(self, where: Any) -> bool:
        try:
            path = Path(f"/proc/self/fd/{where}").readlink() if isinstance(where, int) else where
        except OSError:
            return False
        path = os.path.abspath(os.fsdecode(path))  # noqa: PTH100 (touches nothing)
        return path == self.folder or path.startswith(self.folder + os.sep)


class _Raw(io.FileIO):
    """A file whose every write is counted."""

    disk: Disk

    def write(self, data: Any) -> int | None:
        self.disk.touch("write", self.fileno())
        return super().write(data)

    def truncate(self, size: int | None = None) -> int:
        self.disk.touch("ftruncate", self.fileno())
        return super().truncate(size)


@contextmanager
def watched(folder: Path, fault: Callable[[int, str], None] | None = None) -> Iterator[Disk]:
    """Watch a folder: what is done in it is counted, and ``fault`` sees it first."""
    disk = Disk(folder, fault or (lambda number, name: None))
    with mock.patch.multiple(os, **_wrapped(disk)), mock.patch.object(io, "open", _opener(disk)):
        yield disk


def _wrapped(disk: Disk) -> dict[str, Any]:
    def wrap(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(where: Any, *args: Any, **kwargs: Any) -> Any:
            disk.touch(name, where)
            return real(where, *args, **kwargs)

        return call

    real_open = os.open

    def opened(path: Any, flags: int, *args: Any, **kwargs: Any) -> int:
        if flags & WRITES:
            disk.touch("open", path)
        return real_open(path, flags, *args, **kwargs)

    return {name: wrap(name, getattr(os, name)) for name in (*PATHS, *HANDLES)} | {"open": opened}


def _opener(disk: Disk) -> Callable[..., Any]:
    real = io.open

    def opened(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        if not set(mode) & set("wxa+") or not disk.holds(file):
            return real(file, mode, *args, **kwargs)
        if not isinstance(file, int):
            disk.touch("open", file)
        raw = _Raw(file, mode.replace("b", "").replace("t", ""))
        raw.disk = disk
        binary = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        return binary if "b" in mode else io.TextIOWrapper(binary, *args[1:], **kwargs)

    return opened


def full_from(first: int) -> Callable[[int, str], None]:
    """No room from change ``first`` on; deleting still works."""

    def fault(number: int, name: str) -> None:
        if number >= first and name not in FREE:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    return fault


def broken_at(only: int) -> Callable[[int, str], None]:
    """One input/output error at change ``only``, whatever it is."""

    def fault(number: int, name: str) -> None:
        if number == only:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    return fault


def read_only(number: int, name: str) -> None:
    """No change at all: a file system that is mounted read-only."""
    del number, name
    raise OSError(errno.EROFS, os.strerror(errno.EROFS))


def happens_at(when: int, harm: Callable[[], None]) -> Callable[[int, str], None]:
    """Something happens behind the program's back just before change ``when``."""

    def fault(number: int, name: str) -> None:
        if number == when:
            harm()

    return fault
