"""Checking every byte of a store, and listing what was left behind."""

import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ser_features.errors import DamageError
from ser_features.files import read_sealed, read_whole, remove_tree
from ser_features.records import FeatureSetSpec
from ser_features.store.catalog import names_in
from ser_features.store.forms import Commit
from ser_features.store.layout import ids_in_object
from ser_features.store.lock import is_locked, writer_lock
from ser_features.store.objects import ObjectSum
from ser_features.store.place import (
    REQUESTS,
    Place,
    files_below,
    is_remote,
    sha256_of,
    side_by_side,
    size_of,
)
from ser_features.store.schema import (
    COMMITS_ROOT,
    ROOT_FILE,
    ZARR_ROOT,
    Location,
    check_schema,
    check_store,
    locate,
    root_documents,
)
from ser_features.store.state import (
    Metadata,
    commit_indices,
    intended,
    load_outline,
    read_commit,
)
from ser_features.store.survey import Damage, Survey, survey

# Files above the feature sets are written before or after the locks: what is young may be in use.
YOUNG = 60.0
_LOOSE = (".*.tmp", "rejects/*/.*.tmp", *(f"{ZARR_ROOT}/{'*/' * n}.*.tmp" for n in range(3)))
_LOOKS = 5  # at a set that is being written
_OBJECT = re.compile(r"c\.\d+(\.0)*")


@dataclass(frozen=True, slots=True)
class Stray:
    """A file that belongs to no committed shard: no damage, only room.

    ``kind`` is temporary or uncommitted (leftovers of a killed writer, which ``remove_strays``
    removes), or unknown (not ours, or a link: left alone).
    """

    path: str
    kind: str


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What ``verify`` looked at and found; sound where ``damage`` is empty.

    ``pending`` counts the planned shards that are not written, by feature set: no damage, but work
    that the same extraction does when it runs again.
    """

    feature_sets: int
    objects: int
    num_bytes: int
    damage: tuple[Damage, ...]
    strays: tuple[Stray, ...]
    pending: Mapping[str, int]

    @property
    def ok(self) -> bool:
        """Whether every byte is what it should be."""
        return not self.damage


def verify(
    store: Place, name: str | None = None, tick: Callable[[int, int], None] | None = None
) -> VerifyReport:
    """Check sealed files, Zarr documents and the size and sha256 of every object.

    ``name`` limits it to one feature set; ``tick`` is told bytes done and bytes in all. The records
    of one feature set at a time are held in memory. Raises StoreError where ``store`` is no feature
    store or has a newer schema; damage is reported, not raised.
    """
    damage = check_root(store)
    names = names_in(store) if name is None else [name]
    strays, pending = list[Stray](), dict[str, int]()
    size = sum(_size(locate(store, each)) for each in names) if tick else 0
    objects = done = 0

    def saw(num_bytes: int) -> None:
        nonlocal objects, done
        objects, done = objects + 1, done + num_bytes
        if tick is not None:
            tick(done, max(done, size))

    for each in names:
        found = _settled(locate(store, each))
        strays += _left(found)
        check_objects(found, saw)
        damage += found.damage
        pending |= {found.location.name: count} if (count := _pending(found)) else {}
    strays += _loose(store, names)
    return VerifyReport(len(names), objects, done, tuple(damage), tuple(strays), pending)


def _size(location: Location) -> int:
    """Bytes of all objects by the records that can be read: for the bar alone."""

    def bytes_of(index: int) -> int:
        with suppress(DamageError, OSError):
            return load_outline(location, index).num_bytes
        return 0

    with suppress(OSError):
        return sum(side_by_side(location.commits, bytes_of, commit_indices(location)))
    return 0


def _settled(location: Location) -> Survey:
    """A survey with its documents, between two changes by a writer at work: they are no damage."""
    for look in range(_LOOKS):
        found = survey(location)
        check_documents(found)
        if not found.damage or (look and not is_locked(location.lock)):
            break
    return found


def _left(found: Survey) -> list[Stray]:
    """What belongs to no committed shard, and to no writer: one may have ended a moment ago."""
    location = found.location
    if is_locked(location.lock) or not any(True for _ in _set_strays(found)):
        return []
    left = list(_set_strays(survey(location)))
    return [] if is_locked(location.lock) else left


def _pending(found: Survey) -> int:
    return len(found.shards.keys() - found.commits.keys() - set(found.bad_commits))


def check_root(store: Place) -> list[Damage]:
    """Damage to the store's own file; StoreError where there is no store or it is newer."""
    path = store / ROOT_FILE
    try:
        check_schema(read_sealed(path), path)
    except FileNotFoundError:
        if not (store / ZARR_ROOT).exists() and not (store / COMMITS_ROOT).exists():
            check_store(store)  # says that there is no store
        return [Damage("", ROOT_FILE, "missing", "the file is not there")]
    except DamageError as error:
        return [Damage("", ROOT_FILE, "changed", str(error))]
    except OSError as error:
        return [Damage("", ROOT_FILE, "invalid", str(error))]
    return []


def check_documents(found: Survey) -> None:
    """Compare every zarr.json with its intended text, and that with the plan."""
    location = found.location
    texts = {name: {text} for name, text in root_documents(location.name).items()}
    for metadata in _accepted(found):
        for name, text in metadata.documents.items():
            texts.setdefault(location.relative(location.group / name), set()).add(text)
    growing = found.metadata is not None and found.metadata.growing
    for name, accepted in texts.items():
        path = location.store / name
        try:
            if read_whole(path) not in {text.encode() for text in accepted}:
                found.add(path, "changed", "differs from what metadata.json says")
        except FileNotFoundError:
            if not growing:
                found.add(path, "missing", "the file is not there")
        except OSError as error:
            found.add(path, "invalid", str(error))
    if found.metadata and not found.bad_plans and not _implied(found, found.metadata):
        found.add(location.metadata, "invalid", "does not match the plan")


