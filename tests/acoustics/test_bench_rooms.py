from pathlib import Path

import pytest

from benchmark_runs import quick


def test_the_benchmark_runs_quickly_and_writes_nothing(shared: Path) -> None:
    pytest.importorskip("pyroomacoustics", reason="needs the extra 'augment'")
    found = quick("rooms", "--emodb", str(shared / "data" / "emodb"))
    assert (found["room"], found["t60"]) == ("default", 0.3)
    measured = found["median_least_most"]
    assert measured["echo"][0] == pytest.approx(0.3, rel=0.35)
    assert measured["seconds"][0] > 0
