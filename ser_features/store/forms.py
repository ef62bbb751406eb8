"""Plans and commit records: what the sealed files of a feature set say, and their JSON.

A million utterances are read here: records are decoded and typed in one step (msgspec), and what a
type cannot say is looked at in columns first. Only where a column is odd is each record looked at.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from ser_features.records import Json, Shard, Source
from ser_features.store.layout import MOST, encode_text
from ser_features.store.objects import ObjectSum
from ser_features.store.schema import SCHEMA

_SHA256 = re.compile(r"[0-9a-f]{64}")
_HEX = re.compile(r"[0-9a-f]*")


@dataclass(frozen=True, slots=True)
class Generation:
    """One generation of the plan: which utterances are in which shard."""

    generation: int
    shards: tuple[Shard, ...]


@dataclass(frozen=True, slots=True)
class Plan(Generation):
    """A generation, and where each utterance's audio lies as far as it was said."""

    sources: tuple[Source, ...]


@dataclass(frozen=True, slots=True)
class Commit:
    """A shard that is in the store: which of its utterances, made from what, in which objects.

    ``objects`` is keyed by path relative to the group. An abandoned shard has none.
    """

    shard: Shard
    sources: tuple[Source, ...]
    objects: Mapping[str, ObjectSum]
    abandoned: bool = False

    @property
    def ids(self) -> tuple[str, ...]:
        """The utterances that are present, in row order."""
        return tuple([source.id for source in self.sources])


@dataclass(frozen=True, slots=True)
class Moved:
    """Where audio lay when it was found again: it was moved or touched, and is the same.

    ``number`` is greater in a later record. A source here says by ``audio_sha256`` what audio was
    heard there; it has no draw.
    """

    number: int
    sources: tuple[Source, ...]


@dataclass(frozen=True, slots=True)
class _Number:
    number: int


@dataclass(frozen=True, slots=True)
class _Id:
    id: str


@dataclass(frozen=True, slots=True)
class Outline:
    """What of a commit record is enough to count."""

    shard: Shard
    sources: tuple[_Id, ...]
    objects: Mapping[str, ObjectSum]

    @property
    def frames(self) -> dict[str, int]:
        """The frames of each utterance that is present."""
        planned = dict(zip(self.shard.ids, self.shard.num_frames, strict=True))
        return {one.id: planned[one.id] for one in self.sources}

    @property
    def num_bytes(self) -> int:
        """Bytes of the shard's objects."""
        return sum(total.size for total in self.objects.values())


@dataclass(frozen=True, slots=True)
class _Schema:
    schema: object


def schema_of(text: bytes) -> Json:
    """What a sealed body says of its schema, as ``check_schema`` takes it."""
    return {"schema": msgspec.json.decode(text, type=_Schema).schema}


def plan_to_json(plan: Plan) -> Json:
    """The body of a plan file, to be written compact."""
    return {
        "schema": SCHEMA,
        "generation": plan.generation,
        "shards": plan.shards,
        "sources": plan.sources,
    }


def generation_from_text(text: bytes) -> Generation:
    """The shards of a plan file's body; its sources are passed over. ValueError where not one."""
    found = msgspec.json.decode(text, type=Generation)
    _check_counts([found.generation, *(shard.index for shard in found.shards)])
    return found


def plan_from_text(text: bytes) -> Plan:
    """The checked plan of a plan file's body; ValueError where the JSON is not one."""
    plan = msgspec.json.decode(text, type=Plan)
    _check_counts([plan.generation, *(shard.index for shard in plan.shards)])
    check_sources(plan.sources)
    return plan


def commit_to_json(commit: Commit) -> Json:
    """The body of a commit record, to be written compact."""
    return {
        "schema": SCHEMA,
        "shard": commit.shard,
        "sources": commit.sources,
        "objects": dict(commit.objects),
        "abandoned": commit.abandoned,
    }


