"""Runs a script of benchmarks/ as ``--quick``, which must write no result."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def quick(name: str, *options: str) -> dict[str, Any]:
    """What ``bench_NAME.py --quick`` prints, without s3prl beside it."""
    results = ROOT / "benchmarks" / "results"
    before = sorted(results.glob("*"))
    environment = {key: os.environ[key] for key in os.environ if key != "SERFEAT_S3PRL"}
    paths = os.pathsep.join([str(ROOT), str(ROOT / "cli")])
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / f"bench_{name}.py", "--quick", *options],
        env={**environment, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=120,
    )
    assert sorted(results.glob("*")) == before
    found: dict[str, Any] = json.loads(done.stdout)
    return found
