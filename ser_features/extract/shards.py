"""Shards one after another: decoding runs ahead in threads, writing behind in one."""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from msgspec import structs
from numpy.typing import NDArray

from ser_features.audio import load
from ser_features.augment.augmented import Augmented, partner_in
from ser_features.augment.kind import Samples
from ser_features.augment.partners import load_partner
from ser_features.errors import AudioError, SerfeatError
from ser_features.extract.encode import Encoded, Encoding, start_shard
from ser_features.extract.plan import PlanItem
from ser_features.extract.progress import Progress
from ser_features.extract.survey import reject, source_of
from ser_features.records import FeatureSetSpec, Note, Rejection, Shard, Source, Utterance
from ser_features.store.outputs import ShardOutputs, fits_float16
from ser_features.store.writer import StoreWriter
from ser_features.upstreams.protocol import Upstream

# Padded seconds of audio per forward pass: a CPU gains nothing from large batches, and small ones
# keep all its cores busy to the end of a shard.
CPU_BATCH, CUDA_BATCH = 15.0, 1200.0
# Shards decoded ahead of the encoder: enough to hide the disk, little enough to bound memory.
AHEAD = 2
# Forward passes at a time on a CPU: each holds a batch and its layers in memory.
MOST_LANES = 8


class Float16OverflowError(SerfeatError):
    """A layer's values do not fit float16."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """One utterance ready to encode; ``samples`` float32 [n] at the upstream's rate."""

    source: Source
    samples: NDArray[np.float32]
    notes: tuple[Note, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one shard's utterances; ``audio_seconds`` of those that were stored."""

    index: int
    sources: tuple[Source, ...]
    rejects: tuple[Rejection, ...]
    notes: tuple[Note, ...]
    audio_seconds: float


@dataclass(frozen=True, slots=True)
class Started:
    """A shard on a device; ``encoding`` is None where none of its utterances could be used."""

    sources: tuple[Source, ...]
    encoding: Encoding | None
    spec: FeatureSetSpec
    outcome: Outcome

    @property
    def done(self) -> bool:
        """Whether ``finish`` waits for nothing."""
        return self.encoding is None or self.encoding.done

    def finish(self) -> tuple[ShardOutputs, Outcome]:
        """What to write and what became of the utterances; Float16OverflowError."""
        return _outputs(self.sources, self.encoding, self.spec), self.outcome


@dataclass(frozen=True, slots=True)
class ShardRunner:
    """Runs shards through one upstream; ``budget`` is padded samples per forward pass.

    ``utterances`` holds those of the shards and, where ``augmented`` joins them to partners, these.
    ``lanes`` are forward passes at a time (see ``lanes_of``).
    """

    upstream: Upstream
    utterances: Mapping[str, Utterance]
    budget: int
    workers: int
    progress: Progress
    augmented: Augmented | None = None
    lanes: int = 1

    def run(
        self, shards: Sequence[Shard], items: Mapping[str, PlanItem], writer: StoreWriter
    ) -> Iterator[Outcome]:
        """Encode and commit every shard, yielding each outcome once its shard is on its way."""
        rate = self.upstream.info.sample_rate
        total = sum(items[name].num_samples for shard in shards for name in shard.ids) / rate
        self.progress.start(f"extracting {self.upstream.info.name}", total, "s of audio")
        with ThreadPoolExecutor(1) as writing:
            behind: Future[None] | None = None
            for shard, outputs, outcome in self._encoded(shards, items, writer.spec):
                if behind is not None:
                    behind.result()
                behind = writing.submit(writer.write, shard, outputs)
                self.progress.advance(sum(items[name].num_samples for name in shard.ids) / rate)
                yield outcome
            if behind is not None:
                behind.result()

    def _encoded(
        self, shards: Sequence[Shard], items: Mapping[str, PlanItem], spec: FeatureSetSpec
    ) -> Iterator[tuple[Shard, ShardOutputs, Outcome]]:
        """Every shard's outputs; a GPU has the next shard to do while one is collected."""
        started = deque[tuple[Shard, Started]]()
        for shard, decoded in self._decoded(shards, items):
            started.append((shard, self.start(shard, decoded, spec)))
            while started and (len(started) > 1 or started[0][1].done):
                first, work = started.popleft()
                yield first, *work.finish()
        for shard, work in started:
            yield shard, *work.finish()

    def _decoded(
        self, shards: Sequence[Shard], items: Mapping[str, PlanItem]
    ) -> Iterator[tuple[Shard, list[Decoded | Rejection]]]:
        queue: deque[tuple[Shard, list[Future[Decoded | Rejection]]]] = deque()
        with ThreadPoolExecutor(self.workers) as pool:
            try:
                for shard in shards:
                    tasks = [pool.submit(self.decode, items[name]) for name in shard.ids]
                    queue.append((shard, tasks))
                    if len(queue) > AHEAD:
                        yield _wait(queue.popleft())
                while queue:
                    yield _wait(queue.popleft())
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def decode(self, item: PlanItem) -> Decoded | Rejection:
        """One utterance's waveform, exactly as long as planned, or why there is none."""
        utterance = self.utterances[item.id]
        before = source_of(utterance)
        rate = self.upstream.info.sample_rate
        try:
            wave = load(utterance, rate)
            if self.augmented is not None:
                samples, source = self._augment(self.augmented, wave.samples, item.draw, before)
            else:
                samples, source = wave.samples, before
                _check_length(samples, item, utterance)
        except AudioError as error:
            return reject(utterance, error)
        source = structs.replace(source, audio_sha256=wave.sha256)
        return Decoded(source, samples, tuple(wave.notes))

    def _augment(
        self, augmented: Augmented, samples: Samples, draw: str, source: Source
    ) -> tuple[Samples, Source]:
        """The samples as they were drawn; the source says with what audio they were joined."""
        rate, partner = self.upstream.info.sample_rate, partner_in(self.utterances, draw)
        if partner is None:
            return augmented.apply(samples, draw, rate), structs.replace(source, draw=draw)
        there = source_of(partner)  # before it is read, as the utterance's own place
        wave = load_partner(partner, rate)
        there = structs.replace(there, audio_sha256=wave.sha256)
        joined = augmented.apply(samples, draw, rate, wave.samples)
        return joined, structs.replace(source, draw=draw, partner=there)

    def start(
        self, shard: Shard, decoded: Sequence[Decoded | Rejection], spec: FeatureSetSpec
    ) -> Started:
        """Start encoding a shard's decoded utterances; a CPU has done it then."""
        kept = [one for one in decoded if isinstance(one, Decoded)]
        outcome = _outcome(shard, decoded, self.upstream.info.sample_rate)
        return Started(tuple(one.source for one in kept), self._start(kept, spec), spec, outcome)

    def encode(self, kept: Sequence[Decoded], spec: FeatureSetSpec) -> ShardOutputs:
        """What the store keeps of decoded utterances; Float16OverflowError where it cannot."""
        sources = tuple(one.source for one in kept)
        return _outputs(sources, self._start(kept, spec), spec)

    def _start(self, kept: Sequence[Decoded], spec: FeatureSetSpec) -> Encoding | None:
        if not kept:
            return None
        ids, waves = [one.source.id for one in kept], [one.samples for one in kept]
        frames, halve = spec.frames != "none", spec.frames == "float16"
        return start_shard(
            self.upstream, ids, waves, self.budget, frames, halve=halve, lanes=self.lanes
        )


def batch_seconds(device: str, asked: float | None) -> float:
    """Padded seconds of audio per forward pass on a device; ``asked`` is ``Options``'."""
    return asked or (CUDA_BATCH if "cuda" in device else CPU_BATCH)


def lanes_of(device: str, threads: int) -> int:
    """Forward passes at a time: one a thread of a CPU, as far as memory lasts; one on a GPU.

    ``threads`` is not asked of torch here: while lanes run it says what one of them has.
    """
    return min(threads, MOST_LANES) if torch.device(device).type == "cpu" else 1


def _wait(
    entry: tuple[Shard, list[Future[Decoded | Rejection]]],
) -> tuple[Shard, list[Decoded | Rejection]]:
    shard, tasks = entry
    return shard, [task.result() for task in tasks]


def _check_length(samples: Samples, item: PlanItem, utterance: Utterance) -> None:
    if len(samples) != item.num_samples:
        raise AudioError(
            "changed",
            f"{utterance.path}: {len(samples)} samples were decoded where the header promised "
            f"{item.num_samples}; the file changed or is damaged: run it again",
        )


def _outputs(
    sources: tuple[Source, ...], encoding: Encoding | None, spec: FeatureSetSpec
) -> ShardOutputs:
    if encoding is None:
        return _nothing(spec)
    encoded = encoding.collect()
    pooled = encoded.pooled
    frames = _stored_frames(encoded, spec.frames, encoding.name)
    return ShardOutputs(sources, pooled.mean, pooled.std, pooled.mean_layernorm, frames)


def _nothing(spec: FeatureSetSpec) -> ShardOutputs:
    """Outputs of a shard whose utterances were all rejected."""
    none = np.zeros((0, spec.num_layers, spec.dim), np.float32)
    frames = None if spec.frames == "none" else none.astype(spec.frames)
    return ShardOutputs((), none, none, none, frames)


def _stored_frames(encoded: Encoded, dtype: str, name: str) -> NDArray[np.generic] | None:
    if encoded.frames is None:
        return None
    if dtype == "float16" and not fits_float16(encoded.frames):
        largest = float(np.abs(encoded.frames).max())  # infinite from a GPU, which has rounded
        raise Float16OverflowError(f"{name}: a value of {largest:.3g} does not fit float16")
    return encoded.frames.astype(dtype, copy=False)


def _outcome(shard: Shard, decoded: Sequence[Decoded | Rejection], rate: int) -> Outcome:
    kept = [one for one in decoded if isinstance(one, Decoded)]
    return Outcome(
        index=shard.index,
        sources=tuple(one.source for one in kept),
        rejects=tuple(one for one in decoded if isinstance(one, Rejection)),
        notes=tuple(note for one in kept for note in one.notes),
        audio_seconds=sum(len(one.samples) for one in kept) / rate,
    )
