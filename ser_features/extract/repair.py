"""Mend a damaged store: extract again exactly the shards that hold damaged objects."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby

import torch
from msgspec import UnsetType, structs

from ser_features.audio import load
from ser_features.augment.augmented import Augmented, partner_of, recall
from ser_features.augment.partners import NEUTRAL
from ser_features.augment.redraw import redrawing, same_draw
from ser_features.errors import SerfeatError, StoreError, UpstreamError
from ser_features.extract.plan import PlanItem
from ser_features.extract.progress import Progress, Silent
from ser_features.extract.rejects import stat_of
from ser_features.extract.shards import CPU_BATCH, Decoded, ShardRunner, lanes_of
from ser_features.extract.spec import feature_key
from ser_features.extract.survey import plan_item, source_of
from ser_features.records import FeatureSetSpec, Source, Utterance
from ser_features.store.moved import find_moved
from ser_features.store.place import Place
from ser_features.store.repair import DamagedShard, is_settled, repair_metadata, sums_of
from ser_features.store.schema import Location, locate, name_of
from ser_features.store.writer import StoreWriter
from ser_features.upstreams.load import load_upstream
from ser_features.upstreams.protocol import Upstream
from ser_features.upstreams.request import parse_request


@dataclass(frozen=True, slots=True)
class Mended:
    """What a repair did: files rewritten, shards extracted again, and sentences on the rest.

    ``inexact`` names shards that are of the same audio and upstream, but not bit for bit what they
    were: another device, number of threads or version computes otherwise.
    """

    rewritten: tuple[str, ...]
    num_shards: int
    failures: tuple[str, ...]
    inexact: tuple[str, ...] = ()


def repair(
    store: Place,
    *,
    device: str = "cpu",
    requests: Sequence[str] = (),
    progress: Progress | None = None,
) -> Mended:
    """Rewrite what the store can restore by itself, extract the rest again from the audio.

    Upstreams load by the request that made them, or by one of ``requests`` of the same name
    (``NAME=FOLDER`` where a folder has moved). A shard is only replaced by features of the same
    audio by the same upstream; where either is not the same, it stays as it is and is a failure.
    """
    progress = progress or Silent()
    found = repair_metadata(store)
    failures = [f"{damage.object}: {damage.detail}" for damage in found.lost]
    moved = {parse_request(text).name: text for text in requests}
    num_shards, inexact = 0, list[str]()
    for name, group in groupby(found.shards, key=lambda shard: name_of(shard.spec)):
        shards = list(group)
        try:
            augmented = recall(shards[0].spec.provenance)
            upstream = _same_upstream(shards[0].spec, moved, device, augmented)
        except SerfeatError as error:
            failures.append(f"{name}: {error}")
            continue
        lanes = lanes_of(device, torch.get_num_threads())
        progress.start(f"repairing {name}", len(shards), "shards")
        location = locate(store, name)
        again = find_moved(location)
        with StoreWriter(store, shards[0].spec) as writer:
            for shard in _due(shards, writer, location):
                index, what = shard.shard.index, f"{name}, shard {shard.shard.index}"
                before = sums_of(location, writer.spec, index)
                problem = _mend(shard, again, upstream, writer, augmented, lanes)
                failures += [f"{what}: {problem}"] if problem else []
                num_shards += problem is None
                if not problem and before not in ({}, sums_of(location, writer.spec, index)):
                    inexact.append(what)
                progress.advance(1)
    return Mended(found.rewritten, num_shards, tuple(failures), tuple(inexact))


def _due(
    shards: Sequence[DamagedShard], writer: StoreWriter, location: Location
) -> Iterator[DamagedShard]:
    """Those that no other process has mended or planned anew since they were found damaged."""
    planned = {shard.index: shard for shard in writer.shards}
    for one in shards:
        index = one.shard.index
        if planned.get(index) == one.shard and not is_settled(location, writer.spec, index):
            yield one


def _same_upstream(
    spec: FeatureSetSpec, moved: Mapping[str, str], device: str, augmented: Augmented | None
) -> Upstream:
    request = moved.get(spec.upstream, str(spec.provenance.get("request", spec.upstream)))
    identity = spec.provenance.get("identity", {})
    if not isinstance(identity, Mapping):
        raise StoreError(f"its provenance holds no identity of the upstream, but {identity!r}")
    precision = str(identity.get("precision", "float32"))
    try:
        upstream = load_upstream(request, device=device, precision=precision)
    except UpstreamError as error:
        if parse_request(request).path is None:
            raise
        hint = f"where it has moved, name it with --upstreams {spec.upstream}=FOLDER"
        raise UpstreamError(f"{error}; {hint}") from error
    if feature_key(upstream.info.identity, augmented) != spec.key:
        raise StoreError(
            f"{request!r} is not the upstream that made it (other weights or preprocessing); name "
            f"the right one with --upstreams {spec.upstream}=FOLDER"
        )
    return upstream


def _mend(
    damaged: DamagedShard,
    again: Sequence[Mapping[str, Source]],
    upstream: Upstream,
    writer: StoreWriter,
    augmented: Augmented | None,
    lanes: int,
) -> str | None:
    """Write one shard anew; the reason where that cannot give the same content."""
    try:
        partners = _partners(damaged, writer, again)
    except SerfeatError as error:
        return str(error)
    sources = [_at_hand(source, again) for source in damaged.sources]
    utterances = {s.id: _utterance(s) for s in (*partners.values(), *sources)}
    rate = upstream.info.sample_rate
    budget = int(CPU_BATCH * rate)
    runner = ShardRunner(upstream, utterances, budget, 4, Silent(), augmented, lanes)
    counts = dict(zip(damaged.shard.ids, damaged.shard.num_frames, strict=True))
    try:
        for source in partners.values():
            _check_partner(source, rate)
        with ThreadPoolExecutor(runner.workers) as pool:
            found = list(pool.map(lambda s: _decode(s, counts[s.id], runner), sources))
        kept = [one for one in found if one is not None]
        outputs = runner.encode(kept, writer.spec)
    except SerfeatError as error:
        return str(error)
    writer.invalidate([damaged.shard.index])
    writer.write(damaged.shard, outputs)
    return None


def _at_hand(source: Source, again: Sequence[Mapping[str, Source]]) -> Source:
    """Where to look for its audio, of all places where it was found (``find_moved``)."""
    others = [one[source.id] for one in again if source.id in one]
    same = [one for one in others if one.audio_sha256 == source.audio_sha256]
    kept = {"draw": source.draw, "partner": source.partner}
    return min((source, *(structs.replace(one, **kept) for one in same)), key=_strange)


def _strange(source: Source) -> int:
    """0 where its file is as it was recorded, 1 where it changed, 2 where it is not there."""
    size, mtime_ns = stat_of(source.path)
    same = (size, mtime_ns) == (source.size, source.mtime_ns)
    return 2 if size < 0 else int(not same)


def _partners(
    damaged: DamagedShard, writer: StoreWriter, again: Sequence[Mapping[str, Source]]
) -> dict[str, Source]:
    """Where the partners are and what audio they were, as far as the set knows.

    Most are in it themselves; what an utterance was joined with counts before what is there now.
    """
    names = {partner_of(source.draw): source.partner for source in damaged.sources}
    known = writer.planned_sources() | writer.sources if names.keys() - {None} else {}
    found = {
        name: joined if isinstance(joined, Source) else known.get(name)
        for name, joined in names.items()
        if name is not None
    }
    return {
        name: _at_hand(source, (known, *again))
        for name, source in found.items()
        if source is not None
    }


def _check_partner(source: Source, rate: int) -> None:
    if source.audio_sha256 and load(_utterance(source), rate).sha256 != source.audio_sha256:
        raise _changed(source)


def _decode(source: Source, num_frames: int, runner: ShardRunner) -> Decoded | None:
    """The same audio again, None where it never was usable. StoreError where it is not the same."""
    utterance = runner.utterances[source.id]
    item = _planned(source, runner)
    if item.num_frames != num_frames:
        raise _changed(source)
    decoded = runner.decode(item)
    known = bool(source.audio_sha256)  # a lost commit record leaves only the plan, without hashes
    if not isinstance(decoded, Decoded):
        if not known and source_of(utterance, draw=source.draw) == source:
            return None
        raise StoreError(decoded.detail)
    if known and decoded.source.audio_sha256 != source.audio_sha256:
        raise _changed(source)
    _check_joined(decoded.source.partner, source.partner)
    return decoded


def _check_joined(now: Source | UnsetType, then: Source | UnsetType) -> None:
    if isinstance(then, Source) and (
        not isinstance(now, Source) or now.audio_sha256 != then.audio_sha256
    ):
        raise _changed(then)


def _planned(source: Source, runner: ShardRunner) -> PlanItem:
    """What there is to decode, its recorded draw only if it is what would be drawn now."""
    utterance, drawing = runner.utterances[source.id], None
    if runner.augmented is not None:
        name = partner_of(source.draw)
        partner = None if name is None else runner.utterances.get(name)
        drawing = redrawing(runner.augmented, name, partner)
        # CopyPaste wants one, whichever it is.
        utterance = structs.replace(utterance, label=NEUTRAL)
    item = plan_item(utterance, runner.upstream, float("inf"), drawing)
    if not same_draw(item.draw, source.draw):
        raise StoreError(
            f"{source.path}: its recorded draw {source.draw[:40]!r} is not what this feature set "
            "draws for it: the audio changed, or the record is not by serfeat; extract the feature "
            "set anew into another store"
        )
    return structs.replace(item, draw=source.draw)


def _changed(source: Source) -> StoreError:
    return StoreError(
        f"{source.path} is not the audio that was extracted; run 'serfeat extract' again"
    )


def _utterance(source: Source) -> Utterance:
    return Utterance(source.id, source.path, start=source.start, end=source.end)
