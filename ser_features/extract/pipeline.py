"""Extract a corpus once: survey, plan, decode ahead, encode, write behind, report."""

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

from ser_features.audio import duplicates
from ser_features.augment.augmented import Augmented, Drawing, augmented_sets
from ser_features.augment.parse import CLEAN
from ser_features.augment.partners import Partners
from ser_features.errors import StoreError, UsageError
from ser_features.extract.engine import Engine, Order, Placement, make_engine, placement
from ser_features.extract.estimate import Estimate, check_disk, estimate
from ser_features.extract.plan import PlanItem, plan_shards
from ser_features.extract.precision import Deviation
from ser_features.extract.progress import Progress, Silent
from ser_features.extract.rejects import known_rejects, write_rejects
from ser_features.extract.shards import Float16OverflowError, Outcome
from ser_features.extract.spec import feature_spec, new_spec, rejects_report
from ser_features.extract.survey import Survey, planned_sources, stored_in, survey
from ser_features.manifest import Manifest
from ser_features.records import FeatureSetSpec, Note, Rejection, Shard, Source
from ser_features.store.layout import end_frame
from ser_features.store.moved import find_moved
from ser_features.store.place import Place
from ser_features.store.reader import open_feature_set
from ser_features.store.schema import locate, name_of
from ser_features.store.writer import StoreWriter
from ser_features.upstreams.load import load_upstream
from ser_features.upstreams.protocol import Upstream


@dataclass(frozen=True, slots=True)
class Options:
    """How to extract; only ``precision``, ``frames`` and the augmentations change what is stored.

    ``batch_seconds`` is padded audio per forward pass; ``max_seconds`` None is the upstream's own.
    ``augment`` holds augmentations as ``parse_augmentation`` reads them, each ``copies`` times
    with draws of its own from ``seed``; empty is the clean set alone.
    ``devices`` names one worker process each (``all``, or torch's names by commas) and replaces
    ``device``; ``workers`` are threads of each. ``engine`` is local, processes or ray; None is
    processes where ``devices`` are named. ``ray_address`` is as ``ray.init`` takes it.
    """

    frames: bool = False
    device: str = "cpu"
    precision: str = "float32"
    batch_seconds: float | None = None
    workers: int = 4
    max_seconds: float | None = None
    augment: tuple[str, ...] = ()
    copies: int = 1
    seed: int = 0
    engine: str | None = None
    devices: str | None = None
    ray_address: str | None = None

    @property
    def placement(self) -> Placement:
        """Where to extract; UsageError where the options do not fit together."""
        return placement(self.engine, self.device, self.devices, self.ray_address)


@dataclass(frozen=True, slots=True)
class Report:
    """What one extraction did; ``audio_seconds`` and ``seconds`` are of the new utterances.

    ``num_moved`` of the present ones had to be decoded to know their audio: their files were moved
    or touched.
    """

    spec: FeatureSetSpec
    num_present: int
    num_new: int
    num_moved: int
    rejects: tuple[Rejection, ...]
    notes: tuple[Note, ...]
    duplicates: tuple[tuple[str, ...], ...]
    reject_report: Place
    audio_seconds: float
    seconds: float


def extract(
    manifest: Manifest,
    request: str,
    store: Place,
    options: Options | None = None,
    progress: Progress | None = None,
) -> Report:
    """Bring the feature set of ``request`` over ``manifest`` up to date and say what was done.

    Only what is missing is computed. Raises UpstreamError, StoreError; utterances that cannot be
    used are rows of ``Report.rejects``, never an exception. UsageError where the options ask for
    several feature sets: ``extract_sets`` makes those.
    """
    options = options or Options()
    if len(options.augment) > 1 or options.copies > 1:
        raise UsageError("several augmented feature sets are made by extract_sets")
    return extract_sets(manifest, request, store, options, progress)[0]


def extract_sets(
    manifest: Manifest,
    request: str,
    store: Place,
    options: Options | None = None,
    progress: Progress | None = None,
) -> tuple[Report, ...]:
    """``extract`` for every feature set that the options ask for; the upstream is loaded once.

    In the order of ``options.augment``, the copies of each one after another.
    """
    options, progress = options or Options(), progress or Silent()
    if not manifest.utterances:
        raise UsageError(f"corpus {manifest.corpus!r} has no utterances to extract")
    sets = augmented_sets(options.augment or (CLEAN,), options.copies, options.seed)
    place = options.placement
    upstream = load_upstream(request, device=place.driver_device, precision=options.precision)
    order = _order(manifest, upstream, request, options, progress)
    made_by = MadeBy(place, Deviation(order, place.driver_device))
    return tuple(_extract(manifest, order, made_by, store, options, one) for one in sets)


