"""Several feature sets as one: every row is the row of its part, whatever is asked."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fake_features import FakeFeatures, write_store
from ser_features.errors import TrainError
from ser_features.views import FrameView, Joined, Part, PooledView, row_id

LAYERS, DIM = 3, 4
NAMES = ("", "noise-10db", "noise-10db+1", "tempo:0.9")


def _set(ids: tuple[str, ...], seed: int, dtype: str = "float32") -> FakeFeatures:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 9, len(ids))
    frames = [rng.normal(size=(n, LAYERS, DIM)).astype(np.float32) for n in sizes]
    return FakeFeatures(dict(zip(ids, frames, strict=True)), dtype)


@st.composite
def _parts(draw: st.DrawFn) -> list[Part]:
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=4, unique=True))
    parts = []
    for i, name in enumerate(names):
        ids = draw(st.lists(st.sampled_from("abcdefg"), min_size=1, max_size=6, unique=True))
        corpus = draw(st.sampled_from(["", "urdu"])) if i else ""
        only = draw(st.none() | st.frozensets(st.sampled_from("abcdefg")))
        parts.append(Part(_set(tuple(ids), i), name, corpus, only))
    return parts


@settings(max_examples=60)
@given(_parts(), st.data())
def test_every_row_is_the_row_of_its_part(parts: list[Part], data: st.DataObject) -> None:
    joined = Joined(parts)
    own = {part.row_id(key): (part, key) for part in parts for key in part.kept}
    assert joined.ids == tuple(own)
    for name, count in zip(joined.ids, joined.num_frames, strict=True):
        part, key = own[name]
        assert count == len(part.features.data[key])
        np.testing.assert_array_equal(joined.frames(name, [1]), part.features.frames(key, [1]))
    if joined.ids:
        asked = data.draw(st.lists(st.sampled_from(joined.ids), max_size=9))  # order, repeats
        found = joined.pooled("mean", asked, [2, 0])
        assert found.shape == (len(asked), 2, DIM)
        for row, name in zip(found, asked, strict=True):
            part, key = own[name]
            np.testing.assert_array_equal(row, part.features.pooled("mean", [key], [2, 0])[0])


def test_views_read_joined_sets_of_a_real_store(tmp_path) -> None:
    clean, noisy = _set(("a", "b", "c"), 0), _set(("b", "c"), 1)
    one, two = (write_store(tmp_path / str(i), s.data) for i, s in enumerate((clean, noisy)))
    joined = Joined([Part(one), Part(two, "noise")])
    ids = ("c@noise", "a", "b@noise")
    view = FrameView(joined, ids, "all")
    np.testing.assert_array_equal(view.read(0), noisy.data["c"])
    np.testing.assert_array_equal(view.read(1), clean.data["a"])
    assert view.num_frames.tolist() == [len(noisy.data["c"]), len(clean.data["a"]),
                                        len(noisy.data["b"])]  # fmt: skip
    pooled = PooledView(joined, ids).load()
    np.testing.assert_allclose(pooled[2], noisy.data["b"].mean(0), rtol=1e-6)


def test_reading_asks_each_part_for_its_own_rows_only() -> None:
    clean, noisy = _set(("a", "b"), 0), _set(("a", "b"), 1)
    joined = Joined([Part(clean), Part(noisy, "noise")])
    joined.frames("b@noise")
    assert (clean.reads, noisy.reads) == ([], ["b"])


def test_frames_are_there_only_where_every_part_has_them() -> None:
    half, full, none = _set(("a",), 0, "float16"), _set(("a",), 1), _set(("a",), 2)
    none.spec = replace(none.spec, frames="none")
    assert Joined([Part(half), Part(full, "x")]).spec.frames == "float32"
    assert Joined([Part(half), Part(_set(("a",), 3, "float16"), "x")]).spec.frames == "float16"
    assert Joined([Part(full), Part(none, "x")]).spec.frames == "none"


def test_other_upstreams_and_shapes_are_refused() -> None:
    one, other = _set(("a",), 0), _set(("a",), 1)
    other.spec = replace(other.spec, upstream="other")
    with pytest.raises(TrainError, match="net with 3 layers of 4 and other with 3 layers of 4"):
        Joined([Part(one), Part(other, "x")])
    with pytest.raises(TrainError, match="no feature set"):
        Joined([])


def test_rows_never_share_an_id() -> None:
    with pytest.raises(TrainError, match="would have one id"):
        Joined([Part(_set(("a",), 0)), Part(_set(("b",), 1))])
    with pytest.raises(TrainError, match="would have one id: 'ID', 'ID@x'"):
        Joined([Part(_set(("a", "a@x"), 0)), Part(_set(("a",), 1), "x")])


def test_row_ids() -> None:
    assert row_id("u", "n+2") == "u@n+2"
    assert row_id("u", corpus="urdu") == "urdu:u"
