import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score, recall_score

from ser_features.errors import SerfeatError
from ser_features.metrics import score

CLASSES = 4
pairs = st.lists(
    st.tuples(st.integers(0, CLASSES - 1), st.integers(0, CLASSES - 1)), min_size=1, max_size=60
)


def split(both: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    array = np.array(both)
    return array[:, 0], array[:, 1]


@given(pairs)
def test_equals_scikit_learn_over_the_classes_present(both: list[tuple[int, int]]) -> None:
    truth, predicted = split(both)
    present = sorted(set(truth.tolist()))
    scores = score(truth, predicted, CLASSES)

    def over_present(metric, average):  # type: ignore[no-untyped-def]
        return metric(truth, predicted, labels=present, average=average, zero_division=0)

    assert scores.wa == pytest.approx(accuracy_score(truth, predicted))
    assert scores.uar == pytest.approx(over_present(recall_score, "macro"))
    assert scores.macro_f1 == pytest.approx(over_present(f1_score, "macro"))
    assert scores.weighted_f1 == pytest.approx(over_present(f1_score, "weighted"))


@given(pairs, st.permutations(range(CLASSES)))
def test_renaming_classes_changes_no_score(both: list[tuple[int, int]], names: list[int]) -> None:
    truth, predicted = split(both)
    renamed = np.array(names)
    first = score(truth, predicted, CLASSES)
    second = score(renamed[truth], renamed[predicted], CLASSES)
    assert second.uar == pytest.approx(first.uar)
    assert second.weighted_f1 == pytest.approx(first.weighted_f1)
    assert [second.recall[names[c]] for c in range(CLASSES)] == list(first.recall)


@given(pairs)
def test_bounds_and_counts(both: list[tuple[int, int]]) -> None:
    truth, predicted = split(both)
    scores = score(truth, predicted, CLASSES)
    assert scores.num_utterances == len(both)
    assert all(0 <= v <= 1 for v in (scores.uar, scores.wa, scores.macro_f1, scores.weighted_f1))
    assert (scores.uar == 1) == bool((truth == predicted).all())


def test_absent_class_enters_no_mean_but_predicting_it_costs() -> None:
    scores = score([0, 0, 1, 1], [0, 2, 1, 1], num_classes=3)
    assert scores.recall == (0.5, 1.0, None)
    assert scores.uar == 0.75
    assert scores.confusion == ((1, 0, 1), (0, 2, 0), (0, 0, 0))
    assert scores.macro_f1 == pytest.approx((2 / 3 + 1) / 2)
    assert scores.to_json()["recall"] == [0.5, 1.0, None]


@pytest.mark.parametrize(
    ("truth", "predicted", "said"),
    [
        ([], [], "empty test side"),
        ([0, 1], [0], "1 predictions against 2 true labels"),
        ([0, 3], [0, 1], "truth holds label index 3, expected 0…2"),
        ([0, 1], [0, -1], "predictions holds label index -1"),
        ([0.5, 1.0], [0, 1], "flat list of label indices, found float64"),
    ],
)
def test_bad_input_is_named(truth: list[int], predicted: list[int], said: str) -> None:
    with pytest.raises(SerfeatError, match=said):
        score(truth, predicted, num_classes=3)
