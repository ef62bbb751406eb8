import pytest

from benchmark_runs import quick


@pytest.mark.parametrize("extra", [[], ["--frames", "--no-transformers"]])
def test_the_benchmark_runs_quickly_and_writes_nothing(extra: list[str]) -> None:
    found = quick("extract", *extra)
    ours = {"ours float32", "ours bfloat16"}
    others = set() if extra else {"transformers one by one", "transformers in batches"}
    assert set(found["seconds"]) == ours | others
    assert set(found["ratio_over"]) == others
    assert all(one["min"] > 0 for one in found["seconds"].values())
    assert 0 < found["matrix_products"]["float32"]["fraction"] < 1
    assert ("frames" in found) == bool(extra)
