from benchmark_runs import quick


def test_the_benchmark_runs_quickly_and_writes_nothing() -> None:
    pooled, frames = quick("plan")["corpora"]["lognormal:300"]
    assert pooled["utterances"] == frames["utterances"] == 300
    for plan in (pooled, frames):
        assert 0 < plan["padding"] <= 0.02 < plan["padding_of_one_batch_a_shard"]
        assert plan["seconds_a_batch"] * plan["batches"] > 0.99 * plan["seconds"]
