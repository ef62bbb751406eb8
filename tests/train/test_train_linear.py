import numpy as np
import pytest

from fake_features import FakeFeatures
from ser_features.errors import TrainError
from ser_features.train.frame_recipes import LinearConfig
from ser_features.train.linear import best_layers, run_layers, run_linear
from ser_features.train.stack import IndexedFold
from ser_features.views import PooledView

CLASSES = 4
COUNT = 240


def _labels() -> np.ndarray:
    return np.random.default_rng(0).permutation(np.arange(COUNT) % CLASSES)


def _view(labels: np.ndarray, informative: int = 1) -> PooledView:
    """Three layers; one of them tells the class."""
    rng = np.random.default_rng(1)
    centres = rng.normal(size=(CLASSES, 6)) * 2
    frames = {}
    for i, label in enumerate(labels):
        values = rng.normal(size=(3, 3, 6))
        values[:, informative] += centres[label]
        frames[f"u{i:03d}"] = values
    features = FakeFeatures(frames)
    return PooledView(features, features.ids)


def _folds() -> list[IndexedFold]:
    rows = np.arange(COUNT)
    return [
        IndexedFold(f"f{k}", rows[rows % 5 > 1], rows[rows % 5 == k], rows[rows % 5 == 1 - k])
        for k in range(2)
    ]


def _accuracy(outcomes, labels: np.ndarray) -> float:
    folds = {fold.name: fold for fold in _folds()}
    hits = [(each.predictions == labels[folds[each.fold].test]).mean() for each in outcomes]
    return float(np.mean(hits))


def test_the_informative_layer_is_learned_and_the_others_are_not() -> None:
    labels = _labels()
    view = _view(labels)
    accuracy = {
        which: _accuracy(
            run_linear(view, labels, _folds(), [0], LinearConfig(layers=which)), labels
        )
        for which in ("0", "1", "last", "all")
    }
    assert accuracy["1"] > 0.9
    assert accuracy["all"] > 0.8
    assert accuracy["0"] < 0.45
    assert accuracy["last"] < 0.45


def test_noise_labels_bring_linear_and_layers_to_chance() -> None:
    labels = _labels()
    view = _view(labels)
    noisy = labels.copy()
    for fold in _folds()[:1]:
        for side in (fold.train, fold.dev):
            for label in range(CLASSES):
                rows = side[labels[side] == label]
                noisy[rows] = np.random.default_rng(label).permutation(
                    np.arange(len(rows)) % CLASSES
                )
    fold = _folds()[:1]
    for run in (run_linear, lambda *args: best_layers(run_layers(*args))):
        config = LinearConfig(layers="all")
        assert _accuracy(run(view, labels, fold, [0], config), labels) > 0.8
        assert _accuracy(run(view, noisy, fold, [0], config), labels) < 0.45


def test_the_curve_has_a_point_for_every_layer_and_dev_chooses_the_one_that_counts() -> None:
    labels = _labels()
    outcomes = run_layers(_view(labels), labels, _folds(), [0, 3], LinearConfig(layers="all"))
    found = [(each.setting["layer"], each.fold, each.seed) for each in outcomes]
    assert found == [(la, f, s) for la in range(3) for f in ("f0", "f1") for s in (0, 3)]
    chosen = best_layers(outcomes)
    assert [(each.fold, each.seed) for each in chosen] == [
        (f, s) for f in ("f0", "f1") for s in (0, 3)
    ]
    for each in chosen:
        # "layer" alone would make the headline row a point of the curve
        assert each.setting.keys() == {"chosen_layer", "C"}
        assert each.setting["chosen_layer"] == 1
        assert [entry["layer"] for entry in each.grid] == [0, 1, 2]
        assert each.dev_score == max(entry["dev_score"] for entry in each.grid)
        point = next(
            o for o in outcomes if (o.setting["layer"], o.fold, o.seed) == (1, each.fold, each.seed)
        )
        np.testing.assert_array_equal(each.predictions, point.predictions)


def test_a_point_of_the_curve_equals_linear_on_that_layer() -> None:
    labels = _labels()
    view = _view(labels)
    curve = run_layers(view, labels, _folds(), [0], LinearConfig(layers="all"))
    alone = run_linear(view, labels, _folds(), [0], LinearConfig(layers=2))
    for ours, theirs in zip([o for o in curve if o.setting["layer"] == 2], alone, strict=True):
        np.testing.assert_array_equal(ours.predictions, theirs.predictions)
        assert (ours.dev_score, ours.grid) == (theirs.dev_score, theirs.grid)


def test_layers_is_never_chosen_on_test() -> None:
    """Layer 0 tells the class of the test side only, layer 1 of train and dev."""
    labels = _labels()
    fold = _folds()[0]
    view = _view(labels)
    test_only = _view(labels, informative=0)
    for row in fold.test:
        key = view.ids[row]
        view.features.data[key] = test_only.features.data[key]
    outcomes = run_layers(view, labels, [fold], [0], LinearConfig(layers="all"))
    assert best_layers(outcomes)[0].setting["chosen_layer"] == 1


def test_every_c_is_recorded_and_the_smallest_of_equals_is_chosen() -> None:
    labels = _labels()
    outcome = run_linear(_view(labels), labels, _folds(), [0], LinearConfig(layers=1))[0]
    assert [entry["C"] for entry in outcome.grid] == list(LinearConfig().grid)
    best = max(entry["dev_score"] for entry in outcome.grid)
    first = next(entry["C"] for entry in outcome.grid if entry["dev_score"] == best)
    assert outcome.setting == {"C": first}
    assert outcome.dev_score == best


def test_seeds_of_a_deterministic_head_agree() -> None:
    labels = _labels()
    calls: list[tuple[int, int]] = []
    outcomes = run_linear(
        _view(labels),
        labels,
        _folds(),
        [0, 1],
        LinearConfig(),
        progress=lambda done, total: calls.append((done, total)),
    )
    assert calls == [(1, 2), (2, 2)]
    for a, b in zip(outcomes[::2], outcomes[1::2], strict=True):
        assert (a.seed, b.seed, a.fold) == (0, 1, b.fold)
        np.testing.assert_array_equal(a.predictions, b.predictions)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"grid": ()}, "grid must rise"),
        ({"grid": (1.0, 0.1)}, "grid must rise"),
        ({"grid": (0.0, 0.1)}, "grid must rise"),
        ({"max_iter": 0}, "max_iter must be above 0"),
        ({"select_metric": "f1"}, "select_metric must be one of wa, uar, weighted_f1, found 'f1'"),
    ],
)
def test_a_senseless_config_is_refused(change: dict, message: str) -> None:
    with pytest.raises(TrainError, match=message):
        LinearConfig(**change).validate()
