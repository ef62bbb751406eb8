import pytest

from benchmark_runs import quick

PLAN = {"read_manifest", "start_up", "pack", "stat", "write_plan", "plan", "list_planned"}


@pytest.mark.parametrize(
    ("options", "more"), [((), {"list", "open", "open_to_write"}), (("--files",), set())]
)
def test_the_benchmark_runs_quickly_and_writes_nothing(options, more) -> None:
    found = quick("million", *options)
    assert found["utterances"] == 20_000
    assert found["peak_memory_bytes"] > 2**20
    assert set(found["seconds"]) >= PLAN | more
