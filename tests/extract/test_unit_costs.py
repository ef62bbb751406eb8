"""The benchmark behind docs/scale.md runs, and measures what the document says."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_quick(tmp_path):
    found = tmp_path / "costs.json"
    script = ROOT / "benchmarks" / "unit_costs.py"
    command = [sys.executable, str(script), "--quick", "--output", str(found)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(command, check=True, env=environment, cwd=tmp_path, capture_output=True)
    costs = json.loads(found.read_text())
    # An hour of 5 s: 720 x 249 frames of 13 x 768 values in 2 bytes, and 3 means in 4.
    assert costs["GB_per_hour"]["base, pooled"] == round(720 * 13 * 768 * 12 / 1e9, 3)
    frames = costs["GB_per_hour"]["base, pooled and frames"]
    assert frames == round((720 * 13 * 768 * 12 + 720 * 249 * 13 * 768 * 2) / 1e9, 3)
    assert costs["planning"]["shards"] == 16
    assert costs["pooled"]["local"]["shards"] == 3
    assert costs["frames"]["local"]["MB_per_shard"] > 60
