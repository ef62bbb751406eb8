import gc
import weakref

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fake_features import FakeFeatures, write_store
from ser_features.errors import DamageError, TrainError
from ser_features.train.stream import (
    HeldFrames,
    StreamedFrames,
    Window,
    open_frames,
    pieces,
    plan_pass,
)
from ser_features.views import FrameView

CPU = torch.device("cpu")


def _view(counts: list[int], layers: int = 2, dim: int = 3, dtype: str = "float16") -> FrameView:
    rng = np.random.default_rng(0)
    frames = {f"u{i:03d}": rng.normal(size=(n, layers, dim)) for i, n in enumerate(counts)}
    features = FakeFeatures(frames, dtype)
    ids = list(features.ids)
    np.random.default_rng(1).shuffle(ids)  # rows are not in the order of the store
    return FrameView(features, ids, "all")


@settings(deadline=None)
@given(
    sizes=st.lists(st.integers(1, 20), max_size=30), most=st.integers(1, 40), seed=st.integers(0, 9)
)
def test_pieces_keep_order_and_bounds(sizes: list[int], most: int, seed: int) -> None:
    rows = np.random.default_rng(seed).permutation(len(sizes))
    parts = list(pieces(rows, np.array(sizes, np.int64), most))
    assert [row for part in parts for row in part] == rows.tolist()
    totals = [sum(sizes[row] for row in part) for part in parts]
    assert all(t <= most or len(part) == 1 for t, part in zip(totals, parts, strict=True))
    for total, following in zip(totals, parts[1:], strict=False):
        assert total + sizes[following[0]] > most


@settings(deadline=None, max_examples=60)
@given(
    counts=st.lists(st.integers(1, 30), min_size=1, max_size=60),
    window=st.integers(30, 400),
    epoch=st.integers(1, 5),
)
def test_a_pass_holds_every_row_once_in_windows_that_fit(
    counts: list[int], window: int, epoch: int
) -> None:
    view = _view(counts, 1, 1)
    parts = plan_pass(view, window, epoch)
    assert sorted(row for part in parts for row in part) == list(range(len(counts)))
    for part in parts:
        assert np.array_equal(part, np.sort(part))
        assert view.num_frames[part].sum() <= window
    if sum(counts) <= window:
        assert len(parts) == 1


def test_windows_mix_the_length_sorted_store_and_change_every_epoch() -> None:
    view = _view(sorted(range(1, 201), reverse=True), 1, 1)
    first, second = plan_pass(view, 4000, 1), plan_pass(view, 4000, 2)
    assert len(first) > 4
    for part in first[:-1]:
        lengths = view.num_frames[part]
        assert lengths.max() - lengths.min() > 80
    assert any(not np.array_equal(a, b) for a, b in zip(first, second, strict=False))
    again = plan_pass(view, 4000, 1)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))


@pytest.mark.parametrize("normalize", [False, True])
def test_held_and_streamed_windows_hold_the_frames_of_the_store(tmp_path, normalize: bool) -> None:
    rng = np.random.default_rng(0)
    frames = {f"u{i:02d}": rng.normal(3, 2, size=(1 + i, 2, 5)) for i in range(30)}
    view = FrameView(write_store(tmp_path / "store", frames, "float16"), sorted(frames)[3:], "all")
    parts = plan_pass(view, 120, 1)
    needed = np.arange(len(view.ids))
    sources = [
        HeldFrames(view, needed, 10**9, 2, CPU),  # float32
        HeldFrames(view, needed, 1, 2, CPU),  # as stored
        StreamedFrames(view, 2, CPU),
    ]
    for source in sources:
        seen = 0
        for window, part in zip(source.windows(parts), parts, strict=True):
            np.testing.assert_array_equal(window.rows, part)
            rows = part[::-1].copy()
            gathered, counts = window.gather(rows, normalize)
            assert gathered.dtype == torch.float32
            assert counts.tolist() == view.num_frames[rows].tolist()
            expected = [frames[view.ids[row]].astype(np.float16).astype(np.float32) for row in rows]
            if normalize:
                expected = [_plain_norm(each) for each in expected]
            np.testing.assert_allclose(gathered.numpy(), np.concatenate(expected), atol=1e-5)
            seen += len(rows)
        assert seen == len(view.ids)


def _plain_norm(frames: np.ndarray) -> np.ndarray:
    mean, var = frames.mean((0, 2), keepdims=True), frames.var((0, 2), keepdims=True)
    return (frames - mean) / np.sqrt(var + 1e-5)


def test_a_stream_keeps_two_windows_at_most() -> None:
    view = _view([10] * 200)
    parts = plan_pass(view, 160, 1)
    alive: list[weakref.ref[torch.Tensor]] = []
    for window in StreamedFrames(view, 2, CPU).windows(parts):
        alive.append(weakref.ref(window.frames))
        gc.collect()
        assert sum(ref() is not None for ref in alive) <= 2
    assert len(alive) == len(parts) > 10


def test_a_stream_that_is_left_early_stops_reading() -> None:
    view = _view([10] * 200)
    parts = plan_pass(view, 160, 1)
    for _ in StreamedFrames(view, 2, CPU).windows(parts):
        break
    gc.collect()
    assert len(view._features.reads) <= 3 * 16


def test_damage_found_by_a_reading_thread_reaches_the_caller() -> None:
    view = _view([10] * 20)

    def broken(row: int) -> np.ndarray:
        raise DamageError(f"row {row} is damaged")

    view.read = broken
    with pytest.raises(DamageError, match="is damaged"):
        list(StreamedFrames(view, 2, CPU).windows([np.arange(20)]))


def test_memory_decides_between_held_and_streamed() -> None:
    view = _view([10] * 20)  # 200 frames of 12 bytes
    rows = np.arange(20)
    assert isinstance(open_frames(view, rows, 1200, 2400, 1, CPU), HeldFrames)
    assert isinstance(open_frames(view, rows, 1199, 2399, 1, CPU), StreamedFrames)
    assert isinstance(open_frames(view, rows[:5], 1200, 600, 1, CPU), HeldFrames)
    with pytest.raises(TrainError, match=r"2400 bytes of frames.*set window_bytes to 1199 or less"):
        open_frames(view, rows, 1200, 2399, 1, CPU)


def test_a_held_window_copies_nothing() -> None:
    view = _view([10] * 20)
    held = HeldFrames(view, np.arange(20), 10**6, 1, CPU)
    windows: list[Window] = list(held.windows(plan_pass(view, 60, 1)))
    assert len({window.frames.data_ptr() for window in windows}) == 1
