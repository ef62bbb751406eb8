"""Ctrl-C and SIGTERM in real processes: within seconds, consistent, and told how to go on."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cli_runner import environment, good_corpus, noise, serfeat

TEXT = "interrupted: what is written stays; run the same command again to go on\n"
# A mark is printed when the place is reached; then the place takes its time.
SCRIPT = """
import os, signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job's parent ignores it
signal.signal(signal.SIGTERM, signal.SIG_DFL)
from ser_features.extract import spec
spec.POOLED_ROWS = 2
def slow(owner, name, seconds):
    real = getattr(owner, name)
    def call(*args, **kwargs):
        os.write(1, b"there\\n")
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            sum(range(10000))
        return real(*args, **kwargs)
    setattr(owner, name, call)
PLACE
from ser_features_cli.main import run
run()
"""
PLACES = {
    "decode": "from ser_features.extract import shards; slow(shards, 'load', 0.8)",
    "encode": "from ser_features.upstreams.spectral import SpectralUpstream as S; "
    "slow(S, 'encode', 0.8)",
    "write": "from ser_features.store.writer import StoreWriter as W; slow(W, 'write', 0.8)",
    "train": "from ser_features.train.superb import StackTrainer as T; slow(T, 'advance', 0.8)",
}
# A server or a disk that does not answer; nothing that Python could stop.
PLACES["hang"] = """
import ser_features_cli.main as main
from ser_features.store.writer import StoreWriter
main.GRACE = 1.0
StoreWriter.write = lambda *_: (os.write(1, b"there\\n"), time.sleep(600))
"""
SECONDS = 30  # a loaded machine; alone it takes about two


def corpus(folder: Path) -> Path:
    made = good_corpus(folder)
    made.record("long", noise(16_000 * 20), label="angry", speaker="a")
    return made.write()


def stopped(place: str, args: list[str], signals: list[int]) -> tuple[int, str]:
    """Send the signals once the place is reached, a moment apart; exit status and words."""
    script = SCRIPT.replace("PLACE", PLACES[place])
    with subprocess.Popen(
        [sys.executable, "-c", script, *args], env=environment(),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "there\n"
        for number in signals:
            time.sleep(0.1)
            process.send_signal(number)
        try:
            _, err = process.communicate(timeout=SECONDS)
        finally:
            process.kill()
    return process.returncode, err


@pytest.mark.parametrize(
    ("place", "signals"),
    [
        ("decode", [signal.SIGINT]),
        ("encode", [signal.SIGTERM]),
        ("write", [signal.SIGINT, signal.SIGINT]),
        ("train", [signal.SIGINT]),
    ],
)
def test_a_signal_stops_cleanly_and_says_how_to_go_on(
    tmp_path: Path, place: str, signals: list[int], counted
) -> None:
    manifest, store = corpus(tmp_path / "corpus"), tmp_path / "store"
    args = ["--manifest", str(manifest), "--store", str(store), "--upstreams", "fbank"]
    command = ["bench" if place == "train" else "extract", *args]
    if place == "train":
        command += ["--results", str(tmp_path / "results"), "--steps", "20", "--lr", "0.01"]
    status, err = stopped(place, command, signals)
    assert "Traceback" not in err, err
    if len(signals) == 1 or TEXT in err:
        assert err.endswith(TEXT), err
        assert status == 1
    else:  # the second came before the first had been answered
        assert status in (1, -signal.SIGINT, 130)
    assert not (store / "serfeat.json").exists() or serfeat("store", "verify", store).status == 0
    done = serfeat(*command)
    assert done.status == 0, done.err
    assert serfeat("store", "verify", store).status == 0
    counted(place=place, signals=len(signals))


def test_what_hangs_does_not_keep_the_process(tmp_path: Path) -> None:
    """A hard end is what the store is made for, so an interrupt never takes longer than that."""
    manifest, store = corpus(tmp_path / "corpus"), tmp_path / "store"
    command = ["extract", "--manifest", manifest, "--store", store, "--upstreams", "fbank"]
    status, err = stopped("hang", [str(one) for one in command], [signal.SIGINT])
    assert (status, err[-len(TEXT) :]) == (1, TEXT)
    assert "Traceback" not in err
    assert serfeat("store", "verify", store).status == 0
    assert serfeat(*command).status == 0
