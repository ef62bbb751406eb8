from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ser_features.errors import TrainError
from ser_features.records import Fold
from ser_features.train.stack import (
    EpochStream,
    chunks,
    generators,
    index_folds,
    list_runs,
    take_all,
)


def stream(n: int, micro: int, accumulate: int, seed: int = 0) -> EpochStream:
    return EpochStream(np.arange(n), np.random.default_rng(seed), micro, accumulate)


@given(
    st.integers(1, 40),
    st.integers(1, 5),
    st.integers(1, 4),
    st.lists(st.integers(1, 9), max_size=5),
)
def test_how_steps_are_taken_does_not_matter(
    n: int, micro: int, accumulate: int, parts: list[int]
) -> None:
    total = sum(parts) + 1
    whole = stream(n, micro, accumulate).take(total)
    pieces = stream(n, micro, accumulate)
    taken = [pieces.take(steps) for steps in (*parts, 1)]
    for one, other in zip(whole, zip(*taken, strict=True), strict=True):
        np.testing.assert_array_equal(one, np.concatenate(other))


@given(st.integers(1, 40), st.integers(1, 5), st.integers(1, 4))
def test_an_update_averages_the_means_of_micro_batches(n: int, micro: int, accumulate: int) -> None:
    index, weight = stream(n, micro, accumulate).take(30)
    np.testing.assert_allclose(weight.sum(axis=1), 1, rtol=1e-6)
    groups = weight.reshape(30, accumulate, micro)
    np.testing.assert_allclose(groups.sum(axis=2), 1 / accumulate, rtol=1e-6)
    assert ((index >= 0) & (index < n)).all()


@given(st.integers(1, 40), st.integers(1, 5))
def test_every_epoch_shows_every_utterance_once(n: int, micro: int) -> None:
    per_epoch = -(-n // micro)
    index, weight = stream(n, micro, 1).take(3 * per_epoch)
    for epoch in range(3):
        part = slice(epoch * per_epoch, (epoch + 1) * per_epoch)
        assert Counter(index[part][weight[part] > 0]) == Counter(range(n))


def test_batches_equal_those_of_torch_data_loader_semantics() -> None:
    """Ten utterances in fours: 4, 4, 2, and the next epoch joins the same update."""
    _, weight = stream(10, 4, 8).take(1)
    sizes = (weight.reshape(8, 4) > 0).sum(axis=1)
    assert sizes.tolist() == [4, 4, 2, 4, 4, 2, 4, 4]
    assert weight[0, 8] == pytest.approx(1 / (8 * 2))


def test_streams_differ_by_fold_and_seed_only() -> None:
    orders = [generators(f, s)[1].permutation(50).tolist() for f in "ab" for s in (0, 1)]
    assert len({tuple(order) for order in orders}) == 4
    assert generators("a", 1)[1].permutation(50).tolist() == orders[1]
    init, order = generators("a", 0)
    assert init.random() != order.random()


def test_runs_are_grouped_by_learning_rate_and_share_streams() -> None:
    folds = index_folds([Fold(n, ("x",), ("y",), ("z",)) for n in "ab"], ["x", "y", "z"])
    runs = list_runs(folds, [0, 1], [1e-3, 1e-4])
    assert [run.lr for run in runs] == [1e-3] * 4 + [1e-4] * 4
    assert [run.stream for run in runs] == [0, 1, 2, 3] * 2
    assert len(set(runs)) == 8


@given(st.integers(1, 30), st.integers(1, 100), st.integers(1, 1000))
def test_chunks_keep_order_and_fit(count: int, per_run: int, limit: int) -> None:
    folds = index_folds([Fold(str(i), ("x",), ("x",), ("x",)) for i in range(count)], ["x"])
    runs = list_runs(folds, [0], [1.0])
    parts = list(chunks(runs, per_run, limit))
    assert [run for part in parts for run in part] == runs
    assert all(len(part) == 1 or len(part) * per_run <= limit for part in parts)


def test_take_all_puts_streams_side_by_side() -> None:
    batches = take_all([stream(6, 2, 2, seed) for seed in (0, 1)], 5)
    index, weight = stream(6, 2, 2, 1).take(5)
    np.testing.assert_array_equal(batches.index[:, 1], index)
    np.testing.assert_array_equal(batches.weight[:, 1], weight)


def test_an_utterance_without_features_is_named() -> None:
    with pytest.raises(TrainError, match=r"fold 'a': 1 utterances have no features .first: 'q'"):
        index_folds([Fold("a", ("x", "q"), (), ())], ["x"])
