"""Reading a feature set: committed shards only, every byte through its checksum."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ser_features.errors import DamageError, StoreError
from ser_features.files import uncollected
from ser_features.records import FeatureSetSpec, Json, Source
from ser_features.registry import unknown
from ser_features.store.catalog import names_in
from ser_features.store.forms import Commit
from ser_features.store.layout import first_object, ids_in_object, object_name, row_starts
from ser_features.store.place import Place, side_by_side
from ser_features.store.schema import (
    POOLED,
    Location,
    check_inside,
    check_store,
    cut_of,
    locate,
    name_of,
)
from ser_features.store.shards import Sharding, read_part
from ser_features.store.state import State, load_state


@dataclass(frozen=True, slots=True)
class ShardFrames:
    """One shard's utterances in a row: ``frames`` is [sum(num_frames), layers, D].

    In memory it is layer after layer as it is stored, so ``frames[:, layer]`` is contiguous.
    """

    ids: tuple[str, ...]
    num_frames: tuple[int, ...]
    frames: NDArray[Any]


class _Row(NamedTuple):
    """Where an utterance lies; a tuple, because a million are made where a set is opened."""

    commit: Commit
    position: int  # in the shard
    source: Source

    @property
    def num_frames(self) -> int:
        return self.commit.shard.num_frames[self.position]


class FeatureSet:
    """The committed content of one feature set as it was when opened.

    Rows are in the order of ``ids``: shard by shard. Where an id was extracted twice (its audio
    changed), only the later one is there. Reads raise DamageError where stored bytes do not match
    their checksum, and name the object and the utterances in it.
    """

    def __init__(self, location: Location, state: State) -> None:
        self._location, self._state = location, state
        self._rows = _latest_rows(state)
        self._inside: set[str] = set()  # arrays whose folder is known to lie in the store

    @property
    def spec(self) -> FeatureSetSpec:
        """Names, shape and key."""
        return self._state.metadata.spec

    @property
    def name(self) -> str:
        """``corpus/upstream/leaf``."""
        return self._location.name

    @property
    def provenance(self) -> Mapping[str, Json]:
        """How it was made: upstream, checkpoint hashes, preprocessing, versions, device, date."""
        return self.spec.provenance

    @property
    def ids(self) -> tuple[str, ...]:
        """The utterances that are present."""
        return tuple(self._rows)

    @property
    def num_frames(self) -> NDArray[np.int64]:
        """Frames of each utterance, in the order of ``ids``."""
        counts = [commit.shard.num_frames[i] for commit, i, _ in self._rows.values()]
        return np.array(counts, np.int64)

    @property
    def audio_sha256(self) -> tuple[str, ...]:
        """Hash of each utterance's decoded audio, in the order of ``ids``."""
        return tuple(row.source.audio_sha256 for row in self._rows.values())

    @property
    def sources(self) -> dict[str, Source]:
        """What each utterance was made from, by id."""
        return {key: row.source for key, row in self._rows.items()}

    def generations(self) -> list[dict[str, Source]]:
        """The sources that each generation of the plan has brought; a later one counts."""
        return self._state.generations()

    @property
    def planned_shards(self) -> int:
        """Shards of all generations of the plan."""
        return len(self._state.shards)

    @property
    def committed_shards(self) -> int:
        """Shards that need no more work: written or abandoned."""
        return len(self._state.commits)

    @property
    def complete(self) -> bool:
        """Whether nothing that was planned is still to be written."""
        return self.committed_shards == self.planned_shards

    @property
    def num_bytes(self) -> int:
        """Bytes of all stored objects."""
        commits = self._state.commits.values()
        return sum(total.size for commit in commits for total in commit.objects.values())

    def pooled(
        self, kind: str, ids: Sequence[str] | None = None, layers: Sequence[int] | None = None
    ) -> NDArray[np.float32]:
        """Pooled features, float32 [len(ids), len(layers), D], in the order asked.

        ``kind`` is mean, std or mean_layernorm; None means all ids, all layers. Negative layers
        count from the last. Raises StoreError for a name that is not there.
        """
        if kind not in POOLED:
            raise StoreError(unknown("pooled array", kind, POOLED))
        rows = [self._row(key) for key in (self.ids if ids is None else ids)]
        chosen = self._layers(layers)
        out = _empty((len(rows), len(chosen), self.spec.dim), "float32", self.name)

        def fill(members: list[int]) -> None:
            commit = rows[members[0]].commit
            at = np.array([rows[i].position for i in members])
            for first, last in _runs(sorted(set(at.tolist()))):
                block = np.empty((last - first, len(chosen), self.spec.dim), np.float32)
                self._read_rows(f"pooled/{kind}", commit, first, chosen, block)
                hit = (at >= first) & (at < last)
                out[np.array(members)[hit]] = block[at[hit] - first]

        side_by_side(self._location.group, fill, _by_shard(rows).values())
        return out

    def frames(self, utterance: str, layers: Sequence[int] | None = None) -> NDArray[Any]:
        """Every frame of one utterance, [T, len(layers), D] in the stored dtype.

        In memory it is layer after layer as it is stored, so ``[:, layer]`` is contiguous.
        Raises StoreError where the id is not there or the feature set keeps no frames.
        """
        self._check_frames()
        return self._read_utterances([self._row(utterance)], self._layers(layers))

    def iter_shards(self, layers: Sequence[int] | None = None) -> Iterator[ShardFrames]:
        """All frames, shard by shard: the fast way through a whole feature set.

        Memory holds one shard at a time. Raises StoreError where the set keeps no frames.
        """
        self._check_frames()
        chosen = self._layers(layers)
        for index in sorted(self._state.commits):
            commit = self._state.commits[index]
            keys = [key for key in commit.ids if self._rows[key].commit is commit]
            if keys:
                rows = [self._rows[key] for key in keys]
                counts = tuple(row.num_frames for row in rows)
                yield ShardFrames(tuple(keys), counts, self._read_utterances(rows, chosen))

    def _read_utterances(self, rows: Sequence[_Row], layers: Sequence[int]) -> NDArray[Any]:
        """The frames of a shard's utterances in stored order, [sum of frames, layers, D]."""
        total = sum(row.num_frames for row in rows)
        # Layer after layer as the chunks are: they are read into place, which halves the copying.
        shape = (len(layers), total, self.spec.dim)
        out = _empty(shape, self.spec.frames, self.name).swapaxes(0, 1)
        commit, done = rows[0].commit, 0
        starts = row_starts(commit.shard)
        begins = [starts[row.position] - commit.shard.first_frame for row in rows]
        spans = [(at, at + row.num_frames) for at, row in zip(begins, rows, strict=True)]
        for first, last in _merged(spans):
            piece = out[done : done + last - first]  # no gap of a rejected utterance within
            self._read_rows("frames", commit, first, layers, piece)
            done += last - first
        return out

    def _row(self, key: str) -> _Row:
        row = self._rows.get(key)
        if row is None:
            raise StoreError(
                f"feature set {self.name} holds no utterance {key!r} ({len(self._rows)} are there, "
                f"{self.committed_shards} of {self.planned_shards} shards): run 'serfeat extract'"
            )
        return row

    def _layers(self, layers: Sequence[int] | None) -> list[int]:
        every = range(self.spec.num_layers)
        try:
            return list(every) if layers is None else [every[layer] for layer in layers]
        except IndexError:
            raise StoreError(
                f"layers {list(layers or ())} of {self.name}: it has layers 0 to {every[-1]}"
            ) from None

    def _check_frames(self) -> None:
        if self.spec.frames == "none":
            raise StoreError(
                f"feature set {self.name} keeps pooled features only: run "
                "'serfeat extract --frames'"
            )

    def _read_rows(
        self, array: str, commit: Commit, start: int, layers: Sequence[int], out: NDArray[Any]
    ) -> None:
        """Fill ``out`` [n, layers, D] from row ``start`` of the shard's first object on."""
        cut = cut_of(self.spec, array)
        first, done = first_object(self.spec, commit.shard, array), 0
        while done < len(out):
            k, row = divmod(start + done, cut.rows)
            piece = out[done : done + cut.rows - row]
            self._read_object(commit, object_name(array, first + k), cut, row, layers, piece)
            done += len(piece)

    def _read_object(
        self,
        commit: Commit,
        name: str,
        cut: Sharding,
        row: int,
        layers: Sequence[int],
        out: NDArray[Any],
    ) -> None:
        path, array = self._location.group / name, name.rpartition("/")[0]
        if array not in self._inside:  # it takes longer than a small read
            check_inside(self._location.store, path.parent)
            self._inside.add(array)
        try:
            read_part(path, cut, row, layers, out)
        except DamageError as error:
            raise self._damage(commit, name, str(error)) from error
        except FileNotFoundError as error:
            raise self._damage(commit, name, "missing") from error
        except OSError as error:
            raise StoreError(f"cannot read {path}: {error.strerror or error}") from error

    def _damage(self, commit: Commit, name: str, problem: str) -> DamageError:
        present = set(commit.ids)
        ids = [key for key in ids_in_object(self.spec, commit.shard, name) if key in present]
        shown = ", ".join(ids[:5]) + (f" and {len(ids) - 5} more" if len(ids) > 5 else "")
        return DamageError(
            f"feature set {self.name}: {name} is damaged ({problem}); it holds "
            f"{shown}; run 'serfeat store verify --repair'"
        )


