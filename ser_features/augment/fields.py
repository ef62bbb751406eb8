"""The fields of a recorded draw: what each one may hold."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from ser_features.augment.values import OneOf, Span, Value, show
from ser_features.records import Json

MOST_SAMPLES = 2**40
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Field:
    """One field: what it holds in words, and whether a value is that.

    ``holds`` is None where it is a parameter's value, so that what was asked for decides.
    """

    name: str
    what: str = ""
    holds: Callable[[Json], bool] | None = None

    def asked(self, values: dict[str, Value]) -> "Field":
        """The field, with the values that were asked for in the place of None."""
        value = values.get(self.name)
        if self.holds is not None or value is None:
            return self
        if isinstance(value, Span):
            return number(self.name, value.low, value.high)
        items = value.items if isinstance(value, OneOf) else (value,)
        return Field(self.name, show(value, either=" or "), lambda found: _is_one(found, items))


def asked(name: str) -> Field:
    """A number or word that the parameter of that name allows."""
    return Field(name)


def whole(name: str, low: int = 0, high: int = MOST_SAMPLES) -> Field:
    """A whole number."""
    return Field(
        name,
        f"a whole number from {low} to {high}",
        lambda found: type(found) is int and low <= found <= high,
    )


def number(name: str, low: float, high: float) -> Field:
    """A number; no range holds what is not finite."""
    return Field(
        name,
        f"a number from {low:g} to {high:g}",
        lambda found: type(found) in (int, float) and low <= found <= high,
    )


def flag(name: str) -> Field:
    """True or false."""
    return Field(name, "true or false", lambda found: isinstance(found, bool))


def text(name: str) -> Field:
    """Any text, such as the id of an utterance."""
    return Field(name, "a text", lambda found: isinstance(found, str))


def word(name: str, *words: str) -> Field:
    """One of these words."""
    return Field(name, " or ".join(words), lambda found: _is_one(found, words))


def sha256(name: str) -> Field:
    """The content of a recording, so that no record names a path."""
    return Field(
        name,
        "the sha256 of a recording",
        lambda found: isinstance(found, str) and _SHA256.fullmatch(found) is not None,
    )


def listed(of: Field, least: int, most: int) -> Field:
    """``least`` to ``most`` items, each as ``of`` says."""

    def holds(found: Json) -> bool:
        one = of.holds
        return isinstance(found, list) and least <= len(found) <= most and (
            one is not None and all(map(one, found))
        )  # fmt: skip

    return Field(of.name, f"{least} to {most} of: {of.what}", holds)


def _is_one(found: Json, items: tuple[float | str, ...]) -> bool:
    return type(found) in (int, float, str) and found in items