def _extract(
    manifest: Manifest,
    order: Order,
    made_by: "MadeBy",
    store: Place,
    options: Options,
    augmented: Augmented | None,
) -> Report:
    order = replace(order, augmented=augmented)
    upstream, progress = order.upstream, order.progress
    spec = feature_spec(manifest.corpus, upstream, order.request, store, options.frames, augmented)
    spec = made_by(spec)
    engine = make_engine(made_by.place, order)
    try:
        return Extraction(manifest, order, store, spec, options, engine).run()
    except Float16OverflowError as error:
        with StoreWriter(store, spec) as writer:
            _check_all_named(writer, manifest, error)
            progress.say(f"{error}; storing the frames of this feature set as float32 instead")
            writer.delete()
        spec = made_by(new_spec(manifest.corpus, upstream, order.request, "float32", augmented))
        return Extraction(manifest, order, store, spec, options, engine).run()


def _check_all_named(writer: StoreWriter, manifest: Manifest, why: Exception) -> None:
    """StoreError where starting over would lose what this manifest cannot bring back."""
    if others := sorted(writer.sources.keys() - manifest.by_id.keys()):
        raise StoreError(
            f"{why}, so {writer.name} has to start over in float32; it holds {len(others)} "
            f"utterance(s) that are not in this manifest, such as {others[0]!r}: extract with a "
            "manifest that holds them all, or into another store"
        )


def _order(
    manifest: Manifest, upstream: Upstream, request: str, options: Options, progress: Progress
) -> Order:
    return Order(
        load=load_upstream,
        request=request,
        precision=options.precision,
        batch_seconds=options.batch_seconds,
        workers=options.workers,
        upstream=upstream,
        utterances=manifest.by_id,
        progress=progress,
    )


@dataclass(frozen=True, slots=True)
class MadeBy:
    """The provenance of a set that is new: engine and deviation; they are not in its key."""

    place: Placement
    deviation: Deviation

    def __call__(self, spec: FeatureSetSpec) -> FeatureSetSpec:
        """The specification with both."""
        placed = {**spec.provenance, "placement": self.place.to_json()}
        return self.deviation.into(replace(spec, provenance=placed))


