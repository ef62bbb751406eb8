"""``kill -9`` at any moment, two processes at one store, and memory: in processes of their own.

Run as a script, this file is the driver: it imports torch once and forks for every extraction.
"""

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from fake_upstream import (
    RATE,
    content_by_id,
    make_corpus,
    recording,
    run,
    tiny_shards,
    use_fake,
)
from ser_features.errors import StoreLockedError
from ser_features.extract import pipeline
from ser_features.manifest import Manifest
from ser_features.records import Utterance
from ser_features.store import writer as writing
from ser_features.store.catalog import list_feature_sets
from ser_features.store.reader import open_feature_set
from ser_features.store.schema import locate, name_of
from ser_features.store.verify import remove_strays, verify
from ser_features.store.writer import StoreWriter

TESTS = Path(__file__).resolve().parents[1]
LENGTHS = [2400, 900, 700, 1234, 5000, 6000, 333, *range(400, 2400, 110)]
SILENT = "u2"
# What is extracted; the moments at which a child says where it is, in the order in which they come.
KIND = {"frames": True}
PHASES = ("survey", "lock", "plan", "grow", "write", "publish", "commit", "report")


def drive(scenario: str, folder: Path, *numbers: int) -> dict[str, Any]:
    """Run this file as a script and return what it prints; fails where it fails."""
    paths = os.pathsep.join([str(TESTS), str(TESTS.parent)])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, scenario, str(folder), *map(str, numbers)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("frames", [0, 1])
def test_killed_at_any_moment_and_resumed_the_content_is_the_same(tmp_path, frames, counted):
    """More kills: ``SERFEAT_TORTURE_KILLS=200``."""
    kills = int(os.environ.get("SERFEAT_TORTURE_KILLS", "16")) // 2
    found = drive("torture", tmp_path, kills, frames)
    assert found["kills"] == kills
    assert sum(found["phases"].values()) == kills
    assert len(found["phases"]) == min(kills, len(PHASES))
    assert found["reads"] + found["meanwhile"] > 0
    counted(**found)


def test_two_processes_on_one_store(tmp_path):
    found = drive("both", tmp_path)
    assert f"is being written by process {found['first']} on " in found["told"]
    assert found["sets"] == [["fake", True], ["fake@random:1", True]]
    assert found["equal"]


def test_memory_does_not_grow_with_the_corpus(tmp_path):
    """240 utterances have 46 MB of waveforms and 34 MB of stored frames more than 60 do."""
    few, many = (drive("memory", tmp_path / str(n), n) for n in (60, 240))
    assert many["stored"] - few["stored"] > 30e6
    assert few["peak"] > 5e6
    assert many["peak"] - few["peak"] < 25e6


# The driver


def torture(folder: Path, kills: int, frames: int) -> dict[str, Any]:
    """Kill extractions until ``kills`` are done; every store must come out as the whole one."""
    rng, manifest = random.Random(7), torture_corpus(folder)
    KIND["frames"], whole = bool(frames), folder / "whole"
    wait_for(fork(lambda _: run(manifest, whole, **KIND)))
    spec = open_feature_set(whole, list_feature_sets(whole)[0].name).spec
    expected = content_by_id(whole, spec)
    done: Counter[str] = Counter()
    stores, reads = [folder / "store-0"], 0
    reader, end = fork(lambda line: read_on(line, folder, spec, expected))
    while done.total() < kills:
        phase = PHASES[done.total() % len(PHASES)]
        killed, seen = kill_one(manifest, stores[-1], phase, rng, spec, expected)
        reads += seen
        done[phase] += killed
        check(stores[-1], spec, expected)
        if not killed or rng.random() < 0.2:
            finish(manifest, stores[-1], spec, expected)
            stores.append(folder / f"store-{len(stores)}")
    finish(manifest, stores[-1], spec, expected)
    end.send(b".")
    meanwhile = int(end.recv(20) or b"0")
    wait_for((reader, end))
    return {
        "frames": bool(frames),
        "kills": done.total(),
        "phases": done,
        "stores": len(stores),
        "reads": reads,
        "meanwhile": meanwhile,
    }


def read_on(line: socket.socket, folder: Path, spec: Any, expected: dict[str, Any]) -> None:
    """A reader beside it all: whatever it sees, at any moment, is whole and right."""
    line.setblocking(False)
    reads = 0
    while True:
        with contextlib.suppress(BlockingIOError):
            line.recv(1)
            break
        stores = sorted(folder.glob("store-*"), key=lambda path: int(path.name[6:]))
        reads += bool(stores) and readable(stores[-1], spec, expected)
        time.sleep(0.02)
    line.setblocking(True)
    line.send(str(reads).encode())


def torture_corpus(folder: Path) -> Manifest:
    manifest = make_corpus(folder / "corpus", LENGTHS)
    soundfile.write(manifest.by_id[SILENT].path, np.zeros(700), RATE)
    return manifest


def kill_one(
    manifest: Manifest, store: Path, phase: str, rng: random.Random, spec: Any, expected: Any
) -> tuple[bool, int]:
    """Start an extraction, read while it runs, kill it at a phase; whether that came in time."""
    # Late shards are as likely as early ones; what comes once in a run is not skipped.
    skip = rng.randrange(6) if phase in ("write", "publish", "commit") else 0
    child, line = fork(lambda end: telling(end, lambda: run(manifest, store, **KIND)))
    reads = 0
    while told := line.recv(1):
        if PHASES[told[0]] == phase:
            skip -= 1
        if skip < 0:
            if rng.random() < 0.7:  # else right here
                line.send(b".")
                time.sleep(rng.choice([rng.uniform(0, 0.0005), rng.uniform(0, 0.005)]))
            break
        go_on = rng.random() < 0.5  # it waits while we read, or it does not
        if go_on:
            line.send(b".")
        reads += rng.random() < 0.2 and readable(store, spec, expected)
        if not go_on:
            line.send(b".")
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    line.close()
    assert os.WIFSIGNALED(status) or status == 0
    return os.WIFSIGNALED(status), reads


