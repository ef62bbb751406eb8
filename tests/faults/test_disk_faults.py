"""Disk full at any write, an error at any change: nothing is lost, and what to do is said.

Every change that a command makes on the disk (create, write, flush, rename, make a folder, delete)
fails once in turn until the command comes through. ``make torture`` tries every one; here every
``STRIDE``-th.
"""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from fake_upstream import content_by_id, make_corpus, run, tiny_shards, use_fake
from faulty_disk import broken_at, full_from, watched
from record_factory import make_record
from ser_features.errors import SerfeatError
from ser_features.extract.repair import repair
from ser_features.manifest import Manifest
from ser_features.results import load_records, save_record
from ser_features.store.catalog import list_feature_sets
from ser_features.store.verify import remove_strays, verify

STRIDE = 31
FAULTS = {"full": (full_from, errno.ENOSPC), "broken": (broken_at, errno.EIO)}
HOW = [(frames, kind) for frames in (False, True) for kind in FAULTS]


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Manifest:
    use_fake(monkeypatch)
    tiny_shards(monkeypatch, rows=2)
    return make_corpus(tmp_path / "corpus", [2400, 900, 700])


def contents(store: Path) -> dict[str, dict]:
    """What a reader gives of every feature set."""
    names = [info.name for info in list_feature_sets(store) if info.spec is not None]
    return {name: content_by_id(store, name) for name in names}


def attempt(work: Callable[[], object], folder: Path, kind: str, number: int) -> bool:
    """Do it with one fault; whether that stopped it. It may only stop with a clear error."""
    fault, code = FAULTS[kind]
    with watched(folder, fault(number)):
        try:
            work()
        except SerfeatError as error:
            told = str(error)
            assert os.strerror(code) in told, told
            assert str(folder) in told, told
            return True
    return False


def numbers_of(work: Callable[[], object], folder: Path, torture: bool) -> range:
    """The changes to spoil, from a run that is only watched."""
    with watched(folder) as disk:
        work()
    assert disk.changes > 5
    return range(0, disk.changes, 1 if torture else STRIDE)


def sound(store: Path, right: dict[str, dict]) -> None:
    """What is there after a fault is whole, and a part of what is right."""
    if not (store / "serfeat.json").exists():
        return
    report = verify(store)
    assert report.ok, report.damage
    assert {stray.kind for stray in report.strays} <= {"temporary", "uncommitted"}
    for name, found in contents(store).items():
        assert found.items() <= right[name].items()


@pytest.mark.parametrize(("frames", "kind"), HOW)
def test_extraction_comes_through_a_fault_at_any_change(
    corpus, tmp_path, frames, kind, torture, counted
) -> None:
    whole, store = tmp_path / "whole", tmp_path / "store"
    numbers = numbers_of(lambda: run(corpus, whole, frames=frames), whole, torture)
    right, stopped = contents(whole), 0
    for number in numbers:
        stopped += attempt(lambda: run(corpus, store, frames=frames), store, kind, number)
        sound(store, right)
        report = run(corpus, store, frames=frames)
        assert report.num_present + report.num_new == 3
        assert contents(store) == right
        remove_strays(store)
        assert not verify(store).strays
        shutil.rmtree(store)
    assert stopped
    counted(fault=kind, points=len(numbers), stopped=stopped)


@pytest.mark.parametrize(("frames", "kind"), HOW)
def test_new_utterances_come_through_a_fault_at_any_change(
    corpus, tmp_path, frames, kind, torture, counted
) -> None:
    """The plan and the arrays grow, a recording has changed, and a shard is left behind."""
    first, store = tmp_path / "first", tmp_path / "store"
    part = Manifest(corpus.corpus, corpus.utterances[:2])
    run(part, first, frames=frames)
    make_corpus(tmp_path / "corpus", [2400, 1900])  # u1 sounds otherwise now
    shutil.copytree(first, store)
    old = contents(store)
    numbers = numbers_of(lambda: run(corpus, store, frames=frames), store, torture)
    right, stopped = contents(store), 0
    for number in numbers:
        shutil.rmtree(store)
        shutil.copytree(first, store)
        stopped += attempt(lambda: run(corpus, store, frames=frames), store, kind, number)
        assert verify(store).ok
        for name, found in contents(store).items():
            assert found.items() <= (old[name].items() | right[name].items())
        run(corpus, store, frames=frames)
        assert contents(store) == right
    assert stopped
    counted(fault=kind, points=len(numbers), stopped=stopped)


