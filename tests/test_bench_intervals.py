from benchmark_runs import quick


def test_the_benchmark_runs_quickly_and_writes_nothing() -> None:
    found = quick("intervals")["emodb"]
    assert found["coverage"]["70 %"]["ours"]["held"][0] >= 0.8
    assert found["systems apart"]["called_different"][0] == 1
    assert found["stars"]["3"]["any_lost_its_star"][0] < 0.5
