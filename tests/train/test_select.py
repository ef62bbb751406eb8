import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ser_features.metrics import score
from ser_features.train.select import Best, dev_score, first_best


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30))
def test_dev_scores_are_those_of_metrics(both: list[tuple[int, int]]) -> None:
    truth, predicted = np.array(both).T
    expected = score(truth, predicted, 4)
    assert dev_score(truth, predicted, 4, "wa") == pytest.approx(expected.wa)
    assert dev_score(truth, predicted, 4, "uar") == pytest.approx(expected.uar)


def test_the_first_of_equal_scores_wins() -> None:
    best = Best()
    improved = [best.improves(step, s) for step, s in ((1, 0.5), (2, 0.7), (3, 0.7), (4, 0.6))]
    assert improved == [True, True, False, False]
    assert (best.step, best.score) == (2, 0.7)
    assert [step for step, _ in best.curve] == [1, 2, 3, 4]
    assert first_best([0.1, 0.7, 0.7]) == 1


def test_a_dev_score_of_zero_is_a_candidate() -> None:
    assert Best().improves(1, 0.0)
