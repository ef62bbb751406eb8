"""Values of parameters: one number or word, several to choose from, or a range of numbers."""

import math
import re
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

_NUMBER = r"-?[0-9]+(?:\.[0-9]+)?"
_SPAN = re.compile(f"({_NUMBER})-({_NUMBER})")
_WORD = re.compile(r"[a-z][a-z0-9]*")


@dataclass(frozen=True, slots=True)
class Span:
    """Any number from ``low`` to ``high``, uniformly."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class OneOf:
    """One of these, each as likely; a single one is a fixed value."""

    items: tuple[float | str, ...]


Value: TypeAlias = Span | OneOf | str
"""A text is a folder's path."""


def parse_numbers(text: str) -> Span | OneOf:
    """``10``, ``10/5/0`` or ``0.9-1.2``; ValueError for anything else.

    >>> parse_numbers("0.9-1.2"), parse_numbers("10/5"), parse_numbers("-6--1").low
    (Span(low=0.9, high=1.2), OneOf(items=(10.0, 5.0)), -6.0)
    """
    if span := _SPAN.fullmatch(text):
        low, high = _number(span[1]), _number(span[2])
        if low < high:
            return Span(low, high)
        raise ValueError("a range from the smaller to the larger number")
    return OneOf(tuple(_number(item) for item in text.split("/")))


def parse_words(text: str) -> OneOf:
    """``mp3`` or ``mp3/ogg``; ValueError for anything else."""
    items = text.split("/")
    if all(_WORD.fullmatch(item) for item in items):
        return OneOf(tuple(items))
    raise ValueError("a word, or several joined by '/'")


def _number(text: str) -> float:
    if not re.fullmatch(_NUMBER, text) or not math.isfinite(float(text)):
        raise ValueError("a number, a choice as in 10/5/0, or a range as in 0.9-1.2")
    return float(text) + 0.0  # no negative zero: it would be another key


def show(value: Value, either: str = "/", to: str = "-") -> str:
    """The one text of a value, which parses to it again.

    >>> show(Span(0.9, 1.2)), show(OneOf((10.0, 5.0))), show(OneOf((10.0, 5.0)), either="or")
    ('0.9-1.2', '10/5', '10or5')
    """
    if isinstance(value, Span):
        return f"{_digits(value.low)}{to}{_digits(value.high)}"
    if isinstance(value, OneOf):
        items = (item if isinstance(item, str) else _digits(item) for item in value.items)
        return either.join(items)
    return value


def _digits(number: float) -> str:
    return np.format_float_positional(number, trim="-")
