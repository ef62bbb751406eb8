"""The store's benchmark runs, checks its own values, and writes nothing when it is quick."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_benchmark_runs_quickly_and_writes_nothing() -> None:
    results = ROOT / "benchmarks" / "results"
    before = sorted(results.glob("store-*"))
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "bench_store.py", "--quick"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    found = json.loads(done.stdout)
    assert {"serfeat", "raw", "npy-files"} <= set(found["seconds"])
    assert set(found["seconds"]) | set(found["skipped"]) >= {"tensorstore", "zarrs", "zarr", "h5py"}
    share = found["targets"]["sequential_share_of_raw"]
    assert 0 < share["min"] <= share["median"] <= share["max"]
    assert sorted(results.glob("store-*")) == before
