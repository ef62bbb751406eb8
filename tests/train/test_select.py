import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ser_features.metrics import score
from ser_features.train.recipes import SuperbConfig
from ser_features.train.select import Best, dev_score, first_best
from ser_features.train.stack import IndexedFold
from ser_features.train.superb import StackTrainer, train_superb


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


@pytest.mark.parametrize("select", ["dev", "last"])
def test_a_run_that_diverges_at_its_end_has_no_last_checkpoint(
    monkeypatch: pytest.MonkeyPatch, select: str
) -> None:
    rng, labels = np.random.default_rng(0), np.arange(30) % 2
    features = rng.standard_normal((30, 1, 4)).astype(np.float32)
    fold = IndexedFold("f", np.arange(0, 10), np.arange(10, 20), np.arange(20, 30))
    config = SuperbConfig(
        steps=20, batch=4, lrs=(1e-2, 1e-3), eval_every=10, hidden=4, select=select
    )
    calls = []

    def logits(self, run, side):
        """The first run tells all at first, and is lost in the end."""
        calls.append(run)
        said = np.eye(2)[labels[side]] if run == 0 else np.eye(2)[np.zeros(len(side), np.int64)]
        return torch.from_numpy(said * (np.nan if run == 0 and 1 in calls else 1.0))

    monkeypatch.setattr(StackTrainer, "_logits", logits)
    (outcome,) = train_superb(features, labels, [fold], [0], config)
    assert outcome.setting == {"lr": 1e-2 if select == "dev" else 1e-3}
    assert outcome.grid[0]["dev_score"] == (1.0 if select == "dev" else -1.0)