def readable(store: Path, spec: Any, expected: dict[str, Any]) -> bool:
    """Whatever a reader sees while another process writes is whole and right."""
    if not locate(store, name_of(spec)).metadata.exists():
        return False
    assert content_by_id(store, spec).items() <= expected.items()
    return True


def check(store: Path, spec: Any, expected: dict[str, Any]) -> None:
    """What a kill left behind is sound, and holds only right values."""
    readable(store, spec, expected)
    if (store / "serfeat.json").exists():
        report = verify(store)
        assert report.ok, report.damage
        assert {stray.kind for stray in report.strays} <= {"temporary", "uncommitted"}


def finish(manifest: Manifest, store: Path, spec: Any, expected: dict[str, Any]) -> None:
    wait_for(fork(lambda _: resume(manifest, store)))
    found = open_feature_set(store, spec)
    assert content_by_id(store, spec) == expected
    assert found.complete
    remove_strays(store)
    report = verify(store)
    assert report.ok, report.damage
    assert not report.strays, report.strays


def resume(manifest: Manifest, store: Path) -> None:
    report = run(manifest, store, **KIND)
    assert [row.id for row in report.rejects] == [SILENT]
    assert report.num_present + report.num_new == len(LENGTHS) - 1
    again = run(manifest, store, **KIND)
    assert (again.num_new, again.rejects) == (0, report.rejects)


def fork(work: Callable[[socket.socket], Any]) -> tuple[int, socket.socket]:
    """Run ``work`` in a child with one end of a line; returns its pid and the other end."""
    mine, its = socket.socketpair()
    child = os.fork()
    if child:
        its.close()
        return child, mine
    mine.close()
    code = 1
    try:
        work(its)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def wait_for(started: tuple[int, socket.socket]) -> None:
    child, line = started
    while line.recv(1):
        line.send(b".")
    line.close()
    _, status = os.waitpid(child, 0)
    assert status == 0, f"the child ended with {status}"


def telling(line: socket.socket, work: Callable[[], Any]) -> None:
    """Do ``work``; at each phase, say that it begins now and wait for the word to go on."""
    places = {
        "survey": (pipeline, "survey"),
        "lock": (StoreWriter, "__enter__"),
        "plan": (StoreWriter, "add_plan"),
        "grow": (StoreWriter, "_apply"),
        "write": (StoreWriter, "write"),
        "publish": (writing, "publish"),
        "commit": (StoreWriter, "_commit"),
        "report": (pipeline, "write_rejects"),
    }

    def announce(phase: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            line.send(bytes([PHASES.index(phase)]))
            line.recv(1)
            return real(*args, **kwargs)

        return call

    for phase, (owner, name) in places.items():
        setattr(owner, name, announce(phase, getattr(owner, name)))
    work()


def both(folder: Path) -> dict[str, Any]:
    """One process extracts; this one asks for the same set, then for another."""
    manifest, store = make_corpus(folder / "corpus", LENGTHS), folder / "store"
    wait_for(fork(lambda _: run(manifest, folder / "whole", frames=True)))
    first, line = fork(lambda end: telling(end, lambda: run(manifest, store, frames=True)))
    while PHASES[line.recv(1)[0]] != "write":
        line.send(b".")
    try:  # it has the lock, and waits
        run(manifest, store, frames=True)
        message = "nothing"
    except StoreLockedError as error:
        message = str(error)
    wait_for(fork(lambda _: run(manifest, store, "fake@random:1", frames=True)))
    line.send(b".")
    wait_for((first, line))
    spec = open_feature_set(store, list_feature_sets(store)[0].name).spec
    return {
        "first": first,
        "told": message,
        "sets": [[info.spec.upstream, info.complete] for info in list_feature_sets(store)
                 if info.spec],
        "equal": content_by_id(store, spec) == content_by_id(folder / "whole", spec)
        and verify(store).ok,
    }  # fmt: skip


def memory(folder: Path, count: int) -> dict[str, Any]:
    """Bytes of memory that ``count`` utterances of 8 seconds take at most, without the imports."""
    path = recording(folder / "long.wav", 64_000 + count, 0)
    cuts = [(i / RATE, 8 + i / RATE) for i in range(count)]
    utterances = [Utterance(f"u{i}", path, start=a, end=b) for i, (a, b) in enumerate(cuts)]
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak of the imports
    before = memory_of("VmRSS")
    report = run(Manifest("long", tuple(utterances)), folder / "store", frames=True)
    assert report.num_new == count
    size = sum(path.stat().st_size for path in (folder / "store").rglob("frames/c.*"))
    return {"peak": memory_of("VmHWM") - before, "stored": size}


def memory_of(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith(field)]
    return int(line.split()[1]) * 1024


def main() -> None:
    scenario, folder, *numbers = sys.argv[1:]
    patch = pytest.MonkeyPatch()
    use_fake(patch, sleep=0.002, dim=40 if scenario == "memory" else 4)
    tiny_shards(patch, rows=8, capacity=8192) if scenario == "memory" else tiny_shards(patch)
    work = {"torture": torture, "both": both, "memory": memory}[scenario]
    sys.stdout.write(json.dumps(work(Path(folder), *map(int, numbers))))


if __name__ == "__main__":
    main()
