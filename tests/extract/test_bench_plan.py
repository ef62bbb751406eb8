import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_benchmark_runs_quickly_and_writes_nothing() -> None:
    before = sorted((ROOT / "benchmarks" / "results").glob("plan-*"))
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "bench_plan.py", "--quick"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    pooled, frames = json.loads(done.stdout)["corpora"]["lognormal:300"]
    assert pooled["utterances"] == frames["utterances"] == 300
    for plan in (pooled, frames):
        assert 0 < plan["padding"] <= 0.02 < plan["padding_of_one_batch_a_shard"]
        assert plan["seconds_a_batch"] * plan["batches"] > 0.99 * plan["seconds"]
    assert sorted((ROOT / "benchmarks" / "results").glob("plan-*")) == before
