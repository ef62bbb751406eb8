"""One writer at a time: a lock that dies with its process, and says who holds it."""

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from ser_features.errors import StoreError, StoreLockedError


@contextmanager
def writer_lock(path: Path, what: str) -> Iterator[None]:
    """Hold the lock file ``path``; StoreLockedError says which process has it.

    The kernel drops the lock of a dead process, so a leftover file is no obstacle.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    except OSError as error:
        raise StoreError(f"cannot write in {path.parent}: {error.strerror or error}") from error
    try:
        _take(handle, path, what)
        _say_who(handle)
        yield
        os.ftruncate(handle, 0)
    finally:
        os.close(handle)


def is_locked(path: Path) -> bool:
    """Whether a living process holds the lock; False too where locks cannot be asked."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _take(handle: int, path: Path, what: str) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise StoreLockedError(
            f"{what} is being written by {_holder(handle)}; wait until it is done, or stop it"
        ) from None
    except OSError as error:
        raise StoreError(f"cannot lock {path}: {error.strerror or error}") from error


def _say_who(handle: int) -> None:
    started = datetime.now(UTC).isoformat(timespec="seconds")
    who = {"pid": os.getpid(), "host": socket.gethostname(), "since": started}
    try:
        os.ftruncate(handle, 0)
        os.pwrite(handle, json.dumps(who).encode(), 0)
    except OSError as error:
        raise StoreError(f"cannot write the lock: {error.strerror or error}") from error


def _holder(handle: int) -> str:
    try:
        who = json.loads(os.pread(handle, 4096, 0))
        return f"process {who['pid']} on {who['host']} since {who['since']}"
    except (ValueError, KeyError, TypeError):  # it has not said yet
        return "another process"
