"""The benchmark behind docs/scale.md runs, and measures what the document says."""

from benchmark_runs import quick


def test_quick():
    costs = quick("unit_costs")
    # An hour of 5 s: 720 x 249 frames of 13 x 768 values in 2 bytes, and 3 means in 4.
    assert costs["GB_per_hour"]["base, pooled"] == round(720 * 13 * 768 * 12 / 1e9, 3)
    frames = costs["GB_per_hour"]["base, pooled and frames"]
    assert frames == round((720 * 13 * 768 * 12 + 720 * 249 * 13 * 768 * 2) / 1e9, 3)
    assert costs["planning"]["shards"] == 16
    assert costs["pooled"]["local"]["shards"] == 3
    assert costs["frames"]["local"]["MB_per_shard"] > 60
