"""Commands that cannot go on: interrupted, or without room on the disk."""

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cli_runner import environment, good_corpus, serfeat

# Encoding waits a little, so that a signal falls into the middle of the work.
SLOW = """
import signal
import os, time
from pathlib import Path
from ser_features.extract import spec
from ser_features.upstreams.spectral import SpectralUpstream
from ser_features_cli.main import run
# A parent in the background leaves the signal ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
spec.POOLED_ROWS = 2
encode = SpectralUpstream.encode
def slowly(self, waves):
    print("encoding", flush=True)
    time.sleep(0.2)
    return encode(self, waves)
SpectralUpstream.encode = slowly
run()
"""
TEXT = "interrupted: what is written stays; run the same command again to go on\n"


@pytest.mark.parametrize("command", ["extract", "bench"])
def test_an_interrupt_is_clean_and_the_same_command_goes_on(tmp_path: Path, command: str) -> None:
    manifest, store = good_corpus(tmp_path / "corpus").write(), tmp_path / "store"
    args = [command, "--manifest", str(manifest), "--store", str(store), "--upstreams", "fbank"]
    if command == "bench":
        args += ["--results", str(tmp_path / "results"), "--steps", "2", "--lr", "0.01"]
    with subprocess.Popen(
        [sys.executable, "-c", SLOW, *args],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(),
    ) as process:  # fmt: skip
        assert process.stdout is not None
        for _ in range(3):
            assert process.stdout.readline() == "encoding\n"
        time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert err.endswith(TEXT)
    assert "Traceback" not in err
    assert serfeat("store", "verify", store).status == 0
    done = serfeat(*args)
    assert done.status == 0, done.err
    assert " already stored, " in done.lines[0]
    assert not done.lines[0].startswith("made · fbank: 0 already")
    if command == "extract":
        fresh = tmp_path / "fresh"
        serfeat(*args[:3], "--store", fresh, "--upstreams", "fbank")
        assert sorted(p.name for p in fresh.rglob("c.*")) <= sorted(
            p.name for p in store.rglob("c.*")
        )


def test_a_disk_that_is_too_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest, store = good_corpus(tmp_path / "corpus").write(), tmp_path / "sub" / "store"
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=60_000_000))
    for args in (("extract",), ("bench", "--results", tmp_path / "results")):
        done = serfeat(*args, "--manifest", manifest, "--store", store, "--upstreams", "fbank")
        assert done.status == 1
        assert done.lines[0].startswith("made · fbank: 16 utterances, 4.")
        assert done.error == (
            f"{store}: the features need 46.1 kB and the disk has 60.0 MB free; free some space, "
            "choose another --store, or drop --frames"
        )
        assert not store.parent.exists()
        assert not (tmp_path / "results").exists()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10**9))
    done = serfeat("extract", "--manifest", manifest, "--store", store, "--upstreams", "fbank")
    assert done.status == 0, done.err