def _accepted(found: Survey) -> Iterator[Metadata]:
    """The metadata whose documents may be on disk: two states where a writer was stopped."""
    if found.metadata is not None:
        yield found.metadata
        if found.metadata.growing and not found.bad_plans:
            earlier = range(found.metadata.plans - 1)
            yield intended(found.metadata.spec, [found.plans[index] for index in earlier])


def _implied(found: Survey, metadata: Metadata) -> bool:
    """Whether the plans imply the metadata; one plan more is a writer that was stopped."""
    plan = intended(metadata.spec, [found.plans[index] for index in range(metadata.plans)])
    return (plan.shards, plan.utterances) == (metadata.shards, metadata.utterances)


def check_objects(found: Survey, saw: Callable[[int], None] = lambda num_bytes: None) -> None:
    """Compare size and sha256 of every object of every committed shard; ``saw`` so many bytes."""
    jobs = [
        (commit, name, total)
        for commit in found.commits.values()
        for name, total in commit.objects.items()
    ]
    workers = REQUESTS if is_remote(found.location.group) else os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:
        problems = pool.map(lambda job: _check_object(found, *job), jobs)
        for (_, _, total), problem in zip(jobs, problems, strict=True):
            saw(total.size)
            if problem is not None:
                found.damage.append(problem)


def _check_object(found: Survey, commit: Commit, name: str, total: ObjectSum) -> Damage | None:
    path = found.location.group / name
    kind, detail = _compare(path, total)
    if not kind or found.spec is None or not _stands(found.location, found.spec, commit):
        return None
    present = set(commit.ids)
    ids = [key for key in ids_in_object(found.spec, commit.shard, name) if key in present]
    where = found.location.relative(path)
    return Damage(found.location.name, where, kind, detail, commit.shard.index, tuple(ids))


def _stands(location: Location, spec: FeatureSetSpec, commit: Commit) -> bool:
    """Whether a writer has not taken the shard out of the set meanwhile."""
    try:
        return read_commit(location, commit.shard.index, spec) == commit
    except FileNotFoundError:
        return False
    except DamageError:
        return True


def _compare(path: Place, total: ObjectSum) -> tuple[str, str]:
    try:
        size = size_of(path)
        if size != total.size:
            return "truncated", f"{size} bytes, expected {total.size}"
        if path.is_symlink() or sha256_of(path) != total.sha256:
            return "changed", "its sha256 is not that of the commit record"
    except FileNotFoundError:
        return "missing", "the file is not there"
    except OSError as error:
        return "invalid", str(error)
    return "", ""


def remove_strays(store: Place, name: str | None = None) -> list[str]:
    """Delete what killed writers left behind; returns the paths. Unknown files stay.

    Raises StoreLockedError where a feature set is being written.
    """
    removed = []
    names = names_in(store) if name is None else [name]
    for stray in _loose(store, names):
        (store / stray.path).unlink(missing_ok=True)
        removed.append(stray.path)
    for each in names:
        location = locate(store, each)
        with writer_lock(location.lock, f"feature set {each}") as check:
            strays = [s for s in _set_strays(survey(location)) if s.kind != "unknown"]
            check()
            for stray in strays:
                (store / stray.path).unlink()
            if isinstance(location.staging, Path):
                with suppress(OSError):
                    remove_tree(location.staging)
        removed += [stray.path for stray in strays]
    return removed


def _loose(store: Place, names: Iterable[str]) -> Iterator[Stray]:
    """Temporary files of killed writers above the feature sets and among the reports of rejects."""
    if not isinstance(store, Path) or any(is_locked(locate(store, name).lock) for name in names):
        return
    root, before = store.resolve(), time.time() - YOUNG
    for pattern in _LOOSE:
        for path in sorted(store.glob(pattern)):
            relative = path.relative_to(store)
            with suppress(OSError):  # gone by now
                inside = path.parent.resolve() == root / relative.parent  # no link leads there
                if inside and not path.is_symlink() and path.stat().st_mtime < before:
                    yield Stray(relative.as_posix(), "temporary")


def _set_strays(found: Survey) -> Iterator[Stray]:
    location = found.location
    if found.spec is None or found.bad_commits or found.bad_plans:
        return  # not known well enough to call anything a leftover
    documents = intended(found.spec, ()).documents
    known = {location.lock, location.metadata, *(location.group / name for name in documents)}
    known |= {location.plan(index) for index in found.plans}
    known |= {location.moved(slot) for slot in found.moved_slots}
    for index, commit in found.commits.items():
        known |= {location.commit(index), *(location.group / name for name in commit.objects)}
    for path in sorted([*files_below(location.group), *files_below(location.commits)]):
        if path not in known:
            yield Stray(location.relative(path), _kind(location, path))


def _kind(location: Location, path: Place) -> str:
    if path.is_symlink():
        return "unknown"
    if path.is_relative_to(location.staging) or re.fullmatch(r"\..*\.tmp", path.name):
        return "temporary"
    inside = path.is_relative_to(location.group)
    return "uncommitted" if inside and _OBJECT.fullmatch(path.name) else "unknown"
