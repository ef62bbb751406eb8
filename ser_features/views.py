"""What heads train on: chosen utterances and layers of a feature set, pooled or frame by frame."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ser_features.errors import TrainError, UsageError
from ser_features.records import FeatureSetSpec, Json, Source

Indices = npt.NDArray[np.int64]


class Features(Protocol):
    """The part of ``store.reader.FeatureSet`` that views and runs read."""

    @property
    def spec(self) -> FeatureSetSpec:
        """Names and shape."""

    @property
    def ids(self) -> tuple[str, ...]:
        """The utterances that are present, shard by shard."""

    @property
    def num_frames(self) -> Indices:
        """Frames of each utterance, in the order of ``ids``."""

    @property
    def audio_sha256(self) -> tuple[str, ...]:
        """Hash of each utterance's audio, in the order of ``ids``."""

    @property
    def num_bytes(self) -> int:
        """Bytes as stored."""

    @property
    def provenance(self) -> Mapping[str, Json]:
        """How it was made."""

    def pooled(
        self, kind: str, ids: Sequence[str] | None = None, layers: Sequence[int] | None = None
    ) -> npt.NDArray[np.float32]:
        """Pooled features [len(ids), len(layers), D]."""

    def frames(self, utterance: str, layers: Sequence[int] | None = None) -> npt.NDArray[Any]:
        """Every frame of one utterance, [T, len(layers), D]."""


def resolve_layers(which: str | int, num_layers: int) -> tuple[int, ...]:
    """The layer numbers that ``--layers`` names: ``last``, ``all``, or one number from 0.

    >>> resolve_layers("last", 13), resolve_layers("3", 13), resolve_layers("all", 3)
    ((12,), (3,), (0, 1, 2))

    Raises UsageError for anything else.
    """
    if which == "all":
        return tuple(range(num_layers))
    if which == "last":
        return (num_layers - 1,)
    text = str(which)
    if text.isascii() and text.isdecimal() and int(text) < num_layers:
        return (int(text),)
    raise UsageError(
        f"layers {which!r}: expected 'last', 'all' or a number from 0 to {num_layers - 1}"
    )


@dataclass(frozen=True, slots=True)
class Part:
    """One feature set of several, and how the ids of its utterances are written.

    ``augmentation`` names copies: ``u1`` is ``u1@noise-10db``. ``corpus`` names a second corpus:
    ``urdu:u1``. Both are empty for the main feature set. ``only`` are the utterances to take
    (their own ids), None for all.
    """

    features: Features
    augmentation: str = ""
    corpus: str = ""
    only: frozenset[str] | None = None

    @property
    def kept(self) -> tuple[str, ...]:
        """The utterances that are taken, in the feature set's order."""
        ids = self.features.ids
        return ids if self.only is None else tuple(key for key in ids if key in self.only)

    def row_id(self, utterance: str) -> str:
        """What an utterance of this part is called among several parts."""
        return row_id(utterance, self.augmentation, self.corpus)


def row_id(utterance: str, augmentation: str = "", corpus: str = "") -> str:
    """The id of a copy or of a second corpus's utterance.

    >>> row_id("u1"), row_id("u1", "noise-10db"), row_id("u1", "noise-10db", "urdu")
    ('u1', 'u1@noise-10db', 'urdu:u1@noise-10db')
    """
    copied = f"{utterance}@{augmentation}" if augmentation else utterance
    return f"{corpus}:{copied}" if corpus else copied


