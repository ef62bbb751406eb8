import numpy as np
import pytest

from fake_features import FakeFeatures, write_store
from ser_features.errors import TrainError, UsageError
from ser_features.views import FrameView, PooledView, resolve_layers


def _frames(count: int = 11, layers: int = 3, dim: int = 4) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        f"u{i:02d}": rng.normal(size=(int(rng.integers(1, 40)), layers, dim)).astype(np.float32)
        for i in range(count)
    }


@pytest.mark.parametrize(
    ("which", "layers"), [("last", (4,)), ("all", (0, 1, 2, 3, 4)), ("0", (0,)), (3, (3,))]
)
def test_layers_are_named_by_word_or_number(which: str | int, layers: tuple[int, ...]) -> None:
    assert resolve_layers(which, 5) == layers


@pytest.mark.parametrize("which", ["5", "-1", -1, "first", "", "1.0", "²"])
def test_other_layers_are_refused(which: str | int) -> None:
    with pytest.raises(UsageError, match="expected 'last', 'all' or a number from 0 to 4"):
        resolve_layers(which, 5)


@pytest.mark.parametrize("which", ["last", "all", "1"])
def test_views_of_a_real_store_give_what_was_written(tmp_path, which: str) -> None:
    frames = _frames()
    features = write_store(tmp_path / "store", frames)
    ids = tuple(sorted(frames, reverse=True))[2:9]
    chosen = list(resolve_layers(which, 3))
    view = FrameView(features, ids, which)
    assert view.num_frames.tolist() == [len(frames[key]) for key in ids]
    for row, key in enumerate(ids):
        np.testing.assert_array_equal(view.read(row), frames[key][:, chosen])
    pooled = PooledView(features, ids).load(which)
    expected = np.stack([frames[key].mean(0)[chosen] for key in ids])
    np.testing.assert_allclose(pooled, expected, rtol=1e-6)
    assert pooled.dtype == np.float32


def test_frame_bytes_count_the_chosen_layers_as_stored() -> None:
    features = FakeFeatures(_frames(), "float16")
    assert FrameView(features, features.ids, "last").frame_bytes == 4 * 2
    assert FrameView(features, features.ids, "all").frame_bytes == 3 * 4 * 2


def test_an_utterance_without_features_is_named() -> None:
    features = FakeFeatures(_frames())
    with pytest.raises(TrainError, match=r"1 utterances have no features \(first: 'ghost'\)"):
        FrameView(features, ("u00", "ghost"))


def test_a_set_without_frames_says_how_to_get_them() -> None:
    features = FakeFeatures(_frames())
    features.spec = features.spec.__class__(
        "toy", "net", "none", "0" * 64, 3, 4, "none", rows=8, capacity=64
    )
    with pytest.raises(TrainError, match=r"toy/net keeps pooled features only.*extract --frames"):
        FrameView(features, ("u00",))
