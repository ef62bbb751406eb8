"""Reading a feature set that may be damaged: all that is sound, and a list of what is not."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from ser_features.errors import DamageError, NewerError, StoreError, UnreachableError
from ser_features.files import read_whole
from ser_features.records import FeatureSetSpec, Shard, Source
from ser_features.store.forms import Commit, Moved, Plan
from ser_features.store.place import Place
from ser_features.store.schema import Location, name_of, spec_from_attributes
from ser_features.store.state import (
    Metadata,
    commit_indices,
    load_metadata,
    load_moved,
    load_plan,
    moved_slots,
    plan_indices,
    read_commit,
)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Damage:
    """One file that is not what it should be.

    ``object`` is its path in the store; ``kind`` is missing, truncated (another size), changed
    or invalid. ``shard`` and ``ids`` say what it touches; none where it holds no features.
    """

    feature_set: str
    object: str
    kind: str
    detail: str
    shard: int | None = None
    ids: tuple[str, ...] = ()


@dataclass(slots=True)
class Survey:
    """What can be read of one feature set; ``spec`` is None where nothing says what it is."""

    location: Location
    spec: FeatureSetSpec | None = None
    metadata: Metadata | None = None
    plans: dict[int, Plan] = field(default_factory=dict)
    commits: dict[int, Commit] = field(default_factory=dict)
    bad_plans: list[int] = field(default_factory=list)
    bad_commits: list[int] = field(default_factory=list)
    moved_slots: list[int] = field(default_factory=list)
    bad_moved: list[int] = field(default_factory=list)
    damage: list[Damage] = field(default_factory=list)

    @property
    def shards(self) -> dict[int, Shard]:
        """Every planned shard by index."""
        return {shard.index: shard for plan in self.plans.values() for shard in plan.shards}

    @property
    def planned_sources(self) -> dict[str, Source]:
        """Where the plans say that the audio lies, by utterance; later generations count."""
        plans = (self.plans[index] for index in sorted(self.plans))
        return {source.id: source for plan in plans for source in plan.sources}

    def add(self, path: Place, kind: str, detail: str, shard: Shard | None = None) -> None:
        """Note one damaged file."""
        index, ids = (shard.index, shard.ids) if shard else (None, ())
        where = self.location.relative(path)
        self.damage.append(Damage(self.location.name, where, kind, detail, index, ids))


def survey(location: Location) -> Survey:
    """Read all sealed files of a feature set, whatever their state.

    Raises NewerError where one is of a newer schema, UnreachableError where nobody answers.
    """
    found = Survey(location)
    found.metadata = _attempt(found, location.metadata, lambda: load_metadata(location))
    spec = found.metadata.spec if found.metadata else _spec_of_group(location)
    found.spec = spec
    if spec is not None and location.commits.is_dir():
        # Listed before the plans: a writer at work adds a plan before its records.
        indices = commit_indices(location)
        _read_plans(found, spec)
        _read_commits(found, spec, indices)
        _read_moved(found)
    return found


def _read_plans(found: Survey, spec: FeatureSetSpec) -> None:
    location = found.location
    expected = found.metadata.plans if found.metadata else 0
    for index in range(max([expected, *(i + 1 for i in plan_indices(location))])):
        path = location.plan(index)
        plan = _attempt(found, path, lambda i=index: load_plan(location, i, spec))  # type: ignore[misc]
        if plan is None:
            found.bad_plans.append(index)
        else:
            found.plans[index] = plan


def _read_commits(found: Survey, spec: FeatureSetSpec, indices: list[int]) -> None:
    location, shards = found.location, found.shards
    if found.metadata is None and not shards.keys() >= set(indices) and not found.bad_plans:
        # Nothing says how many plans there were: the last ones are lost too.
        found.add(location.plan(len(found.plans)), "missing", "the file is not there")
        found.bad_plans.append(len(found.plans))
    for index in indices:
        path, planned = location.commit(index), shards.get(index)
        commit = _attempt(found, path, lambda i=index: read_commit(location, i, spec), planned)  # type: ignore[misc]
        # With a plan lost, a shard that no other plan knows may well be right.
        fits = commit and (commit.shard == planned or (planned is None and found.bad_plans))
        if commit and not fits:
            found.add(path, "invalid", "does not match the plan", planned)
        if commit and fits:
            found.commits[index] = commit
        else:
            found.bad_commits.append(index)


def _read_moved(found: Survey) -> None:
    location = found.location
    found.moved_slots = moved_slots(location)
    for slot in found.moved_slots:
        path = location.moved(slot)
        if _attempt(found, path, lambda i=slot: _moved(location, i)) is None:  # type: ignore[misc]
            found.bad_moved.append(slot)


def _moved(location: Location, slot: int) -> Moved:
    try:
        return load_moved(location, slot)
    except NewerError as error:  # no feature depends on it: at worst a file is decoded once more
        raise DamageError(str(error)) from error


def _attempt(
    found: Survey, path: Place, read: Callable[[], T], shard: Shard | None = None
) -> T | None:
    try:
        return read()
    except FileNotFoundError:
        found.add(path, "missing", "the file is not there", shard)
    except (NewerError, UnreachableError):
        raise
    except StoreError as error:
        found.add(path, "changed", str(error), shard)
    except OSError as error:
        found.add(path, "invalid", str(error), shard)
    return None


def _spec_of_group(location: Location) -> FeatureSetSpec | None:
    """The spec from the group's own attributes, where they are sound and of this place."""
    try:
        spec = spec_from_attributes(read_whole(location.group / "zarr.json").decode())
        return spec if name_of(spec) == location.name else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
