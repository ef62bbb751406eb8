"""Runs a script against s3prl in a process of its own; skips where s3prl is not installed."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

SHIM = Path(__file__).resolve().parents[1] / "benchmarks"


def run_s3prl(script: Path, *args: Path) -> None:
    """``python SCRIPT ARGS``, with ``s3prl_shim`` to be imported."""
    folder = os.environ.get("SERFEAT_S3PRL", "")
    if not ((folder and (Path(folder) / "s3prl").is_dir()) or importlib.util.find_spec("s3prl")):
        pytest.skip("s3prl is not installed: 'make s3prl', then SERFEAT_S3PRL=.venv/s3prl")
    done = subprocess.run(
        [sys.executable, script, *args],
        env={**os.environ, "PYTHONPATH": str(SHIM), "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
