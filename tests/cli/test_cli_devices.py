"""``--devices`` from the command line: the same store; an interrupt stops every process."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from cli_runner import environment, good_corpus, serfeat

TESTS = Path(__file__).resolve().parents[1]
# Many small shards, and encoders that take their time in every process.
SLOW = """
import signal
from functools import partial
from fake_upstream import load_fake
from ser_features.extract import pipeline, spec
from ser_features_cli.main import run
# A parent in the background leaves the signal ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
spec.POOLED_ROWS = 1
pipeline.load_upstream = partial(load_fake, sleep=0.3)
run()
"""
TEXT = "interrupted: what is written stays; run the same command again to go on\n"


def running(group: int) -> list[str]:
    """The processes of a group that are more than a remainder nobody has asked after."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it ended meanwhile
            found.append(stat.read_text())
    facts = [text.rpartition(")")[2].split() for text in found]  # state, parent, group, …
    return [one[0] for one in facts if int(one[2]) == group and one[0] not in "ZX"]


def test_two_processes_make_the_store_of_one(tmp_path: Path) -> None:
    manifest = good_corpus(tmp_path / "corpus").write()
    args = ["extract", "--manifest", manifest, "--upstreams", "fbank", "--store"]
    assert serfeat(*args, tmp_path / "one").status == 0
    done = serfeat(*args, tmp_path / "two", "--devices", "cpu,cpu")
    assert done.status == 0, done.err
    found = [sorted((tmp_path / name).rglob("c.*")) for name in ("one", "two")]
    assert [path.read_bytes() for path in found[0]] == [path.read_bytes() for path in found[1]]


def test_an_interrupt_stops_every_process(tmp_path: Path) -> None:
    manifest, store = good_corpus(tmp_path / "corpus").write(), tmp_path / "store"
    args = ["extract", "--manifest", str(manifest), "--upstreams", "fbank"]
    args += ["--store", str(store), "--devices", "cpu,cpu"]
    paths = environment()
    paths["PYTHONPATH"] = os.pathsep.join([str(TESTS), paths.get("PYTHONPATH", "")])
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, *args], stderr=subprocess.PIPE, text=True, env=paths,
        start_new_session=True,
    )  # fmt: skip
    while not list(store.rglob("shard-*.json")) and process.poll() is None:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1, err
    assert err.endswith(TEXT)
    assert "Traceback" not in err
    while running(process.pid):  # multiprocessing's tracker ends by itself, a moment later
        time.sleep(0.01)
    assert serfeat("store", "verify", store).status == 0
