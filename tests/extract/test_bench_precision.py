import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_benchmark_runs_quickly_and_writes_nothing() -> None:
    results = ROOT / "benchmarks" / "results"
    before = sorted(results.glob("precision-*"))
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "bench_precision.py", "--quick"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    found = json.loads(done.stdout)
    half, single = (found["deviation_from_float32"][name] for name in ("bfloat16", "float16"))
    for coarse, fine in zip(half["per_layer"], single["per_layer"], strict=True):
        assert 0.05 > coarse > 2 * fine > 0  # 8 bits against 11
    scores = found["leaderboard"]["linear"]
    assert scores["float32"]["ci95"][0] <= scores["float32"]["uar"] <= scores["float32"]["ci95"][1]
    assert scores["bfloat16"]["predictions"] == 24
    assert sorted(results.glob("precision-*")) == before
