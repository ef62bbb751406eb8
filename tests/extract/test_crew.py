"""Who gets which shard, who is replaced and when it ends, with workers that are only played."""

import os
import re
from collections import deque
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from msgspec import structs

from fake_upstream import (
    RATE,
    FakeUpstream,
    Listener,
    contents_of,
    make_corpus,
    run,
    tiny_shards,
    use_fake,
)
from ser_features.errors import StoreError, UpstreamError, UsageError, WorkerError
from ser_features.extract import engine, shards
from ser_features.extract.crew import IN_FLIGHT, Died, Event, Ready
from ser_features.extract.pipeline import Options
from ser_features.extract.worker import Job, Task, Worker
from ser_features.manifest import Manifest
from ser_features.store.writer import StoreWriter

LENGTHS = (900, 160, 2400, 2400, 5000, 333, 8000, 1234, 161, 640, 3000, 700, 1500)


class Played:
    """A crew whose workers do their work here; ``script[seat]`` is what its workers die of.

    A seat's workers take one entry each: "start" dies before it is ready, a number after so many
    shards; with no entry left they live.
    """

    made: "list[Played]" = []  # noqa: RUF012

    def __init__(self, posts: list[tuple[str, Job]], script: dict[int, list[Any]]) -> None:
        self.posts, self.script = posts, {seat: deque(plan) for seat, plan in script.items()}
        self.said: deque[tuple[int, Event]] = deque()
        self.workers: dict[int, Worker] = {}
        self.left: dict[int, float] = {}
        self.held: list[int] = [0] * len(posts)
        self.given: list[tuple[int, int]] = []
        self.closed = False
        Played.made.append(self)

    @property
    def size(self) -> int:
        return len(self.posts)

    def name(self, seat: int) -> str:
        return f"player {seat}"

    def start(self, seat: int) -> None:
        plan = self.script.get(seat)
        end = plan.popleft() if plan else float("inf")
        if end == "start":
            self.said.append((seat, Died("fell")))
            return
        self.workers[seat] = Worker(self.posts[seat][1], "cpu")
        assert self.workers[seat].load() is None
        self.left[seat] = end
        self.said.append((seat, Ready()))

    def give(self, seat: int, task: Task) -> None:
        self.given.append((seat, task.shard.index))
        self.held[seat] += 1
        assert self.held[seat] <= IN_FLIGHT
        if seat not in self.workers:  # gone, and heard of soon
            return
        self.left[seat] -= 1
        if self.left[seat] < 0:
            del self.workers[seat]
            self.said.append((seat, Died("fell")))
        else:
            self.said.append((seat, self.workers[seat].work(task)))

    def hear(self) -> tuple[int, Event]:
        seat, event = self.said.popleft()
        if isinstance(event, Died):
            self.held[seat] = 0
        elif not isinstance(event, Ready):
            self.held[seat] -= 1
        return seat, event

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    return make_corpus(tmp_path / "corpus", LENGTHS)


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Any:
    def with_script(**script: list[Any]) -> None:
        plans = {int(seat[1:]): plan for seat, plan in script.items()}
        monkeypatch.setattr(engine, "ProcessCrew", lambda posts: Played(posts, plans))

    use_fake(monkeypatch)
    tiny_shards(monkeypatch)
    Played.made.clear()
    return with_script


@pytest.mark.parametrize("count", [1, 2, 3, 30])
def test_any_number_of_workers_makes_the_same_store(tmp_path, play, manifest, count):
    play()
    run(manifest, tmp_path / "alone", frames=True)
    run(manifest, tmp_path / "made", frames=True, devices=",".join(["cpu"] * count))
    assert contents_of(tmp_path / "made") == contents_of(tmp_path / "alone")
    (crew,) = Played.made
    given = [shard for _, shard in crew.given]
    assert sorted(given) == list(range(len(given)))  # each shard in one pair of hands
    assert crew.size == min(count, len(given))
    assert crew.closed
    run(manifest, tmp_path / "made", frames=True, devices="cpu,cpu")
    assert len(Played.made) == 1  # nothing to do, nobody hired


def test_the_shards_of_the_dead_are_done_again(tmp_path, play, manifest):
    play(s0=[1, 0, "start", 2], s1=["start", 3])
    listener = Listener()
    run(manifest, tmp_path / "alone")
    report = run(manifest, tmp_path / "made", devices="cpu,cpu", progress=listener)
    assert report.num_new == len(LENGTHS)
    assert contents_of(tmp_path / "made") == contents_of(tmp_path / "alone")
    assert listener.done == pytest.approx(sum(LENGTHS) / RATE)
    text = "player 0 fell; a new one takes its place and does its shards again"
    assert listener.said.count(text) >= 3


