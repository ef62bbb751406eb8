"""What a stranger may write: JSON with hostile values, seals that hold, and a watch over the rest.

A seal is a plain sha256, so whoever makes a store can make its seals hold.
"""

import copy
import hashlib
import json
import os
import signal
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from ser_features.errors import SerfeatError

PATIENCE = 60  # seconds until an operation counts as hanging
MOST_MEMORY = 48 * 2**20


def nested(levels: int) -> Any:
    value: Any = []
    for _ in range(levels):
        value = [value]
    return value


VALUES = [
    None, True, False, 0, 1, -1, 2, 255, 2**31, 2**53, 2**62, 2**63, 10**30, 0.5, -0.0, 1e308,
    float("inf"), float("-inf"), float("nan"), "", "x", "../../outside", "/etc/passwd", "a\0b",
    "a/b", "..", "\ud800", "\x1b[2J", "é" * 300, "x" * 5000, "0" * 64, [], {}, [[]], [None],
    {"a": 1}, ["../../outside"], nested(200), nested(900),
]  # fmt: skip
values = st.sampled_from(VALUES)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a JSON value but the root."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in items:
        yield (*path, key)
        if isinstance(item, dict | list):
            yield from places(item, (*path, key))


def changed(value: Any, pick: int, how: str, new: Any) -> Any:
    """The value with one place replaced, deleted, there twice, or under another name."""
    made = copy.deepcopy(value)
    every = list(places(made))
    *above, last = every[pick % len(every)]
    inner = made
    for key in above:
        inner = inner[key]
    if how == "delete":
        del inner[last]
    elif how == "twice" and isinstance(inner, list):
        inner.insert(last, inner[last])
    elif how == "rename" and isinstance(inner, dict):
        inner["../" + str(last)] = inner.pop(last)
    else:
        inner[last] = new
    return made


hows = st.sampled_from(["replace", "replace", "replace", "delete", "twice", "rename"])


def sealed(body: Any) -> bytes:
    """A one-line seal over any JSON, also over what the project's own writer refuses."""
    text = json.dumps(body, separators=(",", ":"))
    return f'{{"sha256":"{hashlib.sha256(text.encode()).hexdigest()}","body":{text}}}\n'.encode()


class HangError(BaseException):
    """Not an Exception: no handler of the code under test may take it for its own."""


@contextmanager
def bounded(most: int = MOST_MEMORY) -> Iterator[None]:
    """No hang, and no more memory than ``most``, NumPy's arrays included, touched or not."""

    def hang(*_: object) -> None:
        raise HangError(f"still running after {PATIENCE} s")

    before = signal.signal(signal.SIGALRM, hang)
    signal.alarm(PATIENCE)
    tracemalloc.start(1)
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    assert peak < most, f"{peak / 2**20:.0f} MB"


def told(error: SerfeatError, *names: str) -> None:
    """The error is a sentence that names what it is about."""
    text = str(error)
    assert any(name in text for name in names), text
    assert len(text) < 20_000
    assert "Traceback" not in text


def everything(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Every file and link below a folder: what a test must find unchanged."""
    found = {}
    for root, _, names in os.walk(folder):
        for name in names:
            path = Path(root) / name
            status = path.lstat()
            content = os.fsencode(path.readlink()) if path.is_symlink() else path.read_bytes()
            found[str(path)] = (content, status.st_mtime_ns)
    return found
