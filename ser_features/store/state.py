"""The sealed files of a feature set, read and checked against each other."""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar

from ser_features.errors import DamageError, StoreError
from ser_features.files import read_sealed, read_sealed_text, uncollected
from ser_features.records import FeatureSetSpec, Json, Shard, Source
from ser_features.store.forms import (
    Commit,
    Generation,
    Moved,
    Outline,
    Plan,
    commit_from_text,
    generation_from_text,
    moved_from_text,
    moved_number,
    outline_from_text,
    plan_from_text,
    schema_of,
)
from ser_features.store.layout import MOST, check_shard, check_sizes, end_frame, owns
from ser_features.store.place import Place, side_by_side
from ser_features.store.schema import (
    SCHEMA,
    Location,
    check_schema,
    documents,
    name_of,
    spec_from_json,
    spec_to_json,
)

T = TypeVar("T")
G = TypeVar("G", bound=Generation)
_COMMIT_FILE = re.compile(r"shard-([0-9]{8})\.json")
_PLAN_FILE = re.compile(r"plan-([0-9]{4})\.json")
_MOVED_FILE = re.compile(r"moved-([0-9])\.json")
MOST_PLANS = 10**4  # as many names are there


@dataclass(frozen=True, slots=True)
class Metadata:
    """The sealed spec, the intended Zarr documents and the size of the plan.

    While ``growing``, the documents on disk may still be those of one generation less.
    """

    spec: FeatureSetSpec
    documents: Mapping[str, str]
    plans: int
    shards: int
    utterances: int
    growing: bool = False


@dataclass(frozen=True)
class State:
    """All sealed files of one feature set, checked against each other.

    The writer adds to ``commits``; all else is as it was read.
    """

    metadata: Metadata
    plans: tuple[Generation, ...]
    commits: dict[int, Commit] = field(default_factory=dict)

    @cached_property
    def shards(self) -> tuple[Shard, ...]:
        """Every planned shard, in order of its index."""
        return tuple(shard for plan in self.plans for shard in plan.shards)

    def generations(self) -> list[dict[str, Source]]:
        """What each generation of the plan has brought: the sources of its present utterances."""
        return [
            {source.id: source for commit in _commits_of(plan, self) for source in commit.sources}
            for plan in self.plans
        ]

    @cached_property
    def by_index(self) -> dict[int, Shard]:
        """Every planned shard by its index."""
        return {shard.index: shard for shard in self.shards}


def _commits_of(plan: Generation, state: State) -> list[Commit]:
    commits = state.commits
    return [commits[shard.index] for shard in plan.shards if shard.index in commits]


@uncollected()
def load_state(location: Location) -> State:
    """Read every sealed file of a feature set; DamageError names the first that is not sound."""
    metadata = load_metadata(location)
    # Before the plans: a writer at work adds a plan before its records.
    indices = commit_indices(location)
    plans = tuple(
        load_generation(location, index, metadata.spec) for index in plan_indices(location)
    )
    if len(plans) < metadata.plans or [p.generation for p in plans] != list(range(len(plans))):
        raise DamageError(
            f"feature set {location.name}: a plan file is missing ({len(plans)} of "
            f"{metadata.plans}); run 'serfeat store verify'"
        )
    _check_order(location, plans, metadata.spec)
    shards = {shard.index: shard for plan in plans for shard in plan.shards}
    commits = side_by_side(
        location.commits,
        lambda index: load_commit(location, index, metadata.spec, shards.get(index)),
        indices,
    )
    return State(metadata, plans, dict(zip(indices, commits, strict=True)))


def _check_order(location: Location, plans: Iterable[Generation], spec: FeatureSetSpec) -> None:
    """DamageError where two shards would share a row or an object."""
    index = frame = 0
    for plan in plans:
        for shard in plan.shards:
            if shard.index < index or shard.first_frame < frame:
                path = location.plan(plan.generation)
                raise DamageError(f"{path}: shard {shard.index} lies over the one before it")
            index, frame = shard.index + 1, end_frame(shard, spec)


def plan_indices(location: Location) -> list[int]:
    """The generations that have a plan file."""
    return _indices(location.commits, _PLAN_FILE)


def commit_indices(location: Location) -> list[int]:
    """The shards that have a commit record (not read, only listed)."""
    return _indices(location.commits, _COMMIT_FILE)


def moved_slots(location: Location) -> list[int]:
    """The slots that hold a record of moved audio (not read, only listed)."""
    return _indices(location.commits, _MOVED_FILE)


def _indices(folder: Place, pattern: re.Pattern[str]) -> list[int]:
    names = (pattern.fullmatch(path.name) for path in folder.iterdir())
    return sorted(int(match[1]) for match in names if match)


def load_metadata(location: Location) -> Metadata:
    """The checked metadata.json; FileNotFoundError where there is none."""
    body = read_sealed(location.metadata)
    with _invalid(location.metadata):
        check_schema(body, location.metadata)
        metadata = metadata_from_json(body)
    if name_of(metadata.spec) != location.name:
        raise DamageError(
            f"{location.metadata} describes the feature set {name_of(metadata.spec)}, not "
            f"{location.name}: it was moved or renamed; move it back"
        )
    return metadata


def load_plan(location: Location, generation: int, spec: FeatureSetSpec) -> Plan:
    """One checked generation of the plan with its sources."""
    return _fitting(location, generation, spec, plan_from_text)


