from benchmark_runs import quick


def test_the_benchmark_runs_quickly_and_writes_nothing() -> None:
    found = quick("resnet")
    assert (found["utterances"], found["frames"], found["bands"]) == (4, 115, 8)
    measured = found["resnet34-copypaste"]
    assert measured["epoch_seconds"]["min"] > 0
    assert measured["plain_over_ours"]["min"] <= measured["plain_over_ours"]["max"]
