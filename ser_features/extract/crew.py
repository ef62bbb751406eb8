"""Shards over workers that may die: who works on what, what is done again, one writer."""

import os
import socket
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ser_features.augment.augmented import partner_of
from ser_features.errors import WorkerError
from ser_features.extract.plan import PlanItem
from ser_features.extract.progress import Progress
from ser_features.extract.shards import Outcome
from ser_features.extract.worker import Result, Task
from ser_features.records import FeatureSetSpec, Shard, Utterance
from ser_features.store.writer import StoreWriter

# Shards that a worker holds at once: one is encoded, the next one is decoded.
IN_FLIGHT = 2
# A shard that has ended this many workers is not given to another one.
MAX_DEATHS = 3


@dataclass(frozen=True, slots=True)
class Ready:
    """A worker has loaded its encoder."""


@dataclass(frozen=True, slots=True)
class Died:
    """A worker is gone, and how."""

    how: str


Event = Ready | Died | Result | Exception


class Crew(Protocol):
    """Workers of one kind, each at a seat ``0 … size - 1``."""

    @property
    def size(self) -> int:
        """The number of seats."""

    def start(self, seat: int) -> None:
        """Put a new worker at a seat; it is heard as Ready once it can work."""

    def give(self, seat: int, task: Task) -> None:
        """Hand a task to a worker; its Result is heard, or its death, or its error."""

    def hear(self) -> tuple[int, Event]:
        """Wait for the next thing that a worker says. A death is said once."""

    def close(self) -> None:
        """Stop every worker."""

    def name(self, seat: int) -> str:
        """What messages call the worker at a seat."""


@dataclass(frozen=True, slots=True)
class CrewEngine:
    """Runs shards over a crew; ``hire(spec, n)`` starts one for at most ``n`` shards.

    ``rate`` is samples per second of the plan's items.
    """

    hire: Callable[[FeatureSetSpec, int], Crew]
    utterances: Mapping[str, Utterance]
    rate: int
    title: str
    progress: Progress

    def run(
        self, shards: Sequence[Shard], items: Mapping[str, PlanItem], writer: StoreWriter
    ) -> Iterator[Outcome]:
        """Encode and commit every shard, in the order in which they come back."""
        if not shards:
            return
        seconds = {s.index: sum(items[i].num_samples for i in s.ids) / self.rate for s in shards}
        self.progress.start(f"extracting {self.title}", sum(seconds.values()), "s of audio")
        with ThreadPoolExecutor(1) as writing, closing(self.hire(writer.spec, len(shards))) as crew:
            behind: Future[None] | None = None
            tasks = [self._task(shard, items) for shard in shards]
            for result in _Shift(crew, tasks, self.progress).results():
                _check_same_files(result.outcome)
                if behind is not None:
                    behind.result()
                behind = writing.submit(writer.write, result.shard, result.outputs)
                self.progress.advance(seconds[result.shard.index])
                yield result.outcome
            if behind is not None:
                behind.result()

    def _task(self, shard: Shard, items: Mapping[str, PlanItem]) -> Task:
        own = [items[name] for name in shard.ids]
        partners = [name for item in own if (name := partner_of(item.draw)) is not None]
        names = dict.fromkeys([*shard.ids, *partners])
        return Task(shard, tuple(own), tuple(self.utterances[name] for name in names))


class _Shift:
    """The tasks of one run: waiting, in somebody's hands, or done."""

    def __init__(self, crew: Crew, tasks: Sequence[Task], progress: Progress) -> None:
        self._crew, self._progress = crew, progress
        self._waiting = deque(tasks)
        self._held: dict[int, list[Task]] = {seat: [] for seat in range(crew.size)}
        self._ready: set[int] = set()
        self._deaths: Counter[int] = Counter()  # by shard
        self._false_starts: Counter[int] = Counter()  # by seat

    def results(self) -> Iterator[Result]:
        """Every task's result; WorkerError where workers keep dying, else what a worker raised."""
        for seat in self._held:
            self._crew.start(seat)
        while self._waiting or any(self._held.values()):
            seat, event = self._crew.hear()
            if isinstance(event, Exception):
                raise event
            if isinstance(event, Died):
                self._replace(seat, event.how)
            elif isinstance(event, Ready):
                self._ready.add(seat)
                self._false_starts[seat] = 0
            else:
                self._held[seat] = [t for t in self._held[seat] if t.shard != event.shard]
            self._hand_out()
            if isinstance(event, Result):
                yield event

    def _hand_out(self) -> None:
        """Give what is waiting to those who hold the least."""
        for full in range(1, IN_FLIGHT + 1):
            for seat in sorted(self._ready):
                if self._waiting and len(self._held[seat]) < full:
                    task = self._waiting.popleft()
                    self._held[seat].append(task)
                    self._crew.give(seat, task)

    def _replace(self, seat: int, how: str) -> None:
        lost, self._held[seat] = self._held[seat], []
        self._ready.discard(seat)
        name = self._crew.name(seat)
        if lost:
            self._blame(lost[0], f"{name} {how}")
        else:
            self._false_starts[seat] += 1
            if self._false_starts[seat] == MAX_DEATHS:
                raise WorkerError(f"{name} {how}, {MAX_DEATHS} times before it took any work")
        self._waiting.extendleft(reversed(lost))
        self._progress.say(f"{name} {how}; a new one takes its place and does its shards again")
        self._crew.start(seat)

    def _blame(self, task: Task, what: str) -> None:
        """The oldest shard in a dead worker's hands is the one that it was encoding."""
        index, ids = task.shard.index, task.shard.ids
        self._deaths[index] += 1
        if self._deaths[index] == MAX_DEATHS:
            raise WorkerError(
                f"{what}, the third worker that ended over shard {index} (utterances "
                f"{ids[0]!r} … {ids[-1]!r}); if memory ran out, lower --batch-seconds or "
                "--workers, or start fewer workers with --devices; what is written stays"
            )


def _check_same_files(outcome: Outcome) -> None:
    """What this process can read and a worker cannot is not a bad file."""
    for row in outcome.rejects:
        if row.reason == "missing" and Path(row.path).exists():
            raise WorkerError(
                f"a worker finds no {row.path}, which process {os.getpid()} on "
                f"{socket.gethostname()} can read; every machine must see the corpus under the "
                "same path"
            )