class Extraction:
    """One run over one feature set."""

    def __init__(
        self,
        manifest: Manifest,
        order: Order,
        store: Place,
        spec: FeatureSetSpec,
        options: Options,
        engine: Engine,
    ) -> None:
        self.manifest, self.store, self.spec, self.options = manifest, store, spec, options
        self.upstream, self.progress, self.augmented = (
            order.upstream,
            order.progress,
            order.augmented,
        )
        self.engine = engine
        self.report = rejects_report(store, spec)

    def run(self) -> Report:
        """Do what is missing, under the feature set's lock where there is anything to write."""
        stored = self._stored()
        found = self._survey(stored)
        started, done = time.monotonic(), list[Outcome]()
        if found.wanted:
            check_disk(self.store, self._announce(found))
            with StoreWriter(self.store, self.spec) as writer:
                if writer.generations() != stored:  # another process wrote in the meantime
                    found = self._survey(writer.generations())
                self._remember(found, writer)
                shards = self._pending(writer, found.wanted)
                done = list(self.engine.run(shards, found.wanted, writer))
                done.sort(key=lambda one: one.index)
        else:
            self._remember(found)
        found.rejects |= {reject.id: reject for one in done for reject in one.rejects}
        write_rejects(self.report, found.rejects.values())
        return self._report(found, done, time.monotonic() - started)

    def _remember(self, found: Survey, writer: StoreWriter | None = None) -> None:
        """Record where audio was found again; where that cannot be, the run goes on."""
        if not found.moved:
            return
        held: AbstractContextManager[StoreWriter] = (
            nullcontext(writer) if writer else StoreWriter(self.store, self.spec)
        )
        try:
            with held as one:
                one.remember(found.moved.values())
        except StoreError as error:
            self.progress.say(
                f"{title(self.spec)}: which files were moved or touched cannot be recorded, so the "
                f"next run decodes them again: {error}"
            )

    def _report(self, found: Survey, done: list[Outcome], seconds: float) -> Report:
        new = [source for one in done for source in one.sources]
        hashes = [(source.id, source.audio_sha256) for source in [*found.present, *new]]
        return Report(
            spec=self.spec,
            num_present=len(found.present),
            num_new=len(new),
            num_moved=sum(source.id in found.moved for source in found.present),
            rejects=tuple(found.rejects[key] for key in sorted(found.rejects)),
            notes=tuple(note for one in done for note in one.notes),
            duplicates=duplicates(hashes),
            reject_report=self.report,
            audio_seconds=sum(one.audio_seconds for one in done),
            seconds=seconds,
        )

    def _stored(self) -> list[dict[str, Source]]:
        if not locate(self.store, name_of(self.spec)).metadata.exists():
            return []
        return open_feature_set(self.store, self.spec).generations()

    def _survey(self, generations: list[dict[str, Source]]) -> Survey:
        location, utterances = locate(self.store, name_of(self.spec)), self.manifest.utterances
        stored = stored_in(generations, find_moved(location) if generations else ())
        known = known_rejects(self.report, [u for u in utterances if u.id not in stored.sources])
        limit, drawing = self.options.max_seconds, self._drawing()
        with ThreadPoolExecutor(self.options.workers) as pool:
            return survey(
                utterances, stored, known, self.upstream, limit, pool, self.progress, drawing
            )

    def _drawing(self) -> Drawing | None:
        if self.augmented is None:
            return None
        return Drawing(self.augmented, Partners(self.manifest.utterances))

    def _announce(self, found: Survey) -> Estimate:
        size = estimate(found.wanted.values(), self.spec, self.upstream.info.sample_rate)
        stored = f"{len(found.present)} already stored, " if found.present else ""
        rejected = f", {len(found.rejects)} rejected" if found.rejects else ""
        self.progress.say(f"{title(self.spec)}: {stored}{size}{rejected}")
        return size

    def _pending(self, writer: StoreWriter, wanted: dict[str, PlanItem]) -> list[Shard]:
        """Unfinished shards of earlier plans that still hold, then a plan for the rest."""
        draws = self._planned_draws(writer)
        resumed = [shard for shard in writer.pending if _still_wanted(shard, wanted, draws)]
        kept = {shard.index for shard in resumed}
        writer.abandon([s.index for s in writer.pending if s.index not in kept])
        planned = {name for shard in resumed for name in shard.ids}
        rest = [item for name, item in wanted.items() if name not in planned]
        added = plan_shards(
            rest,
            rows=writer.spec.rows,
            capacity=writer.spec.capacity,
            first_index=len(writer.shards),
            first_frame=max((end_frame(s, writer.spec) for s in writer.shards), default=0),
        )
        writer.add_plan(added, planned_sources(self.manifest.by_id, rest))
        return [*resumed, *added]

    def _planned_draws(self, writer: StoreWriter) -> dict[str, str]:
        """What the plans say that was drawn for the utterances of unfinished shards.

        A shard must be what its plan says: repair may have nothing else to go by.
        """
        if self.augmented is None or not writer.pending:
            return {}
        pending = {name for shard in writer.pending for name in shard.ids}
        planned = writer.planned_sources()
        return {name: planned[name].draw for name in pending if name in planned}


def title(spec: FeatureSetSpec) -> str:
    """How a feature set is called in sentences; the clean one by corpus and upstream alone."""
    augmentation = "" if spec.augmentation == CLEAN else f" · {spec.augmentation}"
    return f"{spec.corpus} · {spec.upstream}{augmentation}"


def _still_wanted(shard: Shard, wanted: dict[str, PlanItem], draws: dict[str, str]) -> bool:
    """Whether every utterance is to be made as it was planned; ``draws`` are what was drawn."""
    return all(
        name in wanted
        and wanted[name].num_frames == num_frames
        and wanted[name].draw == draws.get(name, wanted[name].draw)
        for name, num_frames in zip(shard.ids, shard.num_frames, strict=True)
    )
