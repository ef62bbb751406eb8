"""What a worker of another process does: hold one encoder and turn shards into outputs."""

import os
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

import torch

from ser_features.augment.augmented import Augmented
from ser_features.errors import SerfeatError
from ser_features.extract.plan import PlanItem
from ser_features.extract.progress import Silent
from ser_features.extract.shards import Outcome, ShardRunner, lanes_of
from ser_features.records import FeatureSetSpec, Shard, Utterance
from ser_features.store.outputs import ShardOutputs
from ser_features.upstreams.protocol import Upstream


@dataclass(frozen=True, slots=True)
class Job:
    """All that makes a worker; it only ever travels between processes that serfeat started.

    ``batch_seconds`` is padded audio per forward pass, ``workers`` the threads that decode,
    ``threads`` those that compute (on a CPU); ``folder`` is what relative paths start from.
    """

    load: Callable[..., Upstream]
    request: str
    precision: str
    batch_seconds: float
    workers: int
    threads: int
    spec: FeatureSetSpec
    folder: str
    augmented: Augmented | None = None


@dataclass(frozen=True, slots=True)
class Task:
    """One shard to encode: its items in the shard's order, their utterances and partners."""

    shard: Shard
    items: tuple[PlanItem, ...]
    utterances: tuple[Utterance, ...]


@dataclass(frozen=True, slots=True)
class Result:
    """What one shard gave, ready for the writer."""

    shard: Shard
    outputs: ShardOutputs
    outcome: Outcome


class Worker:
    """One encoder on one device. ``work`` may be called from several threads.

    While one shard is encoded another one is decoded; a GPU starts one before the last is
    collected. Errors are returned, not raised: they are the driver's to raise.
    """

    def __init__(self, job: Job, device: str) -> None:
        self._job, self._device = job, device
        self._encoding = threading.Lock()
        self._upstream: Upstream | None = None

    def load(self) -> Exception | None:
        """Load the encoder; None, or what was wrong."""
        job = self._job
        with suppress(OSError):  # on another machine absolute paths still hold
            os.chdir(job.folder)
        torch.set_num_threads(job.threads)
        try:
            self._upstream = job.load(job.request, device=self._device, precision=job.precision)
        except Exception as error:
            return portable(error)
        return None

    def work(self, task: Task) -> Result | Exception:
        """Decode and encode one shard."""
        try:
            return self._work(task)
        except Exception as error:
            return portable(error)

    def _work(self, task: Task) -> Result:
        assert self._upstream is not None, "load() comes first"
        job, rate = self._job, self._upstream.info.sample_rate
        utterances = {one.id: one for one in task.utterances}
        budget = int(job.batch_seconds * rate)
        shared = (self._upstream, utterances, budget, job.workers, Silent())
        lanes = lanes_of(self._device, job.threads)
        runner = ShardRunner(*shared, job.augmented, lanes)
        with ThreadPoolExecutor(job.workers) as pool:
            decoded = list(pool.map(runner.decode, task.items))
        with self._encoding:
            started = runner.start(task.shard, decoded, job.spec)
        return Result(task.shard, *started.finish())


def portable(error: Exception) -> Exception:
    """The error itself where the user can read it, else one that every process can take apart."""
    if isinstance(error, SerfeatError):
        return error
    found = RuntimeError(f"{type(error).__name__}: {error}")
    found.add_note(f"In the worker:\n{traceback.format_exc()}")
    return found
