from benchmark_runs import quick


def test_the_benchmark_runs_quickly_and_writes_nothing() -> None:
    small, large = quick("scaling")["sizes"]
    assert 0.005 < small["hours"] < large["hours"] < 0.025
    assert 0 < small["utterances"] < large["utterances"]
    assert 100 < small["peak_memory_mb"] < 4000
    assert small["seconds"] > 0
