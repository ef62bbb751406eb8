"""Mending what a store can mend by itself, and listing what must be extracted again."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path

from msgspec import UNSET
from msgspec.structs import replace

from ser_features.records import FeatureSetSpec, Shard, Source
from ser_features.store.catalog import names_in
from ser_features.store.forms import Plan, plan_to_json
from ser_features.store.lock import writer_lock
from ser_features.store.objects import ObjectSum, store_errors
from ser_features.store.place import Place, put_sealed
from ser_features.store.schema import (
    ROOT_FILE,
    SCHEMA,
    Location,
    check_inside,
    locate,
    root_documents,
)
from ser_features.store.state import intended, metadata_to_json, read_commit
from ser_features.store.survey import Damage, Survey, survey
from ser_features.store.verify import check_objects, check_root
from ser_features.store.writer import write_if_changed


@dataclass(frozen=True, slots=True)
class DamagedShard:
    """A shard to extract again: ``StoreWriter.invalidate([shard.index])``, then ``write``.

    Under that lock first ask ``is_settled``, and whether it is still planned: another process may
    have been there.

    ``sources`` are those of its utterances whose audio is known, in the order of ``shard.ids``;
    an id without a source can only be abandoned, or extracted from the corpus anew.
    """

    spec: FeatureSetSpec
    shard: Shard
    sources: tuple[Source, ...]


@dataclass(frozen=True, slots=True)
class RepairReport:
    """``rewritten`` names the files that were mended, ``lost`` what nothing can mend."""

    rewritten: tuple[str, ...]
    shards: tuple[DamagedShard, ...]
    lost: tuple[Damage, ...]


def repair_metadata(store: Place, name: str | None = None) -> RepairReport:
    """Mend sealed files and Zarr documents from one another; list the shards to extract again.

    A lost metadata.json comes from the group's attributes and the other way round, a lost plan from
    the commit records, and a shard whose record is lost becomes pending. No features are removed.
    Raises StoreLockedError where a feature set is being written.
    """
    rewritten, shards, lost = _repair_root(store), list[DamagedShard](), list[Damage]()
    for each in names_in(store) if name is None else [name]:
        location = locate(store, each)
        with writer_lock(location.lock, f"feature set {each}") as check:
            found = survey(location)
            if found.spec is None:
                lost += found.damage
                continue
            check()
            rewritten += _repair_set(found, found.spec)
            shards += _damaged_shards(found, found.spec)
    return RepairReport(tuple(rewritten), tuple(shards), tuple(lost))


def _repair_root(store: Place) -> list[str]:
    if not check_root(store):
        return []
    if isinstance(store, Path):
        with suppress(OSError):
            (store / ROOT_FILE).rmdir()
    put_sealed(store / ROOT_FILE, {"schema": SCHEMA})
    return [ROOT_FILE]


def _repair_set(found: Survey, spec: FeatureSetSpec) -> list[str]:
    location = found.location
    _clear_empty_folders(location)
    with store_errors(location.commits):
        for index in found.bad_commits:
            location.commit(index).unlink(missing_ok=True)
        for slot in found.bad_moved:  # it only says what the next run finds out again
            location.moved(slot).unlink(missing_ok=True)
    rewritten = [location.commit(index) for index in found.bad_commits]
    rewritten += [location.moved(slot) for slot in found.bad_moved]
    for plan in _rebuilt_plans(found):
        put_sealed(location.plan(plan.generation), plan_to_json(plan), compact=True)
        found.plans[plan.generation] = plan
        rewritten.append(location.plan(plan.generation))
    metadata = intended(spec, [found.plans[index] for index in sorted(found.plans)])
    if metadata != found.metadata:
        put_sealed(location.metadata, metadata_to_json(metadata))
        rewritten.append(location.metadata)
    texts = {location.store / n: t for n, t in root_documents(location.name).items()}
    texts |= {location.group / n: t for n, t in metadata.documents.items()}
    for path in texts:
        check_inside(location.store, path.parent)
    rewritten += [path for path, text in texts.items() if write_if_changed(path, text)]
    return [location.relative(path) for path in rewritten]


def _clear_empty_folders(location: Location) -> None:
    """Remove empty folders, which may lie where a file should be; only disks have them."""
    if not (isinstance(location.commits, Path) and isinstance(location.group, Path)):
        return
    above = [Path(f"{location.store}/{name}") for name in root_documents(location.name)]
    for path in (*above, *location.commits.rglob("*"), *location.group.rglob("*")):
        if path.is_dir() and not path.is_symlink():
            with suppress(OSError):
                path.rmdir()


def _rebuilt_plans(found: Survey) -> Iterator[Plan]:
    """Plans for the lost generations, from the commit records that no sound plan knows."""
    known = found.shards
    orphans = [c for i, c in sorted(found.commits.items()) if i not in known]
    for generation in sorted(found.bad_plans):
        later = [p.shards[0].index for g, p in found.plans.items() if g > generation and p.shards]
        end = min(later, default=None)
        mine = [c for c in orphans if end is None or c.shard.index < end]
        orphans = [c for c in orphans if c not in mine]
        sources = [
            replace(source, audio_sha256="", partner=UNSET)
            for commit in mine
            for source in commit.sources
        ]
        sources.sort(key=attrgetter("id"))  # as they are planned
        yield Plan(generation, tuple(commit.shard for commit in mine), tuple(sources))


def sums_of(location: Location, spec: FeatureSetSpec, index: int) -> Mapping[str, ObjectSum]:
    """What the record of a shard says of its objects; nothing where it has no record."""
    try:
        return read_commit(location, index, spec).objects
    except FileNotFoundError:
        return {}


def is_settled(location: Location, spec: FeatureSetSpec, index: int) -> bool:
    """Whether a shard has a record and every object that it names. The caller holds the lock."""
    found = Survey(location, spec)
    try:
        found.commits[index] = read_commit(location, index, spec)
    except FileNotFoundError:
        return False
    check_objects(found)
    return not found.damage


def _damaged_shards(found: Survey, spec: FeatureSetSpec) -> Iterator[DamagedShard]:
    before = len(found.damage)
    check_objects(found)
    damaged = {item.shard for item in found.damage[before:] if item.shard is not None}
    planned, shards = found.planned_sources, found.shards
    for index in sorted(damaged | (set(found.bad_commits) & set(shards))):
        commit = found.commits.get(index)
        table = {s.id: s for s in commit.sources} if commit else planned
        sources = tuple(table[key] for key in shards[index].ids if key in table)
        yield DamagedShard(spec, shards[index], sources)
