"""``kill -9`` of the driver or of a worker at random moments, with processes and with Ray.

Run as a script, this file makes the kills: it imports torch once and forks for every driver.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
import traceback
from collections import Counter
from contextlib import nullcontext, suppress
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from fake_upstream import (
    contents_of,
    load_fake,
    make_corpus,
    run,
    tiny_shards,
    use_loader,
)
from ray_cluster import cluster_of_its_own
from ser_features.manifest import Manifest
from ser_features.store.catalog import list_feature_sets
from ser_features.store.reader import open_feature_set
from ser_features.store.verify import remove_strays, verify

TESTS = Path(__file__).resolve().parents[1]
LENGTHS = [2400, 900, 700, 1234, 5000, 6000, 333, *range(400, 2400, 90)]
SLEEP = 0.05  # of each forward pass, so that a kill falls into the work


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["processes", "ray"])
def test_killed_at_any_moment_the_store_comes_out_the_same(tmp_path, engine, counted):
    """More kills: a quarter of ``SERFEAT_TORTURE_KILLS`` (a driver and its workers take long)."""
    if engine == "ray" and find_spec("ray") is None:
        pytest.skip("needs Ray: pip install 'serfeat[ray]'")
    kills = int(os.environ.get("SERFEAT_TORTURE_KILLS", "8")) // 4
    paths = os.pathsep.join([str(TESTS), str(TESTS.parent)])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, engine, str(tmp_path), str(kills)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    found = json.loads(done.stdout)
    counted(engine=engine, **found)
    assert sum(found["kills"].values()) == kills
    assert set(found["kills"]) == {"driver", "worker"}


# The script


def torture(folder: Path, kills: int, options: dict[str, Any]) -> dict[str, Any]:
    """Kill until ``kills`` are done; every store must come out as that of one process alone."""
    rng, manifest = random.Random(11), make_corpus(folder / "corpus", LENGTHS)
    run(manifest, folder / "whole", frames=True)
    expected, done, stores, replaced = contents_of(folder / "whole"), Counter[str](), 0, 0
    while done.total() < kills:
        store, finished = folder / f"store-{stores}", False
        stores += 1
        while not finished:
            victims = ["worker", "driver"][: kills - done.total()]
            rng.shuffle(victims)
            killed, finished, said = attempt(manifest, store, victims, rng, options)
            done.update(killed)
            replaced += said
            check(store, expected)
        remove_strays(store)
        assert contents_of(store) == expected
        assert verify(store).ok
    return {"kills": done, "stores": stores, "replaced": replaced}


def attempt(
    manifest: Manifest, store: Path, victims: list[str], rng: random.Random, options: dict[str, Any]
) -> tuple[list[str], bool, int]:
    """One extraction: who was killed in time, whether it finished, and workers replaced."""
    told, alive = store.with_suffix(".told"), store.with_suffix(".alive")
    for path in (told, alive):
        path.write_text("")
    child = os.fork()
    if not child:
        drive(manifest, store, told, alive, options)
    killed = []
    while not pids(alive) and running(child):
        time.sleep(0.005)
    for victim in victims:
        time.sleep(rng.uniform(0, 0.3))
        if running(child):
            kill(child if victim == "driver" else pids(alive)[-1])
            killed.append(victim)
    _, status = os.waitpid(child, 0)
    if "driver" in killed and status == 0:  # it ended between the look and the kill
        killed.remove("driver")
    assert os.WIFSIGNALED(status) == ("driver" in killed), status
    assert os.WIFSIGNALED(status) or status == 0, f"the driver ended with {status}"
    return killed, status == 0, len(told.read_text().splitlines())


def drive(
    manifest: Manifest, store: Path, told: Path, alive: Path, options: dict[str, Any]
) -> None:
    """The child: extract, and write down when a worker is replaced."""

    class Told:
        def start(self, what: str, total: float, unit: str) -> None: ...

        def advance(self, amount: float) -> None: ...

        def say(self, message: str) -> None:
            if "a new one takes its place" in message:
                with told.open("a") as file:
                    file.write(message + "\n")

    code = 1
    try:
        loader = partial(load_fake, sleep=SLEEP, alive=str(alive))
        use_loader(pytest.MonkeyPatch(), loader)
        run(manifest, store, frames=True, progress=Told(), **options)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def running(child: int) -> bool:
    state = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0]
    return state not in "ZX"


def pids(alive: Path) -> list[int]:
    """The processes that began to encode, the last one last."""
    return [int(line) for line in alive.read_text().split()]


def kill(process: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)


def check(store: Path, expected: dict[str, bytes]) -> None:
    """What a kill left behind is sound, and every committed object is the right one."""
    if not (store / "serfeat.json").exists():
        return
    report = verify(store)
    assert report.ok, report.damage
    for info in list_feature_sets(store):
        open_feature_set(store, info.name)
    found = contents_of(store)
    for name, data in expected.items():
        if name in found and "/shard-" in name:
            assert found[name] == data


def main() -> None:
    engine, folder, kills = sys.argv[1:]
    options: dict[str, Any] = {"devices": "cpu,cpu"}
    patch = pytest.MonkeyPatch()
    use_loader(patch, load_fake)
    tiny_shards(patch)
    with cluster_of_its_own() if engine == "ray" else nullcontext() as address:
        if address:
            options |= {"engine": "ray", "ray_address": address}
        found = torture(Path(folder), int(kills), options)
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
