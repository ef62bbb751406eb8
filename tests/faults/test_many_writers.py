"""Two and four processes at one store at once, a dead one's lock, a clock that jumps."""

import datetime
import fcntl
import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import pytest

from fake_upstream import content_by_id, make_corpus, run, tiny_shards, use_fake
from ser_features.errors import StoreLockedError
from ser_features.store import lock
from ser_features.store.catalog import list_feature_sets
from ser_features.store.schema import locate
from ser_features.store.verify import verify

TESTS = Path(__file__).resolve().parents[1]
LENGTHS = [2400, 900, 700, 1234, 500, 333, 1600, 800]


def contents(store: Path) -> dict[str, dict]:
    return {info.name: content_by_id(store, info.name) for info in list_feature_sets(store)}


def extract_until_done(folder: Path, request: str, frames: str) -> None:
    """What one of the processes does: start at once with the others, wait where told to."""
    patch = pytest.MonkeyPatch()
    loader = use_fake(patch, sleep=0.003)
    tiny_shards(patch, rows=2)
    manifest = make_corpus(folder / f"corpus-{os.getpid()}", LENGTHS)
    manifest = type(manifest)("made-up", tuple(
        type(u)(u.id, folder / "corpus" / u.path.name, label="x") for u in manifest.utterances
    ))  # fmt: skip
    (folder / f"ready-{os.getpid()}").touch()
    while not (folder / "go").exists():
        time.sleep(0.001)
    told: list[str] = []
    while True:
        try:
            report = run(manifest, folder / "store", request, frames=frames == "frames")
            break
        except StoreLockedError as error:
            told.append(str(error))
            time.sleep(random.uniform(0.001, 0.01))
    batches = sum(sum(one.batches) for one in loader.made)
    sys.stdout.write(json.dumps([report.num_new, batches, told[:3]]))


def race(folder: Path, requests: list[str], frames: bool) -> list[tuple[int, int, list[str]]]:
    """Start a process for each request at the same moment; what each of them did."""
    shutil.rmtree(folder, ignore_errors=True)
    make_corpus(folder / "corpus", LENGTHS)
    path = os.pathsep.join([str(TESTS), str(TESTS.parent)])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    kind = "frames" if frames else "pooled"
    running = [
        subprocess.Popen(
            [sys.executable, __file__, str(folder), request, kind], env=environment,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for request in requests
    ]  # fmt: skip
    while len(list(folder.glob("ready-*"))) < len(requests):
        assert all(process.poll() is None for process in running)
        time.sleep(0.005)
    (folder / "go").touch()
    outputs = [process.communicate(timeout=120) for process in running]
    assert all(process.returncode == 0 for process in running), outputs
    return [tuple(json.loads(out)) for out, _ in outputs]


@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize("same", [True, False])
def test_processes_that_write_one_store_at_once(
    tmp_path, monkeypatch, same, count, torture, counted
) -> None:
    if not torture and (count, same) in ((4, True), (2, False)):
        pytest.skip("make torture tries it")
    use_fake(monkeypatch)
    tiny_shards(monkeypatch, rows=2)
    requests = ["fake"] * count if same else [f"fake@random:{i}" for i in range(count)]
    rounds, refusals = (5 if torture else 1), 0
    for number in range(rounds):
        frames = number % 2 == 0
        folder = tmp_path / "race"
        found = race(folder, requests, frames)
        whole = tmp_path / f"whole-{frames}"
        if not whole.exists():
            corpus = make_corpus(folder / "corpus", LENGTHS)
            for request in dict.fromkeys(requests):
                run(corpus, whole, request, frames=frames)
        expected = {
            name: {key: (value[0], value[1].audio_sha256, *value[2:]) for key, value in one.items()}
            for name, one in contents(whole).items()
        }
        assert {
            name: {key: (value[0], value[1].audio_sha256, *value[2:]) for key, value in one.items()}
            for name, one in contents(folder / "store").items()
        } == expected
        report = verify(folder / "store")
        assert (report.damage, report.strays) == ((), ())
        # Nothing was lost, nothing was computed twice.
        assert sum(new for new, _, _ in found) == len(LENGTHS) * len(set(requests))
        assert sum(encoded for _, encoded, _ in found) == len(LENGTHS) * len(set(requests))
        told = [text for _, _, texts in found for text in texts]
        assert all("is being written by " in text and "wait until" in text for text in told)
        assert same or not told
        refusals += len(told)
    counted(processes=count, same=same, rounds=rounds, refusals=refusals)


def test_the_lock_of_a_dead_process_is_no_obstacle(tmp_path, monkeypatch) -> None:
    use_fake(monkeypatch)
    corpus, store = make_corpus(tmp_path / "corpus", [900, 700]), tmp_path / "store"
    run(corpus, store)
    (info,) = list_feature_sets(store)
    left = locate(store, info.name).lock
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"],
                          capture_output=True, text=True, check=True)  # fmt: skip
    who = {"pid": int(dead.stdout), "host": "elsewhere", "since": "2001-01-01T00:00:00+00:00"}
    left.write_text(json.dumps(who))
    more = make_corpus(tmp_path / "corpus", [900, 700, 500])
    assert run(more, store).num_new == 1
    assert verify(store).strays == ()
    with left.open("rb+") as held:  # a living one is, and its words need not be JSON
        fcntl.flock(held, fcntl.LOCK_EX)
        held.truncate(0)
        with pytest.raises(StoreLockedError, match="is being written by another process; wait"):
            run(make_corpus(tmp_path / "corpus", [900, 700, 500, 400]), store)


