"""One writer at a time on an object store: a lease that must be renewed, in the server's time.

The lease is an object that says who holds it. It is taken by a conditional put (``If-None-Match:
*``, or ``If-Match`` with the version of one that is free or has run out) and renewed by a thread;
a put that comes second fails. A lease has run out when the server's own clock is more than its
seconds past its last change, so clocks of different machines are never compared.
"""

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from ser_features.errors import StoreLockedError, UnreachableError, UsageError
from ser_features.store.remote import ObjectPath, Version

SECONDS = "SERFEAT_S3_LEASE"
DEFAULT_SECONDS = 60.0
RENEWER = "serfeat-lease"
# The server tells its time in whole seconds.
SLACK = timedelta(seconds=1)


@contextmanager
def lease(path: ObjectPath, what: str) -> Iterator[Callable[[], None]]:
    """Hold the lease object ``path``; yields a check that raises where it was lost.

    Raises StoreLockedError that says who holds it and until when, UnreachableError where the server
    does not let us write. A process that dies leaves a lease that runs out by itself.
    """
    held = _Lease(path, what, lease_seconds())
    held.take()
    stop = threading.Event()
    beat = threading.Thread(target=held.keep, args=(stop,), name=RENEWER, daemon=True)
    beat.start()
    try:
        yield held.check
    finally:
        stop.set()
        beat.join()
        held.free()


def is_leased(path: ObjectPath) -> bool:
    """Whether a living writer holds the lease; False too where it cannot be asked.

    By our own clock where we may not write there: it is only told, nothing is taken over by it.
    """
    try:
        raw, version = path.read_version()
    except (OSError, UnreachableError):
        return False
    who = _Holder.read(raw)
    try:
        now = _server_now(path)
    except (OSError, UnreachableError):
        now = datetime.now(UTC)
    return who.token != "" and version.modified + who.length + SLACK >= now


def lease_seconds() -> float:
    """How long a lease lives without renewal."""
    text = os.environ.get(SECONDS, "")
    try:
        seconds = float(text or DEFAULT_SECONDS)
    except ValueError:
        seconds = 0.0
    if not 1 <= seconds <= 86400:
        raise UsageError(f"{SECONDS}={text!r}: expected 1 to 86400 seconds")
    return seconds


@dataclass(frozen=True, slots=True)
class _Holder:
    """What a lease object says; ``token`` is empty where it is free."""

    token: str
    pid: int
    host: str
    since: str
    seconds: float

    @property
    def length(self) -> timedelta:
        return timedelta(seconds=self.seconds)

    @classmethod
    def read(cls, raw: bytes) -> "_Holder":
        """The holder; something that is no lease of ours is held by no one known, for a while."""
        try:
            body = json.loads(raw)
            seconds = min(max(float(body["seconds"]), 1.0), 86400.0)
            return cls(str(body["token"]), int(body["pid"]), str(body["host"]),
                       str(body["since"]), seconds)  # fmt: skip
        except (ValueError, KeyError, TypeError, RecursionError):
            return cls("?", 0, "an unknown machine", "an unknown time", DEFAULT_SECONDS)


class _Lease:
    def __init__(self, path: ObjectPath, what: str, seconds: float) -> None:
        self._path, self._what, self._seconds = path, what, seconds
        self._token, self._tag, self._beat = uuid.uuid4().hex, "", 0
        self._since = datetime.now(UTC).isoformat(timespec="seconds")
        self._good_until, self._lost = 0.0, ""

    def take(self) -> None:
        """Become the holder; StoreLockedError where another one lives."""
        asked = _clock()
        try:
            self._tag = self._path.put_new(self._body())
        except FileExistsError:
            raw, version = self._path.read_version()
            self._refuse_living(_Holder.read(raw), version)
            try:
                asked = _clock()
                self._tag = self._path.put_over(self._body(), version.tag)
            except FileExistsError:
                raise StoreLockedError(f"{self._what} was just taken by another writer") from None
        self._good_until = asked + self._seconds

    def _refuse_living(self, who: _Holder, version: Version) -> None:
        if not who.token:
            return
        end = version.modified + who.length + SLACK
        if _server_now(self._path) > end:
            return
        raise StoreLockedError(
            f"{self._what} is being written by process {who.pid} on {who.host} since {who.since}; "
            f"wait until it is done, or stop it. If it is dead already, its lease ends at "
            f"{end:%H:%M:%S} UTC (the server's time)"
        )

    def keep(self, stop: threading.Event) -> None:
        """Renew until told to stop, or until it is lost: then another writer may have it."""
        while not stop.wait(self._seconds / 4) and not self._lost:
            asked = _clock()
            self._beat += 1
            try:
                if not self._renew():
                    self._lost = "another writer has taken it over"
                    return
                self._good_until = asked + self._seconds
            except (OSError, UnreachableError):
                continue  # without any renewal the lease runs out

    def _renew(self) -> bool:
        try:
            self._tag = self._path.put_over(self._body(), self._tag)
        except FileExistsError:  # an earlier renewal may have come through without an answer
            raw, version = self._path.read_version()
            if _Holder.read(raw).token != self._token:
                return False
            # It counts from when it came through, which is not known: so once more.
            self._tag = self._path.put_over(self._body(), version.tag)
        return True

    def check(self) -> None:
        """StoreLockedError unless the lease is certainly still ours."""
        if not self._lost and _clock() >= self._good_until:
            self._lost = f"it could not be renewed for {self._seconds:g} s"
        if self._lost:
            raise StoreLockedError(
                f"{self._what}: this writer lost its lease ({self._lost}), so it stops here; what "
                "is committed stays, run the same command again to go on"
            )

    def free(self) -> None:
        """Say that no one holds it any more, unless another one does by now."""
        if not self._lost:
            with suppress(OSError, UnreachableError):
                self._path.put_over(self._body(token=""), self._tag)

    def _body(self, token: str | None = None) -> str:
        body: dict[str, Any] = {
            "token": self._token if token is None else token,
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "since": self._since,
            "seconds": self._seconds,
            "renewed": self._beat,  # every version has a tag of its own
        }
        return json.dumps(body)


def _server_now(path: ObjectPath) -> datetime:
    """The server's clock; UnreachableError where it does not tell."""
    return (path.parent / f".clock.{uuid.uuid4().hex}.tmp").touch_clock()


def _clock() -> float:
    """Seconds that go on while the machine sleeps: a lease does not."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
