import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_benchmark_runs_quickly_and_writes_nothing() -> None:
    results = ROOT / "benchmarks" / "results"
    before = sorted(results.glob("scaling-*"))
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "bench_scaling.py", "--quick"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    small, large = json.loads(done.stdout)["sizes"]
    assert 0.005 < small["hours"] < large["hours"] < 0.025
    assert 0 < small["utterances"] < large["utterances"]
    assert 100 < small["peak_memory_mb"] < 4000
    assert small["seconds"] > 0
    assert sorted(results.glob("scaling-*")) == before
