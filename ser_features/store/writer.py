"""Writing a feature set: one locked writer, whole shards, nothing counts before its record."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from ser_features.errors import DamageError, StoreError
from ser_features.files import fsync_folder, read_whole, remove_tree
from ser_features.records import FeatureSetSpec, Shard, Source
from ser_features.store.forms import (
    Commit,
    Generation,
    Plan,
    check_sources,
    commit_to_json,
    plan_to_json,
)
from ser_features.store.layout import check_shard, end_frame, shard_objects
from ser_features.store.lock import writer_lock
from ser_features.store.moved import forget, remember
from ser_features.store.objects import ObjectSum, flush, publish, store_errors
from ser_features.store.outputs import ShardOutputs, check_outputs
from ser_features.store.place import Place, files_below, put, put_new_sealed, put_sealed, remote
from ser_features.store.publish import put_shard, stage_shard
from ser_features.store.schema import (
    ROOT_FILE,
    SCHEMA,
    ZARR_ROOT,
    Location,
    check_inside,
    check_spec,
    check_store,
    locate,
    name_of,
    root_documents,
)
from ser_features.store.state import (
    Metadata,
    State,
    check_room,
    intended,
    load_plan,
    load_state,
    metadata_to_json,
)


def make_store(store: Place) -> None:
    """Create an empty store, or check that ``store`` is one that this version reads."""
    if (store / ROOT_FILE).exists() or (store / ZARR_ROOT).exists():
        check_store(store)
    else:
        put_sealed(store / ROOT_FILE, {"schema": SCHEMA})


def clear(folder: Path) -> None:
    """Leave no file in ``folder``; its subfolders may stay for the next use."""
    for path in folder.rglob("*"):
        if path.is_symlink() or not path.is_dir():
            path.unlink()


def write_if_changed(path: Place, text: str) -> bool:
    """Write ``text`` unless the file holds it; says whether it wrote."""
    try:
        if read_whole(path) == text.encode():
            return False
    except FileNotFoundError:
        pass
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror or error}") from error
    put(path, text)
    return True


class StoreWriter:
    """The only writer of one feature set; a context manager that holds the set's lock.

    ``spec`` is what is stored: of a set that exists, ``rows``, ``capacity`` and ``provenance``
    are those it was made with, so plan with ``writer.spec``.

    Raises StoreLockedError where another process writes the set, StoreError where the folder
    cannot be written or holds another set, DamageError where its records are damaged.
    """

    def __init__(self, store: Place, spec: FeatureSetSpec) -> None:
        try:
            check_spec(spec)
        except ValueError as error:
            raise StoreError(f"not a feature set: {error}") from error
        self.spec = spec
        self._store, self._stack = store, ExitStack()
        self._check_lock: Callable[[], None] = lambda: None
        self._location = Location(store, name_of(spec))
        self._state = State(intended(spec, ()), ())

    def __enter__(self) -> Self:
        make_store(self._store)
        self._location = locate(self._store, self._location.name)
        lock = writer_lock(self._location.lock, f"feature set {self._location.name}")
        with ExitStack() as stack:
            self._check_lock = stack.enter_context(lock)
            self._load()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(self._location.staging, Path):
            with suppress(OSError, StoreError):
                self._check_lock()  # else it is another writer's
                remove_tree(self._location.staging)
        self._stack.close()

    @property
    def name(self) -> str:
        """``corpus/upstream/leaf``, for messages and for ``open_feature_set``."""
        return self._location.name

    @property
    def plans(self) -> tuple[Generation, ...]:
        """Every generation of the plan."""
        return self._state.plans

    def planned_sources(self) -> dict[str, Source]:
        """Where the plans say that the audio lies, by utterance; a later generation counts."""
        numbers = [plan.generation for plan in self.plans]
        plans = (load_plan(self._location, number, self.spec) for number in numbers)
        return {source.id: source for plan in plans for source in plan.sources}

    @property
    def shards(self) -> tuple[Shard, ...]:
        """Every planned shard, in order of its index."""
        return self._state.shards

    @property
    def committed(self) -> frozenset[int]:
        """Indices of the shards that need no work: written or abandoned."""
        return frozenset(self._state.commits)

    @property
    def pending(self) -> tuple[Shard, ...]:
        """The shards that are still to be written."""
        return tuple(shard for shard in self.shards if shard.index not in self._state.commits)

    @property
    def sources(self) -> dict[str, Source]:
        """What each present utterance was made from; a later generation counts."""
        commits = (self._state.commits[index] for index in sorted(self._state.commits))
        return {source.id: source for commit in commits for source in commit.sources}

    def generations(self) -> list[dict[str, Source]]:
        """``sources`` by the generation of the plan that has brought them."""
        return self._state.generations()

    def add_plan(self, shards: Sequence[Shard], sources: Sequence[Source] = ()) -> None:
        """Append one generation of shards; the arrays grow to hold them.

        Indices go on from the last shard, ``first_frame`` from the end of its objects. ``sources``
        says where the audio lies (``audio_sha256`` may still be empty), so that repair can extract
        again even where a commit record is lost. Does nothing without shards.
        """
        if not shards:
            return
        check_room(self.name, len(self.plans))
        self._check_plan(shards, sources)
        plan = Plan(len(self.plans), tuple(shards), tuple(sources))
        self._check_lock()
        put_new_sealed(self._location.plan(plan.generation), plan_to_json(plan))
        self._apply((*self.plans, Generation(plan.generation, plan.shards)))

    def write(self, shard: Shard, outputs: ShardOutputs) -> None:
        """Store one planned shard: objects first, flushed and hashed, then its commit record.

        Raises StoreError where it is not planned or already there, where shapes do not fit, where a
        value is not finite (for float16 frames: too large), and where the disk refuses.
        """
        self._check_pending(shard)
        check_outputs(self.spec, shard, outputs)
        with store_errors(self._location.group):
            objects = self._write_objects(shard, outputs)
        self._commit(Commit(shard, outputs.sources, objects))

    def abandon(self, indices: Iterable[int]) -> None:
        """Settle pending shards that never can be written: their utterances changed or vanished."""
        for index in indices:
            shard = self._state.by_index.get(index)
            if shard is None:
                raise StoreError(f"feature set {self.name} has no shard {index}")
            self._check_pending(shard)
            with store_errors(self._location.group):
                self._remove_objects(shard_objects(self.spec, shard))
            self._commit(Commit(shard, (), {}, abandoned=True))

    def invalidate(self, indices: Iterable[int]) -> None:
        """Take shards out of the set, so that they can be written again."""
        self._check_lock()
        with store_errors(self._location.commits):
            for index in indices:
                self._location.commit(index).unlink(missing_ok=True)
                self._state.commits.pop(index, None)
            if isinstance(self._location.commits, Path):
                fsync_folder(self._location.commits)

    def remember(self, found: Iterable[Source]) -> None:
        """Record where audio was found again (see ``store/moved.py``); StoreError where not."""
        self._check_lock()
        remember(self._location, found, self.sources)

    def delete(self) -> None:
        """Remove the whole feature set, for example to start again in float32.

        A crash at any point leaves a sound set with fewer shards.
        """
        self.invalidate(list(self._state.commits))
        empty = intended(self.spec, ())
        with store_errors(self._location.commits):
            # From here on documents may be missing.
            self._write_metadata(replace(self._state.metadata, growing=True))
            self._remove_group()
            self._write_metadata(replace(empty, growing=True))
            forget(self._location)
            for plan in reversed(self.plans):
                self._location.plan(plan.generation).unlink()
            self._location.metadata.unlink()
            if isinstance(self._location.staging, Path):
                remove_tree(self._location.staging)
        self._state = State(empty, ())

    def _remove_group(self) -> None:
        group, staging = self._location.group, self._location.staging
        if isinstance(group, Path) and isinstance(staging, Path):
            if group.exists():  # at once: a reader finds all of it or nothing
                remove_tree(staging)
                group.rename(staging)
        else:
            remote(group).delete_all(list(remote(group).walk()))

    def _load(self) -> None:
        if self._location.metadata.exists():
            self._state = load_state(self._location)
            self._check_same(self._state.metadata.spec)
            self.spec = self._state.metadata.spec
        else:
            self._check_remains()
        self._apply(self._state.plans)
        staging = self._location.staging
        with store_errors(staging):
            if isinstance(staging, Path):
                remove_tree(staging)

    def _check_remains(self) -> None:
        """DamageError where features have lost their metadata; plans and records of none go."""
        group = self._location.group
        objects = any(path.name.startswith("c.") for path in files_below(group))
        if objects or (group / "zarr.json").exists():
            raise DamageError(
                f"feature set {self.name} has lost its metadata.json; run 'serfeat store verify "
                "--repair'"
            )
        with store_errors(self._location.commits):
            for path in self._location.commits.glob("*-*.json"):
                path.unlink(missing_ok=True)

    def _check_same(self, stored: FeatureSetSpec) -> None:
        for field in ("corpus", "upstream", "augmentation", "key", "num_layers", "dim", "frames"):
            found, asked = getattr(stored, field), getattr(self.spec, field)
            if found != asked:
                raise StoreError(
                    f"{self.name} already holds another feature set: its {field} is {found!r}, "
                    f"not {asked!r}; use another store"
                )

    def _apply(self, plans: tuple[Generation, ...]) -> None:
        """Bring metadata.json, then every zarr.json, to what spec and plans imply."""
        metadata = intended(self.spec, plans)
        grows = not self._location.metadata.exists() or metadata != self._state.metadata
        if grows:
            self._write_metadata(replace(metadata, growing=True))
        for name, text in root_documents(self.name).items():
            write_if_changed(self._store / name, text)
        for name, text in metadata.documents.items():
            check_inside(self._store, self._location.group / name)
            write_if_changed(self._location.group / name, text)
        if grows:
            self._write_metadata(metadata)
        self._state = State(metadata, plans, self._state.commits)

    def _write_metadata(self, metadata: Metadata) -> None:
        self._check_lock()
        put_sealed(self._location.metadata, metadata_to_json(metadata))

    def _check_plan(self, shards: Sequence[Shard], sources: Sequence[Source]) -> None:
        index = max((shard.index for shard in self.shards), default=-1) + 1
        frame = max((end_frame(shard, self.spec) for shard in self.shards), default=0)
        for shard in shards:
            check_shard(shard, self.spec)
            if shard.index != index or shard.first_frame < frame:
                raise StoreError(
                    f"shard {shard.index} at frame {shard.first_frame} does not follow the plan; "
                    f"expected shard {index} at frame {frame} or later"
                )
            index, frame = index + 1, end_frame(shard, self.spec)
        if len(set().union(*(shard.ids for shard in shards))) < sum(len(s.ids) for s in shards):
            keys = Counter(key for shard in shards for key in shard.ids)
            twice = next(key for key, count in keys.items() if count > 1)
            raise StoreError(f"utterance {twice!r} is planned twice in one generation")
        try:
            check_sources(sources)
        except ValueError as error:
            raise StoreError(f"the plan cannot be written: {error}") from error

    def _check_pending(self, shard: Shard) -> None:
        if self._state.by_index.get(shard.index) != shard:
            raise StoreError(f"shard {shard.index} is not in the plan of {self.name}")
        if shard.index in self._state.commits:
            raise StoreError(f"shard {shard.index} of {self.name} is already written")

    def _write_objects(self, shard: Shard, outputs: ShardOutputs) -> dict[str, ObjectSum]:
        staging, group = self._location.staging, self._location.group
        if not (isinstance(staging, Path) and isinstance(group, Path)):
            return put_shard(remote(group), self.spec, shard, outputs, self._check_lock)
        self._check_lock()
        clear(staging)
        sums = stage_shard(staging, self.spec, shard, outputs)
        flush(staging / name for name in sums)
        self._remove_objects(shard_objects(self.spec, shard))
        publish({staging / name: group / name for name in sums})
        return sums

    def _remove_objects(self, names: list[str]) -> None:
        self._check_lock()
        for name in names:
            path = self._location.group / name
            check_inside(self._store, path.parent)
            path.unlink(missing_ok=True)

    def _commit(self, commit: Commit) -> None:
        self._check_lock()
        put_new_sealed(self._location.commit(commit.shard.index), commit_to_json(commit))
        self._state.commits[commit.shard.index] = commit