class JumpingClock(datetime.datetime):
    """Every look at the clock is another century, and not always a later one."""

    rng = random.Random(3)

    @classmethod
    def now(cls, tz=None):
        return datetime.datetime(cls.rng.choice([1971, 1999, 2026, 2400]), 1, 1, tzinfo=tz)


def test_a_clock_that_jumps_changes_nothing(tmp_path, monkeypatch) -> None:
    """Neither the system's clock nor the times of the recordings decide what is extracted."""
    use_fake(monkeypatch)
    tiny_shards(monkeypatch, rows=2)
    corpus, store = make_corpus(tmp_path / "corpus", [900, 700, 500]), tmp_path / "store"
    rng = random.Random(1)
    clocks = {"time": lambda: rng.uniform(0, 4e9), "time_ns": lambda: rng.randrange(4 * 10**18)}
    part = type(corpus)(corpus.corpus, corpus.utterances[:2])
    with (
        mock.patch.multiple(time, **clocks),
        mock.patch.object(datetime, "datetime", JumpingClock),
        mock.patch.object(lock, "datetime", JumpingClock),
    ):
        assert run(part, store, frames=True).num_new == 2
        assert run(corpus, store, frames=True).num_new == 1
        before = contents(store)
        for moment in (0, -(10**18), 4 * 10**18, 1):  # 1970, 1938, 2096
            for utterance in corpus.utterances:
                os.utime(utterance.path, ns=(moment, moment))
            report = run(corpus, store, frames=True)
            assert (report.num_present, report.num_new, report.rejects) == (3, 0, ())
            assert contents(store) == before
        # The same length, another sound, and a time before that of the first: it is seen.
        changed = make_corpus(tmp_path / "other", [500, 700, 900]).utterances[2].path
        raw = bytearray(corpus.utterances[0].path.read_bytes())
        raw[-200:] = changed.read_bytes()[-200:]
        corpus.utterances[0].path.write_bytes(raw)
        os.utime(corpus.utterances[0].path, ns=(-5, -5))
        assert run(corpus, store, frames=True).num_new == 1
    assert verify(store).ok
    assert contents(store) != before


if __name__ == "__main__":
    extract_until_done(Path(sys.argv[1]), *sys.argv[2:])
