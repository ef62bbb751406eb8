"""The script that fitted the estimators still runs, and its features are those of the model."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cli_runner import environment
from ser_features.acoustics.reverberation import read_model

ROOT = Path(__file__).resolve().parents[2]


def test_a_small_fit(shared: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyroomacoustics", reason="needs the extra 'augment'")
    script, out = ROOT / "benchmarks" / "fit_reverberation.py", tmp_path / "model.json"
    args = ["--emodb", shared / "data" / "emodb", "--rooms", "8", "--write", out]
    subprocess.run([sys.executable, script, *args], check=True, env=environment(), timeout=120)
    made = json.loads(out.read_text())
    assert {name: len(made[name]) for name in ("mean", "scale", "t60", "c50")} == {
        name: len(read_model()[name]) for name in ("mean", "scale", "t60", "c50")
    }
    assert made["fit"]["errors"]["the same at 10 dB SNR"]["t60_mean_error_s"] < 1
