"""Running the scikit-learn heads over folds: ``linear``, and ``layers`` for the curve over layers.

Both are deterministic: every seed of a fold has the same outcome, computed once.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from ser_features.heads.layers import fit_each_layer
from ser_features.heads.linear import Floats, Indices, LinearFit, fit_path
from ser_features.records import Json
from ser_features.train.checks import check_features, check_folds
from ser_features.train.frame_recipes import LinearConfig
from ser_features.train.select import dev_score, first_best
from ser_features.train.stack import IndexedFold
from ser_features.train.superb import Progress, RunOutcome
from ser_features.views import PooledView, resolve_layers


def run_linear(
    view: PooledView,
    labels: Indices,
    folds: Sequence[IndexedFold],
    seeds: Sequence[int],
    config: LinearConfig,
    *,
    device: str = "cpu",
    progress: Progress | None = None,
) -> list[RunOutcome]:
    """Logistic regression on the chosen layers joined; one outcome a fold and seed, folds first.

    ``labels`` [N] are class indices, parallel to ``view.ids``. ``grid`` of an outcome holds every C
    with its dev score. ``device`` is not used. Raises TrainError for features or folds that
    cannot be trained on.
    """
    features = _load(view, labels, folds, seeds, config)
    joined = features.reshape(len(features), -1)  # [N, L' * D]
    outcomes: list[RunOutcome] = []
    for done, fold in enumerate(folds, start=1):
        started = time.perf_counter()
        others = [joined[fold.dev], joined[fold.test]]
        train, classes = joined[fold.train], labels[fold.train]
        fits = tuple(fit_path(train, classes, others, config.grid, config.max_iter))
        outcome = _select(fold, labels, fits, config)
        outcomes += _for_seeds(outcome, seeds, started)
        if progress is not None:
            progress(done, len(folds))
    return outcomes


def run_layers(
    view: PooledView,
    labels: Indices,
    folds: Sequence[IndexedFold],
    seeds: Sequence[int],
    config: LinearConfig,
    *,
    device: str = "cpu",
    progress: Progress | None = None,
) -> list[RunOutcome]:
    """The same on every layer by itself: one outcome a layer, fold and seed, layers first.

    ``setting["layer"]`` is the layer. These are points of a curve, each with its own test
    predictions; which of them is best on test is no result. ``best_layers`` gives the one that
    counts.
    """
    features = _load(view, labels, folds, seeds, config)
    numbers = resolve_layers(config.layers, view.num_layers)
    curve: dict[int, list[RunOutcome]] = {layer: [] for layer in numbers}
    done = 0
    for fold in folds:
        for layer, outcome in zip(
            numbers, _each_layer(features, labels, fold, config), strict=True
        ):
            setting = {"layer": layer, **outcome.setting}
            curve[layer] += [replace(outcome, setting=setting, seed=seed) for seed in seeds]
            done += 1
            if progress is not None:
                progress(done, len(folds) * len(numbers))
    return [outcome for layer in numbers for outcome in curve[layer]]


def best_layers(outcomes: Sequence[RunOutcome]) -> list[RunOutcome]:
    """Of ``run_layers``'s outcomes the layer that dev chose, one a fold and seed, folds first.

    ``setting["chosen_layer"]`` is the layer (first of equals), ``grid`` every layer with its C and
    dev score, ``seconds`` the time of all layers.
    """
    groups: dict[tuple[str, int], list[RunOutcome]] = {}
    for outcome in outcomes:
        groups.setdefault((outcome.fold, outcome.seed), []).append(outcome)
    return [_best_layer(group) for group in groups.values()]


def _best_layer(group: Sequence[RunOutcome]) -> RunOutcome:
    won = group[first_best([each.dev_score for each in group])]
    setting = {"chosen_layer": won.setting["layer"], "C": won.setting["C"]}
    grid = tuple({**each.setting, "dev_score": each.dev_score} for each in group)
    seconds = sum(each.seconds for each in group)
    return replace(won, setting=setting, grid=grid, seconds=seconds)


def _load(
    view: PooledView,
    labels: Indices,
    folds: Sequence[IndexedFold],
    seeds: Sequence[int],
    config: LinearConfig,
) -> Floats:
    config.validate()
    features = view.load(config.layers)
    check_features(features, labels)
    check_folds(folds, seeds, len(labels))
    return features


def _each_layer(
    features: Floats, labels: Indices, fold: IndexedFold, config: LinearConfig
) -> Iterator[RunOutcome]:
    others = [features[fold.dev], features[fold.test]]
    train, classes = features[fold.train], labels[fold.train]
    started = time.perf_counter()
    for fits in fit_each_layer(train, classes, others, config.grid, config.max_iter):
        yield from _for_seeds(_select(fold, labels, fits, config), (0,), started)
        started = time.perf_counter()


def _select(
    fold: IndexedFold, labels: Indices, fits: Sequence[LinearFit], config: LinearConfig
) -> RunOutcome:
    """The outcome of the C with the best dev score: the smallest of equals."""
    truth, classes = labels[fold.dev], int(labels.max()) + 1
    scores = [dev_score(truth, fit.predictions[0], classes, config.select_metric) for fit in fits]
    won = first_best(scores)
    grid: tuple[dict[str, Json], ...] = tuple(
        {"C": fit.c, "dev_score": score, "converged": fit.converged}
        for fit, score in zip(fits, scores, strict=True)
    )
    return RunOutcome(
        fold=fold.name,
        seed=0,
        predictions=np.asarray(fits[won].predictions[1], np.int64),
        num_train=len(fold.train),
        num_dev=len(fold.dev),
        best_step=0,
        dev_score=scores[won],
        setting={"C": fits[won].c},
        grid=grid,
        dev_curve=(),
        layer_weights=(),
        seconds=0.0,
    )


def _for_seeds(outcome: RunOutcome, seeds: Sequence[int], started: float) -> list[RunOutcome]:
    """The outcome under every seed, each with its share of the time."""
    seconds = (time.perf_counter() - started) / len(seeds)
    return [replace(outcome, seed=seed, seconds=seconds) for seed in seeds]