def outline_from_text(text: bytes) -> Outline:
    """The outline of a commit record's body; ValueError where the JSON is not one."""
    found = msgspec.json.decode(text, type=Outline)
    if not {one.id for one in found.sources} <= set(found.shard.ids):
        raise ValueError("an utterance that is not of the shard")
    if len(found.shard.ids) != len(found.shard.num_frames):
        raise ValueError("the shard has not one frame count an utterance")
    return found


def commit_from_text(text: bytes) -> Commit:
    """The checked record of a commit's body; ValueError where the JSON is not one."""
    commit = msgspec.json.decode(text, type=Commit)
    sums = commit.objects.values()
    _check_counts([commit.shard.index, *(total.size for total in sums)])
    if not all(_SHA256.fullmatch(total.sha256) for total in sums):
        raise ValueError("an object without a sha256")
    ids = commit.ids
    if ids != commit.shard.ids:
        present = set(ids)
        if ids != tuple(key for key in commit.shard.ids if key in present):
            raise ValueError("the present utterances are not those of the shard, in its order")
    check_sources(commit.sources)
    if not all(source.audio_sha256 for source in commit.sources):
        raise ValueError("an utterance without the hash of its audio")
    return commit


def moved_to_json(moved: Moved) -> Json:
    """The body of a record of moved audio, to be written compact."""
    return {"schema": SCHEMA, "number": moved.number, "sources": moved.sources}


def moved_from_text(text: bytes) -> Moved:
    """The checked record of that body; ValueError where the JSON is not one."""
    moved = msgspec.json.decode(text, type=Moved)
    _check_counts([moved.number])
    check_sources(moved.sources)
    return moved


def moved_number(text: bytes) -> int:
    """Only the number that such a body says; ValueError where it says none."""
    number = msgspec.json.decode(text, type=_Number).number
    _check_counts([number])
    return number


def check_sources(sources: Sequence[Source]) -> None:
    """ValueError where one of them is not what a source can be."""
    # As many as a core's cache holds: each is looked at in several columns.
    for part in (sources[i : i + 4096] for i in range(0, len(sources), 4096)):
        if not _plain(part):
            for source in part:
                _check_source(source)
        partners = [one.partner for one in part if isinstance(one.partner, Source)]
        if partners:
            _check_partners(partners)


def _check_partners(partners: Sequence[Source]) -> None:
    for one in partners:
        if not one.audio_sha256 or one.draw or one.partner is not msgspec.UNSET:
            raise ValueError(f"the partner {one.id!r} is no recording with the hash of its audio")
    check_sources(partners)


def _plain(sources: Sequence[Source]) -> bool:
    """Whether nothing is unusual about any of them; a million take half a second."""
    paths = "".join([source.path for source in sources])
    digests = [source.audio_sha256 for source in sources]
    numbers = [source.size for source in sources]
    numbers += [source.mtime_ns for source in sources]
    times = {source.start for source in sources} | {source.end for source in sources}
    return (
        (paths.isascii() and "\0" not in paths)
        and set(map(len, digests)) <= {0, 64}
        and _HEX.fullmatch("".join(digests)) is not None
        and -MOST <= min(numbers, default=0) <= max(numbers, default=0) <= MOST
        and all(time is None or 0 <= time < MOST for time in times)
    )


def _check_source(source: Source) -> None:
    encode_text(source.path, "path")
    if "\0" in source.path:
        raise ValueError(f"the path of {source.id!r} holds a NUL")
    if source.audio_sha256 and not _SHA256.fullmatch(source.audio_sha256):
        raise ValueError(f"no sha256 of {source.id!r}: {source.audio_sha256!r}")
    for number in (source.size, source.mtime_ns):
        if abs(number) > MOST * 2:
            raise ValueError(f"expected a number, found {number!r}")
    for time in (source.start, source.end):
        if time is not None and not 0 <= time < MOST:
            raise ValueError(f"expected seconds, found {time!r}")


def _check_counts(counts: Sequence[int]) -> None:
    if not 0 <= min(counts) <= max(counts) < MOST:
        raise ValueError(f"expected counts, found {min(counts)} to {max(counts)}")
