import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_benchmark_runs_quickly_and_writes_nothing() -> None:
    results = ROOT / "benchmarks" / "results"
    before = sorted(results.glob("heads-*"))
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "bench_heads.py", "--quick"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    found = json.loads(done.stdout)
    assert found["runs"] == 5
    assert found["ratio_loop_over_stacked"]["min"] <= found["ratio_loop_over_stacked"]["max"]
    assert found["whole_recipe_seconds"]["min"] > 0
    assert sorted(results.glob("heads-*")) == before
