"""Pooling counts an utterance's own frames only, and equals the plain formulas."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from ser_features.extract.pooling import _pool_each, _pool_padded, pool, ragged_frames


@given(
    st.lists(st.integers(1, 12), min_size=1, max_size=5),
    st.integers(1, 3),
    st.integers(0, 2**31),
)
def test_pooling_equals_the_plain_formulas_whatever_lies_in_the_padding(counts, layers, seed):
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(layers, len(counts), max(counts) + 2, 8, generator=generator) * 3 + 1
    for b, n in enumerate(counts):
        hidden[:, b, n:] = float("nan")
    pooled = pool(hidden, counts)
    for b, n in enumerate(counts):
        frames = hidden[:, b, :n].double().numpy()  # [L, n, D]
        centred = frames - frames.mean(-1, keepdims=True)
        normed = centred / np.sqrt(frames.var(-1, keepdims=True) + 1e-5)
        np.testing.assert_allclose(pooled.mean[b], frames.mean(1), atol=2e-6)
        np.testing.assert_allclose(pooled.std[b], frames.std(1), atol=5e-6)
        np.testing.assert_allclose(pooled.mean_layernorm[b], normed.mean(1), atol=5e-6)


def test_ragged_frames_are_the_utterances_one_after_another():
    hidden = torch.arange(2 * 2 * 3 * 4.0).reshape(2, 2, 3, 4)  # [L, B, T, D]
    joined = ragged_frames(hidden, [3, 1])
    assert joined.shape == (4, 2, 4)
    np.testing.assert_array_equal(joined[:3, 1], hidden[1, 0].numpy())
    np.testing.assert_array_equal(joined[3, 0], hidden[0, 1, 0].numpy())


def test_both_ways_of_pooling_agree():
    torch.manual_seed(0)
    hidden = 3 + torch.randn(4, 3, 50, 32)
    counts = (50, 1, 17)
    hidden[:, 1, 1:] = hidden[:, 2, 17:] = float("nan")
    for got, want in zip(_pool_each(hidden, counts), _pool_padded(hidden, counts), strict=True):
        assert got.shape == (3, 4, 32)
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)
