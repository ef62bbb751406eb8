import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_benchmark_runs_quickly_and_writes_nothing() -> None:
    results = ROOT / "benchmarks" / "results"
    before = sorted(results.glob("resnet-*"))
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "bench_resnet.py", "--quick"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    found = json.loads(done.stdout)
    assert (found["utterances"], found["frames"], found["bands"]) == (4, 115, 8)
    measured = found["resnet34-copypaste"]
    assert measured["epoch_seconds"]["min"] > 0
    assert measured["plain_over_ours"]["min"] <= measured["plain_over_ours"]["max"]
    assert sorted(results.glob("resnet-*")) == before
