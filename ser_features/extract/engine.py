"""Who does the work: this process, a process for each device, or the actors of a Ray cluster."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from ser_features.augment.augmented import Augmented
from ser_features.errors import UsageError
from ser_features.extract.crew import Crew, CrewEngine
from ser_features.extract.plan import PlanItem
from ser_features.extract.processes import ProcessCrew
from ser_features.extract.progress import Progress
from ser_features.extract.shards import Outcome, ShardRunner, batch_seconds, lanes_of
from ser_features.extract.worker import Job
from ser_features.records import FeatureSetSpec, Json, Shard, Utterance
from ser_features.registry import unknown
from ser_features.store.writer import StoreWriter
from ser_features.upstreams.protocol import Upstream

ENGINES = ("local", "processes", "ray")
ALL = "all"


class Engine(Protocol):
    """Encodes shards and commits each; the same bytes whichever it is."""

    def run(
        self, shards: Sequence[Shard], items: Mapping[str, PlanItem], writer: StoreWriter
    ) -> Iterator[Outcome]:
        """Yield each shard's outcome once the shard is on its way into the store."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Where to extract: ``devices`` are torch's names, one worker each."""

    engine: str
    devices: tuple[str, ...]
    ray_address: str | None = None

    @property
    def driver_device(self) -> str:
        """Where this process loads the encoder: beside workers only to know its shape."""
        return self.devices[0] if self.engine == "local" else "cpu"

    def to_json(self) -> dict[str, Json]:
        """For the provenance; an address may hold what is nobody's business."""
        return {"engine": self.engine, "devices": list(self.devices)}


def placement(
    engine: str | None, device: str, devices: str | None, ray_address: str | None
) -> Placement:
    """What was asked for, as one worker a device; UsageError where it does not fit together.

    ``engine`` None is ``processes`` where ``devices`` are named, else ``local``.
    """
    engine = engine or ("local" if devices is None else "processes")
    if engine not in ENGINES:
        raise UsageError(unknown("engine", engine, ENGINES))
    if ray_address is not None and engine != "ray":
        raise UsageError("--ray-address goes with --engine ray")
    if engine == "local":
        if devices is not None:
            raise UsageError("--engine local is one --device; leave out --engine or --devices")
        return Placement(engine, (device,))
    names = tuple(one.strip() for one in (devices or ALL).split(",") if one.strip())
    if not names or (ALL in names and len(names) > 1):
        raise UsageError(f"--devices {devices!r}: expected 'all' or names, as in cuda:0,cuda:1")
    if engine == "ray":
        return Placement(engine, _ray_devices(names) if devices else (), ray_address)
    return Placement(engine, _all_gpus() if names == (ALL,) else names)


def _all_gpus() -> tuple[str, ...]:
    count = torch.cuda.device_count()
    if not count:
        raise UsageError(
            f"--devices all: torch {torch.__version__} finds no GPU on this machine; leave it out "
            "for the CPU, or name one CPU process or more: --devices cpu,cpu"
        )
    return tuple(f"cuda:{index}" for index in range(count))


def _ray_devices(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if name not in (ALL, "cpu", "cuda"):
            raise UsageError(
                f"--devices {name!r}: Ray chooses which GPU; name 'all', or 'cuda' or 'cpu' once "
                "for each worker"
            )
    return names


@dataclass(frozen=True, slots=True)
class Order:
    """What every engine is made from; ``upstream`` is the driver's own."""

    load: Callable[..., Upstream]
    request: str
    precision: str
    batch_seconds: float | None
    workers: int
    upstream: Upstream
    utterances: Mapping[str, Utterance]
    progress: Progress
    augmented: Augmented | None = None

    def seconds(self, device: str) -> float:
        """Padded seconds of audio per forward pass on a device."""
        return batch_seconds(device, self.batch_seconds)

    def job(self, spec: FeatureSetSpec, device: str, threads: int) -> Job:
        """What a worker on a device is told."""
        seconds, folder = self.seconds(device), os.getcwd()  # noqa: PTH109
        names = (self.load, self.request, self.precision)
        return Job(*names, seconds, self.workers, threads, spec, folder, self.augmented)


def make_engine(place: Placement, order: Order) -> Engine:
    """The engine of a placement."""
    info = order.upstream.info
    if place.engine == "local":
        budget = int(order.seconds(place.devices[0]) * info.sample_rate)
        shared = (order.upstream, order.utterances, budget, order.workers, order.progress)
        lanes = lanes_of(place.devices[0], torch.get_num_threads())
        return ShardRunner(*shared, order.augmented, lanes)
    hire = _processes if place.engine == "processes" else _ray

    def start(spec: FeatureSetSpec, num_shards: int) -> Crew:
        return hire(place, order, spec, num_shards)

    return CrewEngine(start, order.utterances, info.sample_rate, info.name, order.progress)


def _processes(place: Placement, order: Order, spec: FeatureSetSpec, num_shards: int) -> Crew:
    devices = place.devices[:num_shards]
    threads = max(1, torch.get_num_threads() // len(devices))
    return ProcessCrew([(one, order.job(spec, one, threads)) for one in devices])


def _ray(place: Placement, order: Order, spec: FeatureSetSpec, num_shards: int) -> Crew:
    from ser_features.extract.ray_crew import RayCluster, RayCrew

    cluster = RayCluster(place.ray_address)
    try:
        seats = cluster.seats(place.devices)[:num_shards]
    except UsageError:
        cluster.close()
        raise
    return RayCrew(cluster, [(one, order.job(spec, one.device, one.cpus)) for one in seats])