@pytest.mark.parametrize("kind", FAULTS)
def test_starting_over_in_float32_comes_through_a_fault_at_any_change(
    tmp_path, monkeypatch, kind, torture, counted
) -> None:
    """The first shards fit float16, a later one does not: the set is deleted and made anew."""
    use_fake(monkeypatch)
    tiny_shards(monkeypatch, rows=1)
    corpus = make_corpus(tmp_path / "corpus", [1400, 900])
    half, store = tmp_path / "half", tmp_path / "store"
    run(Manifest(corpus.corpus, corpus.utterances[:1]), half, frames=True)
    use_fake(monkeypatch, scale=1e6)  # the same key
    shutil.copytree(half, store)
    numbers = numbers_of(lambda: run(corpus, store, frames=True), store, torture)
    stopped = 0
    for number in numbers:
        shutil.rmtree(store)
        shutil.copytree(half, store)
        stopped += attempt(lambda: run(corpus, store, frames=True), store, kind, number)
        assert verify(store).ok
        run(corpus, store, frames=True)
        (info,) = [one for one in list_feature_sets(store) if one.spec]
        assert (info.spec.frames, info.complete) == ("float32", True)
    assert stopped
    counted(fault=kind, points=len(numbers), stopped=stopped)


@pytest.mark.parametrize("kind", FAULTS)
def test_repair_comes_through_a_fault_at_any_change(
    corpus, tmp_path, kind, torture, counted
) -> None:
    whole, store = tmp_path / "whole", tmp_path / "store"
    run(corpus, whole, frames=True)
    right = {p.relative_to(whole): p.read_bytes() for p in whole.rglob("*") if p.is_file()}

    def spoil() -> None:
        shutil.rmtree(store, ignore_errors=True)
        shutil.copytree(whole, store)
        for name in right:
            if name.name in ("c.0.0.0", "zarr.json", "shard-00000001.json", "serfeat.json"):
                (store / name).write_bytes(right[name][:-1])

    spoil()
    numbers, stopped = numbers_of(lambda: repair(store), store, torture), 0
    for number in numbers:
        spoil()
        stopped += attempt(lambda: repair(store), store, kind, number)
        assert repair(store).failures == ()
        run(corpus, store, frames=True)  # a shard whose record was bad is work to do by now
        found = {name: (store / name).read_bytes() for name in right if name.name != "lock"}
        assert found == {name: raw for name, raw in right.items() if name.name != "lock"}
        remove_strays(store)
        report = verify(store)
        assert (report.damage, report.strays) == ((), ())
    assert stopped
    counted(fault=kind, points=len(numbers), stopped=stopped)


@pytest.mark.parametrize("kind", FAULTS)
def test_a_run_record_is_the_old_one_or_the_new_one(tmp_path, kind, counted) -> None:
    folder, old, new = tmp_path / "r", make_record(seeds=(0,)), make_record(seeds=(0,), draw=1)
    numbers = numbers_of(lambda: save_record(folder, old), folder, torture=True)
    shutil.rmtree(folder)
    for number in numbers:  # none is there yet
        attempt(lambda: save_record(folder, old), folder, kind, number)
        loaded = load_records([folder]) if folder.exists() else None
        assert loaded is None or (loaded.problems == () and loaded.records in ((), (old,)))
        shutil.rmtree(folder, ignore_errors=True)
    save_record(folder, old)
    stopped = 0
    for number in numbers:
        stopped += attempt(lambda: save_record(folder, new), folder, kind, number)
        loaded = load_records([folder])
        assert loaded.problems == ()
        assert loaded.records in ((old,), (new,))
        save_record(folder, old)
    assert stopped
    assert [path.suffix for path in folder.rglob("*") if path.is_file()] == [".json"]
    counted(fault=kind, points=2 * len(numbers), stopped=stopped)


def test_the_disk_counts_what_is_written(tmp_path) -> None:
    """The net itself holds: each way of writing is seen, reading is not."""
    with watched(tmp_path) as disk:
        (tmp_path / "a").write_text("x")
        handle = os.open(tmp_path / "b", os.O_RDWR | os.O_CREAT)
        os.write(handle, b"x")
        os.close(handle)
        (tmp_path / "a").replace(tmp_path / "c")
        (tmp_path / "c").read_text()
        (tmp_path / "d" / "e").mkdir(parents=True)
    assert disk.kinds == {"open": 2, "write": 2, "replace": 1, "mkdir": 3}
