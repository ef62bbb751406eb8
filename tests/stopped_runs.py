"""Runs that stop where a test says, as a kill would stop them."""

from collections.abc import Callable
from typing import Any

from ser_features.store.writer import StoreWriter


class Stop(BaseException):
    """What a test raises in place of a kill."""


def stopping(at: int, after: bool) -> Callable[..., None]:
    """A ``StoreWriter.write`` that stops at its ``at``-th call, before or after the writing."""
    write, count = StoreWriter.write, iter(range(10**6))

    def stopped(self: StoreWriter, *args: Any) -> None:
        last = next(count) == at
        if last and not after:
            raise Stop
        write(self, *args)
        if last:
            raise Stop

    return stopped
