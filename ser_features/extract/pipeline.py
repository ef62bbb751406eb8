"""Extract a corpus once: survey, plan, decode ahead, encode, write behind, report."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ser_features.audio import duplicates
from ser_features.errors import UsageError
from ser_features.extract.estimate import Estimate, check_disk, estimate
from ser_features.extract.plan import PlanItem, plan_shards
from ser_features.extract.progress import Progress, Silent
from ser_features.extract.rejects import known_rejects, write_rejects
from ser_features.extract.shards import (
    CPU_BATCH,
    CUDA_BATCH,
    Float16OverflowError,
    Outcome,
    ShardRunner,
)
from ser_features.extract.spec import feature_spec, new_spec, rejects_report
from ser_features.extract.survey import Survey, source_of, survey
from ser_features.manifest import Manifest
from ser_features.records import FeatureSetSpec, Note, Rejection, Shard, Source
from ser_features.store.layout import end_frame
from ser_features.store.reader import open_feature_set
from ser_features.store.schema import locate, name_of
from ser_features.store.writer import StoreWriter
from ser_features.upstreams.load import load_upstream
from ser_features.upstreams.protocol import Upstream


@dataclass(frozen=True, slots=True)
class Options:
    """How to extract; only ``precision`` and ``frames`` change what is stored.

    ``batch_seconds`` is padded audio per forward pass; ``max_seconds`` None is the upstream's own.
    """

    frames: bool = False
    device: str = "cpu"
    precision: str = "float32"
    batch_seconds: float | None = None
    workers: int = 4
    max_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """What one extraction did; ``audio_seconds`` and ``seconds`` are of the new utterances."""

    spec: FeatureSetSpec
    num_present: int
    num_new: int
    rejects: tuple[Rejection, ...]
    notes: tuple[Note, ...]
    duplicates: tuple[tuple[str, ...], ...]
    reject_report: Path
    audio_seconds: float
    seconds: float


def extract(
    manifest: Manifest,
    request: str,
    store: Path,
    options: Options | None = None,
    progress: Progress | None = None,
) -> Report:
    """Bring the feature set of ``request`` over ``manifest`` up to date and say what was done.

    Only what is missing is computed. Raises UpstreamError, StoreError; utterances that cannot be
    used are rows of ``Report.rejects``, never an exception.
    """
    options, progress = options or Options(), progress or Silent()
    if not manifest.utterances:
        raise UsageError(f"corpus {manifest.corpus!r} has no utterances to extract")
    upstream = load_upstream(request, device=options.device, precision=options.precision)
    spec = feature_spec(manifest.corpus, upstream, request, store, options.frames)
    try:
        return Extraction(manifest, upstream, store, spec, options, progress).run()
    except Float16OverflowError as error:
        progress.say(f"{error}; storing the frames of this feature set as float32 instead")
        with StoreWriter(store, spec) as writer:
            writer.delete()
        spec = new_spec(manifest.corpus, upstream, request, "float32")
        return Extraction(manifest, upstream, store, spec, options, progress).run()


class Extraction:
    """One run over one feature set."""

    def __init__(
        self,
        manifest: Manifest,
        upstream: Upstream,
        store: Path,
        spec: FeatureSetSpec,
        options: Options,
        progress: Progress,
    ) -> None:
        self.manifest, self.upstream, self.store = manifest, upstream, store
        self.spec, self.options, self.progress = spec, options, progress
        self.report = rejects_report(store, spec)

    def run(self) -> Report:
        """Do what is missing, under the feature set's lock where there is anything to write."""
        stored = self._stored()
        found = self._survey(stored)
        started, done = time.monotonic(), list[Outcome]()
        if found.wanted:
            check_disk(self.store, self._announce(found))
            with StoreWriter(self.store, self.spec) as writer:
                if writer.sources != stored:  # another process wrote in the meantime
                    found = self._survey(writer.sources)
                shards = self._pending(writer, found.wanted)
                done = list(self._runner().run(shards, found.wanted, writer))
        found.rejects |= {reject.id: reject for one in done for reject in one.rejects}
        write_rejects(self.report, found.rejects.values())
        return self._report(found, done, time.monotonic() - started)

    def _report(self, found: Survey, done: list[Outcome], seconds: float) -> Report:
        new = [source for one in done for source in one.sources]
        hashes = [(source.id, source.audio_sha256) for source in [*found.present, *new]]
        return Report(
            spec=self.spec,
            num_present=len(found.present),
            num_new=len(new),
            rejects=tuple(found.rejects[key] for key in sorted(found.rejects)),
            notes=tuple(note for one in done for note in one.notes),
            duplicates=duplicates(hashes),
            reject_report=self.report,
            audio_seconds=sum(one.audio_seconds for one in done),
            seconds=seconds,
        )

    def _stored(self) -> dict[str, Source]:
        if not locate(self.store, name_of(self.spec)).metadata.exists():
            return {}
        return open_feature_set(self.store, self.spec).sources

    def _survey(self, stored: dict[str, Source]) -> Survey:
        utterances = self.manifest.utterances
        known = known_rejects(self.report, [u for u in utterances if u.id not in stored])
        limit = self.options.max_seconds
        with ThreadPoolExecutor(self.options.workers) as pool:
            return survey(utterances, stored, known, self.upstream, limit, pool, self.progress)

    def _announce(self, found: Survey) -> Estimate:
        size = estimate(found.wanted.values(), self.spec, self.upstream.info.sample_rate)
        stored = f"{len(found.present)} already stored, " if found.present else ""
        rejected = f", {len(found.rejects)} rejected" if found.rejects else ""
        self.progress.say(
            f"{self.manifest.corpus} · {self.spec.upstream}: {stored}{size}{rejected}"
        )
        return size

    def _runner(self) -> ShardRunner:
        options, rate = self.options, self.upstream.info.sample_rate
        seconds = options.batch_seconds or (CUDA_BATCH if "cuda" in options.device else CPU_BATCH)
        utterances = self.manifest.by_id
        budget = int(seconds * rate)
        return ShardRunner(self.upstream, utterances, budget, options.workers, self.progress)

    def _pending(self, writer: StoreWriter, wanted: dict[str, PlanItem]) -> list[Shard]:
        """Unfinished shards of earlier plans that still hold, then a plan for the rest."""
        resumed = [shard for shard in writer.pending if _still_wanted(shard, wanted)]
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
        table = self.manifest.by_id
        writer.add_plan(added, [source_of(table[name]) for shard in added for name in shard.ids])
        return [*resumed, *added]


def _still_wanted(shard: Shard, wanted: dict[str, PlanItem]) -> bool:
    return all(
        name in wanted and wanted[name].num_frames == num_frames
        for name, num_frames in zip(shard.ids, shard.num_frames, strict=True)
    )
