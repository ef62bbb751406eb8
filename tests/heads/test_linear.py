import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ser_features.errors import TrainError
from ser_features.heads.linear import fit_path


def _data(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.arange(90) % 3
    features = rng.normal(size=(90, 6)) * [1, 10, 100, 1, 1, 1] + 5
    features[:, 1] += 15 * labels
    return features.astype(np.float32), labels


def test_each_c_equals_scikit_learns_pipeline() -> None:
    features, labels = _data()
    test, _ = _data(1)
    grid = (1e-3, 1e-1, 10.0)
    for fit in fit_path(features, labels, [test], grid, 1000):
        model = make_pipeline(StandardScaler(), LogisticRegression(C=fit.c, max_iter=1000))
        expected = model.fit(features, labels).predict(test)
        assert (fit.predictions[0] == expected).mean() > 0.98  # other start, same optimum
        assert fit.converged


def test_only_the_training_side_sets_the_scale() -> None:
    features, labels = _data()
    test, _ = _data(1)
    whole = next(fit_path(features, labels, [test], (1.0,), 1000)).predictions[0]
    shifted = np.concatenate([test[:10], test[10:] * 1000])
    part = next(fit_path(features, labels, [shifted], (1.0,), 1000)).predictions[0]
    np.testing.assert_array_equal(whole[:10], part[:10])


def test_a_solver_that_stops_early_is_recorded() -> None:
    features, labels = _data()
    fit = next(fit_path(features, labels, [features], (1e4,), 1))
    assert not fit.converged


def test_one_class_is_refused() -> None:
    features, _ = _data()
    with pytest.raises(TrainError, match="one class only"):
        next(fit_path(features, np.zeros(90, np.int64), [features], (1.0,), 10))
