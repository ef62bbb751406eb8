"""What one augmentation is, and what it is given when it draws and when it is applied."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ser_features.augment.fields import Field
from ser_features.augment.folder import Recording
from ser_features.augment.partners import Partners
from ser_features.augment.values import OneOf, Span, Value, parse_numbers, parse_words, show
from ser_features.errors import AudioError
from ser_features.fingerprint import canonical_json
from ser_features.records import Json, Utterance

Samples: TypeAlias = NDArray[np.float32]
Drawn: TypeAlias = Mapping[str, Json]

REASONS = {
    "changed": "the recording has another length than when its augmentation was drawn",
    "no-partner": "CopyPaste finds no other utterance with the label that it needs",
    "partner": "the partner that CopyPaste drew cannot be used",
    "augmentation": "the augmentation cannot be applied to this recording",
}
"""Why an augmentation rejects an utterance that is fine when clean."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter: its unit, bounds, default (``""``: must be given), and the default's source.

    ``suffix`` is the unit in names of feature sets; ``shown`` puts it there even at its default.
    ``counts`` is for whole numbers, of which a range would leave the last one out.
    """

    name: str
    what: str
    default: str
    source: str
    unit: str = ""
    suffix: str = ""
    low: float = 0.0
    high: float = 1.0
    words: tuple[str, ...] = ()
    folder: bool = False
    shown: bool = False
    counts: bool = False

    def read(self, text: str) -> Value:
        """The value that a text stands for; ValueError says what is expected instead."""
        if self.folder:
            return _absolute(text)
        value = parse_words(text) if self.words else parse_numbers(text)
        found = (value.low, value.high) if isinstance(value, Span) else value.items
        if self.words and not set(found) <= set(self.words):
            raise ValueError(f"words of {', '.join(self.words)}")
        if not self.words and not all(self.low <= float(one) <= self.high for one in found):
            bounds = show(Span(self.low, self.high), to=" to ")
            raise ValueError(f"numbers from {bounds} {self.unit}".rstrip())
        if self.counts and (isinstance(value, Span) or any(float(one) % 1 for one in found)):
            raise ValueError("a whole number, or several to choose from as in 1/2")
        return value


def _absolute(text: str) -> str:
    try:
        found = str(Path(text).expanduser().absolute())
        found.encode()  # a store names it
    except RuntimeError as error:  # no such user
        raise ValueError(f"a folder ({error})") from error
    except UnicodeEncodeError:
        raise ValueError("a folder whose name is valid Unicode; rename it or link to it") from None
    return found


class Dice:
    """Chance for one utterance, from names only: never from an order, a worker or a clock.

    NumPy has frozen the streams of ``RandomState``, so that a draw is the same on any version.
    """

    def __init__(self, *names: Json) -> None:
        digest = hashlib.sha256(canonical_json(list(names)).encode()).digest()
        self._stream = np.random.RandomState(np.frombuffer(digest, "<u4").tolist())

    def uniform(self, low: float, high: float) -> float:
        """A number from ``low`` to ``high``."""
        return low + (high - low) * float(self._stream.random_sample())

    def index(self, count: int) -> int:
        """A whole number from 0 to ``count - 1``."""
        return min(int(self._stream.random_sample() * count), count - 1)

    def seed(self) -> int:
        """A seed for what is too large to record, such as a noise."""
        return self.index(2**31)

    def number(self, value: Value) -> float:
        """A number that ``value`` allows."""
        if isinstance(value, Span):
            return self.uniform(value.low, value.high)
        return float(self._item(value))

    def word(self, value: Value) -> str:
        """A word that ``value`` allows."""
        return str(self._item(value))

    def _item(self, value: Value) -> float | str:
        if not isinstance(value, OneOf):
            raise TypeError(f"{value!r} is no choice")
        return value.items[self.index(len(value.items))]


def noise_stream(seed: int) -> np.random.RandomState:
    """The frozen stream behind a recorded seed."""
    return np.random.RandomState(seed)


@dataclass(frozen=True, slots=True)
class Context:
    """What a draw may depend on; ``num_samples`` and ``sample_rate`` (Hz) at the upstream's rate.

    ``recordings`` are those of each folder, ordered by content.
    """

    utterance: Utterance
    num_samples: int
    sample_rate: int
    recordings: Mapping[str, tuple[Recording, ...]]
    partners: Partners


@dataclass(frozen=True, slots=True)
class Scene:
    """What applying a draw needs beside the draw: recordings by sha256, the partner's samples."""

    sample_rate: int
    recordings: Mapping[str, Recording]
    partner: Samples | None = None

    def recording(self, sha256: str) -> Recording:
        """The noise or room response of that content; AudioError where it is not there."""
        if sha256 in self.recordings:
            return self.recordings[sha256]
        raise AudioError("augmentation", f"no recording with sha256 {sha256} is in the folder")


@dataclass(frozen=True, slots=True)
class Kind:
    """One augmentation. ``version`` goes up whenever the same draw would give other samples,
    or the same dice another draw.

    ``draw`` gives everything random as JSON, the ``fields``, with ``num_samples`` where the length
    changes;
    ``apply`` is a pure function of samples float32 [n], that draw and the scene. ``needs`` names
    modules of the extra ``augment``, ``inner`` other kinds that it may turn into. Where a change
    touches some values only, ``later`` says which have the next version: the others keep their key.
    """

    name: str
    what: str
    source: str
    parameters: tuple[Parameter, ...]
    fields: tuple[Field, ...]
    draw: Callable[[Dice, Mapping[str, Value], Context], dict[str, Json]]
    apply: Callable[[Samples, Drawn, Scene], Samples]
    needs: tuple[str, ...] = ()
    inner: tuple[str, ...] = ()
    partner: bool = False
    version: int = 1
    later: Callable[[Mapping[str, Value]], bool] | None = None

    def version_of(self, values: Mapping[str, Value]) -> int:
        """The version for these values."""
        return self.version + (self.later is not None and self.later(values))

    @property
    def defaults(self) -> dict[str, Value]:
        """The default of every parameter that has one."""
        return {one.name: one.read(one.default) for one in self.parameters if one.default}


def as_samples(values: NDArray[np.floating]) -> Samples:
    """Float32 [n], contiguous."""
    return np.ascontiguousarray(values, np.float32)


def fit(samples: Samples, num_samples: int) -> Samples:
    """Cut, or padded with zeros at the end, to ``num_samples``."""
    if len(samples) >= num_samples:
        return samples[:num_samples]
    return np.pad(samples, (0, num_samples - len(samples)))
