import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("extra", [[], ["--frames", "--no-transformers"]])
def test_the_benchmark_runs_quickly_and_writes_nothing(extra: list[str]) -> None:
    results = ROOT / "benchmarks" / "results"
    before = sorted(results.glob("extract-*"))
    environment = {key: os.environ[key] for key in os.environ if key != "SERFEAT_S3PRL"}
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "bench_extract.py", "--quick", *extra],
        env={**environment, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    found = json.loads(done.stdout)
    ours = {"ours float32", "ours bfloat16"}
    others = set() if extra else {"transformers one by one", "transformers in batches"}
    assert set(found["seconds"]) == ours | others
    assert set(found["ratio_over"]) == others
    assert all(one["min"] > 0 for one in found["seconds"].values())
    assert 0 < found["matrix_products"]["float32"]["fraction"] < 1
    assert ("frames" in found) == bool(extra)
    assert sorted(results.glob("extract-*")) == before
