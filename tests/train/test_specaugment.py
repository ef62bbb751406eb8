import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from ser_features.train.specaugment import POLICIES, Masks, apply_masks, draw_masks

NAMES = st.sampled_from(sorted(POLICIES))


def test_the_policies_are_paper_4s_table() -> None:
    facts = {
        name: (p.max_bands, p.max_frames, p.max_share, p.band_masks, p.frame_masks, p.copies)
        for name, p in POLICIES.items()
    }
    assert facts == {
        "conservative": (15, 50, 0.2, 2, 2, 2),
        "aggressive": (27, 70, 0.2, 2, 2, 2),
    }


@given(NAMES, st.integers(1, 900), st.integers(1, 140), st.integers(0, 99))
def test_masks_fit_and_are_never_wider_than_p_times_t(
    name: str, num_frames: int, num_bands: int, seed: int
) -> None:
    policy = POLICIES[name]
    masks = draw_masks(policy, num_frames, num_bands, np.random.default_rng(seed))
    assert (len(masks.bands), len(masks.frames)) == (2, 2)
    for start, width in masks.frames:
        assert 0 <= width <= min(policy.max_frames, policy.max_share * num_frames)
        assert 0 <= start <= num_frames - width
    for start, width in masks.bands:
        assert 0 <= width <= min(policy.max_bands, num_bands)
        assert 0 <= start <= num_bands - width


def test_every_width_and_the_last_place_are_drawn() -> None:
    rng = np.random.default_rng(0)
    drawn = [draw_masks(POLICIES["conservative"], 100, 20, rng) for _ in range(2000)]
    widths = [w for masks in drawn for _, w in masks.frames]
    assert set(widths) == set(range(21))
    assert abs(np.mean(widths) - 10) < 0.5
    assert max(start + width for masks in drawn for start, width in masks.frames) == 100
    assert {w for masks in drawn for _, w in masks.bands} == set(range(16))


@given(NAMES, st.integers(1, 60), st.integers(1, 30), st.integers(0, 99))
def test_masked_places_are_the_value_and_all_others_are_left(
    name: str, num_frames: int, num_bands: int, seed: int
) -> None:
    masks = draw_masks(POLICIES[name], num_frames, num_bands, np.random.default_rng(seed))
    frames = torch.rand(num_frames, num_bands) + 1
    before = frames.clone()
    found = apply_masks(frames, masks, -1.0)
    for t in range(num_frames):
        for band in range(num_bands):
            hit = any(a <= t < a + w for a, w in masks.frames)
            hit |= any(a <= band < a + w for a, w in masks.bands)
            assert found[t, band] == (-1.0 if hit else before[t, band])
    assert torch.equal(frames, before)


def test_no_masks_change_nothing() -> None:
    frames = torch.rand(5, 4)
    assert torch.equal(apply_masks(frames, Masks()), frames)
