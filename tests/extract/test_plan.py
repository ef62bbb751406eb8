"""The plan: every utterance once, whole, in bounds, and the same whatever the order."""

import random
from itertools import pairwise, product

from hypothesis import given
from hypothesis import strategies as st

from ser_features.extract.estimate import object_frames
from ser_features.extract.plan import PlanItem, batches, plan_shards, span
from ser_features.extract.spec import POOLED_ROWS

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


@given(lengths, st.integers(1, 300_000), st.sampled_from([0.0, 0.02, 0.3]))
def test_batches_cover_all_in_order_fit_and_hardly_pad(samples, budget, padding):
    ordered = sorted(samples, reverse=True)
    cuts = batches(ordered, budget, padding)
    assert [n for cut in cuts for n in ordered[cut]] == ordered
    for cut in cuts:
        batch = ordered[cut]
        assert len(batch) * batch[0] <= budget or len(batch) == 1
    assert padded(ordered, cuts) - sum(ordered) <= padding * sum(ordered)
    assert cuts == batches(ordered, budget, padding)


@given(
    st.lists(st.integers(1, 60), min_size=1, max_size=8),
    st.integers(1, 400),
    st.sampled_from([0.0, 0.05, 0.3]),
)
def test_batches_are_the_fewest_that_can_be_and_of_those_the_fullest(samples, budget, padding):
    ordered = sorted(samples, reverse=True)
    allowed = []
    for inner in product([False, True], repeat=len(ordered) - 1):
        ends = [i + 1 for i, cut in enumerate(inner) if cut]
        cuts = [slice(a, b) for a, b in pairwise([0, *ends, len(ordered)])]
        runs = [ordered[cut] for cut in cuts]
        size = padded(ordered, cuts)
        if size <= (1 + padding) * sum(ordered) and all(
            len(run) == 1 or len(run) * run[0] <= budget for run in runs
        ):
            allowed.append((len(cuts), size))
    found = batches(ordered, budget, padding)
    assert (len(found), padded(ordered, found)) == min(allowed)


def padded(ordered: list[int], cuts: list[slice]) -> int:
    return sum((cut.stop - cut.start) * ordered[cut.start] for cut in cuts)


def test_a_real_corpus_is_padded_by_less_than_two_percent_in_batches_that_are_not_small(shared):
    sizes = [path.stat().st_size for path in (shared / "data" / "emodb" / "wav").glob("*.wav")]
    samples = sorted(((size - 44) // 2 for size in sizes), reverse=True)
    shards = [samples[i : i + POOLED_ROWS] for i in range(0, len(samples), POOLED_ROWS)]
    cuts = [batches(shard, 1200 * 16_000) for shard in shards]
    size = sum(padded(shard, cut) for shard, cut in zip(shards, cuts, strict=True))
    assert size <= 1.02 * sum(samples)
    assert sum(map(len, cuts)) <= 40  # 37 s of audio in each


def test_object_frames_are_whole_inner_chunks_of_about_64_megabytes():
    for layers, dim in [(1, 240), (13, 768), (25, 1024), (49, 1280)]:
        frames = object_frames(layers, dim, "float16")
        assert frames % 256 == 0
        assert 1024 <= frames <= 65536
        if frames not in (1024, 65536):
            assert frames * layers * dim * 2 <= 64 * 2**20
