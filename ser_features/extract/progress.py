"""How long work tells whoever watches about itself; the library itself prints nothing."""

from typing import Protocol


class Progress(Protocol):
    """What a watcher of long work implements."""

    def start(self, what: str, total: float, unit: str) -> None:
        """A stage begins; ``total`` is its size in ``unit`` (0 where unknown)."""

    def advance(self, amount: float) -> None:
        """So much more of the stage is done."""

    def say(self, message: str) -> None:
        """Something the user should read now."""


class Silent:
    """A watcher that ignores everything."""

    def start(self, what: str, total: float, unit: str) -> None:
        """Ignore it."""

    def advance(self, amount: float) -> None:
        """Ignore it."""

    def say(self, message: str) -> None:
        """Ignore it."""
