from benchmark_runs import quick


def test_the_benchmark_runs_quickly_and_writes_nothing() -> None:
    found = quick("precision")
    half, single = (found["deviation_from_float32"][name] for name in ("bfloat16", "float16"))
    for coarse, fine in zip(half["per_layer"], single["per_layer"], strict=True):
        assert 0.05 > coarse > 2 * fine > 0  # 8 bits against 11
    scores = found["leaderboard"]["linear"]
    assert scores["float32"]["ci95"][0] <= scores["float32"]["uar"] <= scores["float32"]["ci95"][1]
    assert scores["bfloat16"]["predictions"] == 24