def open_feature_set(store: Place, which: str | FeatureSetSpec) -> FeatureSet:
    """Open a feature set by its name ``corpus/upstream/leaf`` or by its spec.

    Raises StoreError where there is none, DamageError where a sealed file is damaged.
    """
    check_store(store)
    name = which if isinstance(which, str) else name_of(which)
    location = locate(store, name)
    try:
        return FeatureSet(location, load_state(location))
    except FileNotFoundError as error:
        if location.commits.is_dir() and error.filename != str(location.metadata):
            raise DamageError(f"{error.filename} vanished while reading; try again") from error
        raise StoreError(unknown("feature set", location.name, names_in(store))) from None
    except OSError as error:
        raise StoreError(f"cannot read {location.name}: {error}") from error


def _empty(shape: tuple[int, ...], dtype: str, name: str) -> NDArray[Any]:
    try:
        return np.empty(shape, dtype)
    except (MemoryError, ValueError):
        raise StoreError(
            f"feature set {name}: {dtype} {list(shape)} does not fit in memory; read fewer "
            "utterances or layers at a time, and see 'serfeat store verify'"
        ) from None


@uncollected()
def _latest_rows(state: State) -> dict[str, _Row]:
    rows: dict[str, _Row] = {}
    for index in sorted(state.commits):
        commit = state.commits[index]
        ids, planned = commit.ids, commit.shard.ids
        if not rows.keys().isdisjoint(ids):
            for key in ids:
                rows.pop(key, None)  # the later one counts, and its place in the order too
        at = range(len(ids)) if ids == planned else _positions(planned, ids)
        rows.update(zip(ids, map(_Row, repeat(commit), at, commit.sources), strict=False))
    return rows


def _positions(planned: Sequence[str], ids: Sequence[str]) -> list[int]:
    position = {key: i for i, key in enumerate(planned)}
    return [position[key] for key in ids]


def _by_shard(rows: list[_Row]) -> dict[int, list[int]]:
    """Positions in ``rows`` of each shard's members."""
    groups: dict[int, list[int]] = {}
    for i, row in enumerate(rows):
        groups.setdefault(row.commit.shard.index, []).append(i)
    return groups


def _runs(rows: list[int]) -> list[tuple[int, int]]:
    """Rising row numbers as ``(first, last + 1)`` of the runs without a gap."""
    return _merged([(row, row + 1) for row in rows])


def _merged(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Spans in rising order, with neighbours joined.

    >>> _merged([(0, 2), (2, 5), (7, 8)])
    [(0, 5), (7, 8)]
    """
    joined: list[tuple[int, int]] = []
    for first, last in spans:
        if joined and joined[-1][1] == first:
            joined[-1] = (joined[-1][0], last)
        else:
            joined.append((first, last))
    return joined
