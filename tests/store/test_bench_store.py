"""The store's benchmark runs, checks its own values, and writes nothing when it is quick."""

from benchmark_runs import quick


def test_the_benchmark_runs_quickly_and_writes_nothing() -> None:
    found = quick("store")
    assert {"serfeat", "raw", "npy-files"} <= set(found["seconds"])
    assert set(found["seconds"]) | set(found["skipped"]) >= {"tensorstore", "zarrs", "zarr", "h5py"}
    share = found["targets"]["sequential_share_of_raw"]
    assert 0 < share["min"] <= share["median"] <= share["max"]
