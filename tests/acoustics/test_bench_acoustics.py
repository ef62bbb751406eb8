from pathlib import Path

import pytest

from benchmark_runs import quick


def test_the_benchmark_runs_quickly_and_writes_nothing(shared: Path) -> None:
    pytest.importorskip("pyroomacoustics", reason="needs the extra 'augment'")
    found = quick("acoustics", "--data", str(shared / "data"))
    assert found["snr"]["emodb, white"]["0"]["mean_error"] < 2.5
    assert {"image sources", "noise tails"} == set(found["rooms"])
    assert (
        found["measured"]["echo-chamber"]["t60"] > 5 > found["measured"]["echo-chamber"]["read"][0]
    )
