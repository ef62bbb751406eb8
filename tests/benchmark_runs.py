"""Runs a script of benchmarks/ as ``--quick``, which must write no result."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def state(folder: Path) -> dict[str, int]:
    """Every file and when it was written: a result of today would be written over."""
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*")}


def quick(name: str, *options: str) -> dict[str, Any]:
    """What ``NAME.py`` or ``bench_NAME.py --quick`` prints, without s3prl beside it."""
    script = ROOT / "benchmarks" / f"{name}.py"
    script = script if script.exists() else script.with_stem(f"bench_{name}")
    results = ROOT / "benchmarks" / "results"
    before = state(results)
    environment = {key: os.environ[key] for key in os.environ if key != "SERFEAT_S3PRL"}
    paths = os.pathsep.join([str(ROOT), str(ROOT / "cli")])
    done = subprocess.run(
        [sys.executable, script, "--quick", *options],
        env={**environment, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=120,
    )
    assert state(results) == before
    found: dict[str, Any] = json.loads(done.stdout)
    return found
