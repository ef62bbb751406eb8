"""The plan: every utterance once, whole, in bounds, and the same whatever the order."""

import random

from hypothesis import given
from hypothesis import strategies as st

from ser_features.extract.estimate import object_frames
from ser_features.extract.plan import PlanItem, batches, plan_shards, span

lengths = st.lists(st.integers(400, 100_000), max_size=60)


def items_of(samples: list[int]) -> list[PlanItem]:
    return [PlanItem(f"u{i}", n, (n - 400) // 320 + 1) for i, n in enumerate(samples)]


@given(lengths, st.integers(1, 9), st.integers(1, 300), st.integers(0, 5))
def test_every_utterance_is_in_one_shard_whole_and_in_bounds(samples, rows, capacity, first):
    items = items_of(samples)
    shards = plan_shards(
        items, rows=rows, capacity=capacity, first_index=first, first_frame=first * capacity
    )
    assert sorted(name for s in shards for name in s.ids) == sorted(i.id for i in items)
    assert [s.index for s in shards] == list(range(first, first + len(shards)))
    frame = first * capacity
    for shard in shards:
        assert 1 <= len(shard.ids) <= rows
        assert sum(shard.num_frames) <= capacity or len(shard.ids) == 1
        assert shard.first_frame == frame
        assert shard.first_frame % capacity == 0
        frame += span(sum(shard.num_frames), capacity)


@given(lengths, st.randoms(use_true_random=False))
def test_the_plan_does_not_depend_on_the_order(samples, rng: random.Random):
    items = items_of(samples)
    mixed = list(items)
    rng.shuffle(mixed)
    assert plan_shards(mixed, rows=8, capacity=500) == plan_shards(items, rows=8, capacity=500)


@given(lengths, st.integers(1, 300_000))
def test_batches_cover_all_in_order_and_fit(samples, budget):
    ordered = sorted(samples, reverse=True)
    cuts = list(batches(ordered, budget))
    assert [n for cut in cuts for n in ordered[cut]] == ordered
    for cut in cuts:
        batch = ordered[cut]
        assert len(batch) * batch[0] <= budget or len(batch) == 1


def test_object_frames_are_whole_inner_chunks_of_about_64_megabytes():
    for layers, dim in [(1, 240), (13, 768), (25, 1024), (49, 1280)]:
        frames = object_frames(layers, dim, "float16")
        assert frames % 256 == 0
        assert 1024 <= frames <= 65536
        if frames not in (1024, 65536):
            assert frames * layers * dim * 2 <= 64 * 2**20
