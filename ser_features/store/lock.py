"""One writer at a time: a lock that dies with its process, and says who holds it.

In a folder it is the kernel's (``flock``); on an object store a lease (``lease.py``).
"""

import fcntl
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from ser_features.errors import StoreError, StoreLockedError
from ser_features.files import make_folder
from ser_features.store.lease import is_leased, lease
from ser_features.store.place import Place, remote

# Who asks with ``is_locked`` holds it for a moment himself: that is no writer.
_TRIES, _PAUSE = 5, 0.02


@contextmanager
def writer_lock(path: Place, what: str) -> Iterator[Callable[[], None]]:
    """Hold the lock ``path``; yields a check that raises StoreLockedError where it was lost.

    StoreLockedError says which process has it. The kernel drops the lock of a dead process, so a
    leftover file is no obstacle; a lease runs out.
    """
    if isinstance(path, Path):
        with _file_lock(path, what) as check:
            yield check
    else:
        with lease(remote(path), what) as check:
            yield check


@contextmanager
def _file_lock(path: Path, what: str) -> Iterator[Callable[[], None]]:
    try:
        make_folder(path.parent)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    except OSError as error:
        raise StoreError(f"cannot write in {path.parent}: {error.strerror or error}") from error
    try:
        _take(handle, path, what)
        _say_who(handle, path)
        yield lambda: _check_there(handle, path, what)
        with suppress(OSError):  # what it says of its holder is only told, never trusted
            os.ftruncate(handle, 0)
    finally:
        os.close(handle)


def _check_there(handle: int, path: Path, what: str) -> None:
    """The kernel takes no lock away, but what it locks may be deleted and made anew by another."""
    try:
        there = os.path.samestat(os.fstat(handle), path.stat())
    except OSError:
        there = False
    if not there:
        raise StoreError(
            f"{path.parent} was removed or replaced while {what} was being written; nothing more "
            "is written: see what became of it, then run the same command again"
        )


def is_locked(path: Place) -> bool:
    """Whether a living process holds the lock; False too where locks cannot be asked."""
    if not isinstance(path, Path):
        return is_leased(remote(path))
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe must not block
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(handle)
    return False


def _take(handle: int, path: Path, what: str) -> None:
    for left in reversed(range(_TRIES)):
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if not left:
                break
            time.sleep(_PAUSE)
        except OSError as error:
            raise StoreError(f"cannot lock {path}: {error.strerror or error}") from error
    raise StoreLockedError(
        f"{what} is being written by {_holder(handle)}; wait until it is done, or stop it"
    )


def _say_who(handle: int, path: Path) -> None:
    started = datetime.now(UTC).isoformat(timespec="seconds")
    who = {"pid": os.getpid(), "host": socket.gethostname(), "since": started}
    try:
        os.ftruncate(handle, 0)
        os.pwrite(handle, json.dumps(who).encode(), 0)
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror or error}") from error


def _holder(handle: int) -> str:
    try:
        who = json.loads(os.pread(handle, 4096, 0))
        return f"process {who['pid']} on {who['host']} since {who['since']}"
    except (ValueError, KeyError, TypeError):  # it has not said yet
        return "another process"
