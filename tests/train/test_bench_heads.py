from benchmark_runs import quick


def test_the_benchmark_runs_quickly_and_writes_nothing() -> None:
    found = quick("heads")
    assert found["runs"] == 5
    assert found["ratio_loop_over_stacked"]["min"] <= found["ratio_loop_over_stacked"]["max"]
    assert found["whole_recipe_seconds"]["min"] > 0
