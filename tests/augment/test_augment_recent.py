"""Decoded recordings are kept up to a number of bytes, and are the same from any thread."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ser_features.augment.recent import Recent


@given(st.lists(st.integers(0, 9), max_size=40), st.integers(0, 100))
def test_what_was_asked_for_last_is_kept_up_to_its_bytes(asked, most):
    made = []

    def make(size):
        made.append(size)
        return np.full(size, size, np.float32)

    recent, kept = Recent(make, most), []  # kept: the model, the latest last
    for size in asked:
        known = size in kept
        before = len(made)
        np.testing.assert_array_equal(recent(size), np.full(size, size))
        assert len(made) == before + (not known)
        kept = [one for one in kept if one != size] + [size]
        while sum(4 * one for one in kept) > most:
            kept.pop(0)


def test_results_are_shared_and_cannot_be_written():
    recent = Recent(lambda size, fill: np.full(size, fill, np.float32), 1000)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda i: recent(5, fill=i % 3), range(60)))
    assert [one.tolist() for one in found] == [[i % 3] * 5 for i in range(60)]
    assert recent(5, fill=1) is recent(5, fill=1)
    with pytest.raises(ValueError, match="read-only"):
        found[0][0] = 1