def test_a_shard_that_ends_three_workers_ends_the_run(tmp_path, play, manifest):
    play(s0=[2, 0, 0, 0])
    told = r"^player 0 fell, the third worker that ended over shard 2 \(utterances '\w+' … '\w+'\)"
    with pytest.raises(WorkerError, match=told):
        run(manifest, tmp_path / "store", devices="cpu")
    assert Played.made[0].closed
    play()
    assert run(manifest, tmp_path / "store", devices="cpu").num_present > 0  # what is written stays


def test_workers_that_never_begin_end_the_run(tmp_path, play, manifest):
    play(s0=["start"] * 3)
    with pytest.raises(WorkerError, match=r"^player 0 fell, 3 times before it took any work"):
        run(manifest, tmp_path / "store", devices="cpu")


def test_an_error_of_a_worker_is_the_runs(tmp_path, play, manifest, monkeypatch):
    use_fake(monkeypatch, poison=float("nan"))
    play()
    with pytest.raises(UpstreamError, match="features of utterance 'u6' are NaN or infinite"):
        run(manifest, tmp_path / "store", devices="cpu,cpu")
    assert Played.made[0].closed


def test_an_error_of_the_disk_ends_the_run(tmp_path, play, manifest, monkeypatch):
    def full(self, shard, outputs):
        raise StoreError("cannot write here: No space left on device")

    play()
    monkeypatch.setattr(StoreWriter, "write", full)
    with pytest.raises(StoreError, match="No space left on device"):
        run(manifest, tmp_path / "store", devices="cpu,cpu")
    assert Played.made[0].closed


def test_a_worker_that_cannot_see_the_corpus_is_no_reason_to_reject(
    tmp_path, play, manifest, monkeypatch
):
    play()
    work = Worker.work

    def elsewhere(self, task):
        away = [
            structs.replace(one, file=Path("/not/here") / one.path.name) for one in task.utterances
        ]
        found = work(self, replace(task, utterances=tuple(away)))
        rows = found.outcome.rejects
        back = [replace(r, path=str(manifest.by_id[r.id].path)) for r in rows]
        return replace(found, outcome=replace(found.outcome, rejects=tuple(back)))

    monkeypatch.setattr(Worker, "work", elsewhere)
    path = re.escape(str(manifest.by_id["u6"].path))
    with pytest.raises(WorkerError, match=f"finds no {path}, which process {os.getpid()} on"):
        run(manifest, tmp_path / "store", devices="cpu")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"devices": "all"}, "finds no GPU on this machine; leave it out for the CPU, or name"),
        ({"devices": "all,cpu"}, "--devices 'all,cpu': expected 'all' or names, as in cuda:0,cud"),
        ({"devices": ","}, "--devices ',': expected 'all' or names, as in cuda:0,cuda:1"),
        ({"devices": "cpu", "engine": "local"}, "--engine local is one --device; leave out --eng"),
        ({"engine": "processs"}, "unknown engine 'processs'; did you mean 'processes'"),
    ],
)
def test_what_does_not_fit_together(options, text, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    with pytest.raises(UsageError, match=text):
        _ = Options(**options).placement


def test_where_the_work_is_done(monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    place = Options(devices="all").placement
    assert (place.engine, place.devices) == ("processes", ("cuda:0", "cuda:1"))
    assert place.driver_device == "cpu"
    assert Options(engine="processes").placement.devices == ("cuda:0", "cuda:1")
    assert Options(devices="cuda:1, cpu").placement.devices == ("cuda:1", "cpu")
    local = Options(device="cuda:1").placement
    assert (local.engine, local.driver_device) == ("local", "cuda:1")


def test_the_budget_of_a_batch_follows_the_workers_device(manifest):
    order = engine.Order(
        load=FakeUpstream, request="fake", precision="float32", batch_seconds=None, workers=1,
        upstream=FakeUpstream(), utterances=manifest.by_id, progress=Listener(),
    )  # fmt: skip
    assert order.seconds("cuda:3") == 1200
    assert order.seconds("cpu") == 15
    assert replace(order, batch_seconds=7.0).seconds("cuda") == 7


def test_a_worker_runs_a_lane_a_thread_whatever_a_lane_says(tmp_path, play, manifest, monkeypatch):
    """While one shard's lanes run, torch says in every thread what one lane has."""
    threads, lanes, start = [6], [], shards.start_shard

    def starting(*args, **options):
        threads[0] = 1
        lanes.append(options["lanes"])
        return start(*args, **{**options, "lanes": 1})

    play()
    monkeypatch.setattr(shards, "start_shard", starting)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads[0])
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    run(manifest, tmp_path / "store", devices="cpu,cpu")
    assert len(lanes) > 2
    assert set(lanes) == {3}