class Joined:
    """Several feature sets of one upstream as one: what folds of more than one set train on.

    Rows are part by part; nothing is copied or read until it is asked for. Frames are there where
    every part keeps them, as float32 where any part does. Raises TrainError where the parts are
    not of one upstream and shape, or where two rows would have one id.

    For example ``Joined([Part(clean), Part(noisy, "noise-10db"), Part(urdu, corpus="urdu")])``.
    """

    def __init__(self, parts: Iterable[Part]) -> None:
        self.parts = tuple(parts)
        self._row = {
            part.row_id(key): (number, key)
            for number, part in enumerate(self.parts)
            for key in part.kept
        }
        _check_parts(self.parts, len(self._row))
        self.spec = replace(self.parts[0].features.spec, frames=_frames_of(self.parts))

    @property
    def ids(self) -> tuple[str, ...]:
        """The rows of all parts."""
        return tuple(self._row)

    @property
    def num_frames(self) -> Indices:
        """Frames of each row, in the order of ``ids``."""
        counts = [
            dict(zip(p.features.ids, p.features.num_frames.tolist(), strict=True))
            for p in self.parts
        ]
        return np.array([counts[number][key] for number, key in self._row.values()], np.int64)

    @property
    def audio_sha256(self) -> tuple[str, ...]:
        """Hash of each row's audio, in the order of ``ids``."""
        hashes = [
            dict(zip(p.features.ids, p.features.audio_sha256, strict=True)) for p in self.parts
        ]
        return tuple(hashes[number][key] for number, key in self._row.values())

    @property
    def partners(self) -> dict[str, tuple[str, str]]:
        """Row -> the row that it was joined with, and the hash of the audio that was joined.

        Only of copies (CopyPaste), and only where their feature set has recorded it.
        """
        return {
            part.row_id(key): (row_id(source.partner.id, corpus=part.corpus), heard)
            for part in self.parts
            if part.augmentation
            for key, source in getattr(part.features, "sources", {}).items()
            if isinstance(source.partner, Source)
            for heard in [source.partner.audio_sha256]
        }

    @property
    def num_bytes(self) -> int:
        """Bytes of all parts as stored."""
        return sum(part.features.num_bytes for part in self.parts)

    @property
    def provenance(self) -> Mapping[str, Json]:
        """How the first part was made."""
        return self.parts[0].features.provenance

    def pooled(
        self, kind: str, ids: Sequence[str] | None = None, layers: Sequence[int] | None = None
    ) -> npt.NDArray[np.float32]:
        """Pooled features [len(ids), len(layers), D]; each part is read once."""
        wanted = [self._row[key] for key in (self.ids if ids is None else ids)]
        num_layers = self.spec.num_layers if layers is None else len(layers)
        found = np.empty((len(wanted), num_layers, self.spec.dim), np.float32)
        for number, part in enumerate(self.parts):
            at = [i for i, (own, _) in enumerate(wanted) if own == number]
            if at:
                found[at] = part.features.pooled(kind, [wanted[i][1] for i in at], layers)
        return found

    def frames(self, utterance: str, layers: Sequence[int] | None = None) -> npt.NDArray[Any]:
        """Every frame of one row, [T, len(layers), D]."""
        number, key = self._row[utterance]
        return self.parts[number].features.frames(key, layers)


def _check_parts(parts: Sequence[Part], num_rows: int) -> None:
    if not parts:
        raise TrainError("nothing to join: no feature set was given")
    shapes = [(p.features.spec.upstream, p.features.spec.num_layers, p.features.spec.dim)
              for p in parts]  # fmt: skip
    if other := [shape for shape in shapes if shape != shapes[0]]:
        raise TrainError(
            "feature sets that train together must be of one upstream, found "
            + " and ".join(f"{n} with {c} layers of {d}" for n, c, d in (shapes[0], other[0]))
        )
    names = [(part.corpus, part.augmentation) for part in parts]
    if len(set(names)) < len(names) or num_rows < sum(len(part.kept) for part in parts):
        listed = ", ".join(repr(row_id("ID", a, c)) for c, a in names)
        raise TrainError(f"two rows of the joined feature sets would have one id: {listed}")


def _frames_of(parts: Sequence[Part]) -> str:
    kinds = {part.features.spec.frames for part in parts}
    if "none" in kinds:
        return "none"
    return kinds.pop() if len(kinds) == 1 else "float32"


@dataclass(frozen=True, slots=True)
class PooledView:
    """Pooled features of ``ids``; ``kind`` is mean, std or mean_layernorm."""

    features: Features
    ids: tuple[str, ...]
    kind: str = "mean"

    @property
    def num_layers(self) -> int:
        """Layers of the feature set."""
        return self.features.spec.num_layers

    def load(self, which: str | int = "all") -> npt.NDArray[np.float32]:
        """The chosen layers, float32 [N, L', D], rows in the order of ``ids``."""
        layers = resolve_layers(which, self.num_layers)
        whole = len(layers) == self.num_layers
        return self.features.pooled(self.kind, self.ids, None if whole else layers)


class FrameView:
    """Frames of ``ids`` at the chosen layers, read one utterance at a time, from any thread.

    Raises TrainError where an id is not in the feature set or it keeps no frames.
    """

    def __init__(self, features: Features, ids: Sequence[str], which: str | int = "last") -> None:
        spec = features.spec
        if spec.frames == "none":
            raise TrainError(
                f"{spec.corpus}/{spec.upstream} keeps pooled features only, but this head reads "
                "frames: run 'serfeat extract --frames'"
            )
        self._features, self.ids = features, tuple(ids)
        self.dim, self.num_layers, self.upstream = spec.dim, spec.num_layers, spec.upstream
        self.dtype = np.dtype(spec.frames)
        self.layers = resolve_layers(which, spec.num_layers)
        self._asked = None if len(self.layers) == spec.num_layers else self.layers
        self.num_frames, self.stored = self._find()

    def _find(self) -> tuple[Indices, Indices]:
        place = {key: i for i, key in enumerate(self._features.ids)}
        if missing := [key for key in self.ids if key not in place]:
            raise TrainError(
                f"{len(missing)} utterances have no features (first: {missing[0]!r}); "
                "extract them first"
            )
        at = np.array([place[key] for key in self.ids], np.int64)
        return self._features.num_frames[at], at

    @property
    def frame_bytes(self) -> int:
        """Bytes of one frame as stored, all chosen layers."""
        return len(self.layers) * self.dim * self.dtype.itemsize

    def read(self, row: int) -> npt.NDArray[Any]:
        """The frames of ``ids[row]``, [T, L', D] in the stored dtype."""
        return self._features.frames(self.ids[row], self._asked)