def load_generation(location: Location, generation: int, spec: FeatureSetSpec) -> Generation:
    """One checked generation of the plan; its sources, which few need, are not looked at."""
    return _fitting(location, generation, spec, generation_from_text)


def _fitting(
    location: Location, generation: int, spec: FeatureSetSpec, parse: Callable[[bytes], G]
) -> G:
    path = location.plan(generation)
    plan = _load(path, parse)
    if plan.generation != generation:
        raise DamageError(f"{path} holds the plan of generation {plan.generation}")
    for shard in plan.shards:
        _fits(path, shard, spec)
    return plan


def _fits(path: Place, shard: Shard, spec: FeatureSetSpec) -> None:
    try:
        check_shard(shard, spec)
    except StoreError as error:
        raise DamageError(f"{path} is sealed but not valid: {error}") from error


def load_commit(
    location: Location, index: int, spec: FeatureSetSpec, planned: Shard | None
) -> Commit:
    """One checked commit record; ``planned`` is what the plan says of that shard."""
    commit = read_commit(location, index, spec)
    if commit.shard != planned:
        raise DamageError(
            f"{location.commit(index)} does not match the plan; run 'serfeat store verify'"
        )
    return commit


def read_commit(location: Location, index: int, spec: FeatureSetSpec) -> Commit:
    """One commit record, checked in itself but not against the plan."""
    path = location.commit(index)
    commit = _load(path, commit_from_text)
    if commit.shard.index != index:
        raise DamageError(f"{path} is the record of shard {commit.shard.index}")
    _fits(path, commit.shard, spec)
    names = commit.objects
    all_own = all(owns(spec, commit.shard, name) for name in names)
    if not all_own or bool(names) != bool(commit.ids):
        raise DamageError(f"{path} does not name the objects of shard {index}")
    try:
        sizes = {name: total.size for name, total in names.items()}
        check_sizes(spec, commit.shard, set(commit.ids), sizes)
    except ValueError as error:
        raise DamageError(f"{path} is sealed but not valid: {error}") from error
    return commit


def load_outline(location: Location, index: int) -> Outline:
    """What one commit record counts, checked in itself only."""
    return _load(location.commit(index), outline_from_text)


def load_moved(location: Location, slot: int) -> Moved:
    """One checked record of moved audio."""
    return _load(location.moved(slot), moved_from_text)


def load_moved_number(location: Location, slot: int) -> int:
    """The number of one record of moved audio; all its bytes are checked, its sources not made."""
    return _load(location.moved(slot), moved_number)


def _load(path: Place, parse: Callable[[bytes], T]) -> T:
    text = read_sealed_text(path)
    with _invalid(path):
        check_schema(schema_of(text), path)
        return parse(text)


@contextmanager
def _invalid(path: Place) -> Iterator[None]:
    try:
        yield
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise DamageError(f"{path} is sealed but not valid: {repr(error)[:500]}") from error


def check_room(name: str, num_plans: int) -> None:
    """StoreError where a feature set of so many plans can have no other."""
    if num_plans >= MOST_PLANS:
        raise StoreError(
            f"feature set {name} has grown {num_plans} times, as often as it can: extract the "
            "whole corpus at once into another store"
        )


def intended(spec: FeatureSetSpec, plans: Iterable[Generation]) -> Metadata:
    """The metadata that a spec and its plans imply."""
    plans = tuple(plans)
    shards = [shard for plan in plans for shard in plan.shards]
    rows = max((shard.index + 1 for shard in shards), default=0) * spec.rows
    frames = max((end_frame(shard, spec) for shard in shards), default=0)
    utterances = len(set().union(*(shard.ids for shard in shards)))
    texts = documents(spec, rows, frames)
    return Metadata(spec, texts, len(plans), len(shards), utterances)


def metadata_to_json(metadata: Metadata) -> Json:
    """The body of metadata.json."""
    return {
        "schema": SCHEMA,
        "spec": spec_to_json(metadata.spec),
        "plans": metadata.plans,
        "shards": metadata.shards,
        "utterances": metadata.utterances,
        "growing": metadata.growing,
        "documents": dict(metadata.documents),
    }


def metadata_from_json(body: Json) -> Metadata:
    """The checked metadata; ValueError, TypeError or KeyError where the JSON is not one."""
    json.dumps(body["spec"], ensure_ascii=False).encode()  # all of it is text, see _text
    texts = {_text(name): _text(text) for name, text in body["documents"].items()}
    if set(texts) != set(documents(spec_from_json(body["spec"]), 0, 0)):
        raise ValueError("the documents are not those of a feature set")
    plans, shards, utterances = (_integer(body[name]) for name in ("plans", "shards", "utterances"))
    if plans > MOST_PLANS:
        raise ValueError(f"{plans} plans")
    growing = body["growing"] is True
    return Metadata(spec_from_json(body["spec"]), texts, plans, shards, utterances, growing)


def _text(value: Json) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected text, found {value!r}")
    if not value.isascii():
        value.encode()  # JSON can spell half a character, which nothing can write or show
    return value


def _integer(value: Json) -> int:
    if type(value) is not int or not 0 <= value < MOST:
        raise TypeError(f"expected a count, found {value!r}")
    return value
