from benchmark_runs import quick


def test_the_benchmark_runs_quickly_and_writes_nothing() -> None:
    found = quick("million")
    assert found["utterances"] == 20_000
    assert set(found["seconds"]) >= {"read_manifest", "plan", "list", "open", "open_to_write"}
