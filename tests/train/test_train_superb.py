"""The stacked trainer against plain training, and what a grid of runs must and must not do."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from ser_features.errors import TrainError
from ser_features.heads.superb import HeadWeights, SuperbShape, initial_weights
from ser_features.metrics import score
from ser_features.records import Fold
from ser_features.train.recipes import LR_AUTO, SUPERB_RECIPES, SuperbConfig
from ser_features.train.stack import EpochStream, IndexedFold, generators, list_runs
from ser_features.train.superb import StackTrainer, TrainingData, train_superb

LAYERS, DIM, CLASSES = 3, 12, 3
FAST = SuperbConfig(steps=60, batch=8, micro_batch=4, lrs=(1e-2,), eval_every=20, hidden=16)
CPU = torch.device("cpu")


def toy(num: int = 90, noise: float = 1.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features whose middle layer alone tells the class."""
    rng = np.random.default_rng(seed)
    labels = np.arange(num) % CLASSES
    features = rng.standard_normal((num, LAYERS, DIM)).astype(np.float32) * noise
    features[:, 1, :CLASSES] += 3 * np.eye(CLASSES, dtype=np.float32)[labels]
    return features, labels


def folds_of(num: int = 90, count: int = 3) -> list[IndexedFold]:
    group = np.arange(num) // CLASSES % (count * 2)
    sides = [(group != 2 * i) & (group != 2 * i + 1) for i in range(count)]
    return [
        IndexedFold(f"f{i}", *map(np.flatnonzero, (sides[i], group == 2 * i, group == 2 * i + 1)))
        for i in range(count)
    ]


def stacked(
    features: np.ndarray, config: SuperbConfig, runs: slice, steps: int
) -> list[HeadWeights]:
    """Weights after ``steps`` updates of some runs of 3 folds x 2 seeds x the rates."""
    labels, folds = np.arange(len(features)) % CLASSES, folds_of(len(features))
    data = TrainingData(features, labels, folds, CPU)
    shape = SuperbShape(features.shape[1], DIM, CLASSES, config.hidden)
    chosen = list_runs(folds, [0, 1], config.lrs, config.weight_decays)[runs]
    trainer = StackTrainer(data, shape, chosen, config)
    trainer.advance(steps)
    return [trainer.stack.weights(i) for i in range(len(chosen))]


def plain(features: np.ndarray, config: SuperbConfig, number: int, steps: int) -> HeadWeights:
    """One run with torch's autograd, Adam and clip_grad_norm_, as s3prl writes it."""
    run = list_runs(folds_of(), [0, 1], config.lrs, config.weight_decays)[number]
    fold = folds_of()[run.fold]
    init, order = generators(fold.name, run.seed)
    shape = SuperbShape(features.shape[1], DIM, CLASSES, config.hidden)
    params = [nn.Parameter(torch.from_numpy(w)) for w in initial_weights(shape, init)]
    stream = EpochStream(fold.train, order, config.micro_batch, config.batch // config.micro_batch)
    adam = torch.optim.Adam(params, lr=run.lr, weight_decay=run.weight_decay)
    for index, weight in zip(*stream.take(steps), strict=True):
        adam.zero_grad()
        plain_loss(params, torch.from_numpy(features[index]), index, weight).backward()
        nn.utils.clip_grad_norm_(params, config.clip)
        adam.step()
    return HeadWeights(*(p.detach().numpy() for p in params))


def plain_loss(
    params: list[nn.Parameter], x: torch.Tensor, index: np.ndarray, weight: np.ndarray
) -> torch.Tensor:
    projector, bias, output, output_bias, scalars = params
    mixed = (scalars.softmax(0)[:, None] * x).sum(1) if len(scalars) else x[:, 0]
    logits = (mixed @ projector.T + bias) @ output.T + output_bias
    labels = torch.from_numpy(index % CLASSES)
    losses = nn.functional.cross_entropy(logits, labels, reduction="none")
    return (losses * torch.from_numpy(weight)).sum()


def assert_close(ours: HeadWeights, theirs: HeadWeights, atol: float) -> None:
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=atol)


@pytest.mark.parametrize("layers", [LAYERS, 1])
@pytest.mark.parametrize("number", [0, 9])
def test_a_stacked_run_equals_plain_training(number: int, layers: int) -> None:
    features = np.ascontiguousarray(toy()[0][:, :layers])
    config = replace(FAST, lrs=(1e-3, 1e-4))
    ours = stacked(features, config, slice(0, 12), 300)[number]
    assert_close(ours, plain(features, config, number, 300), atol=2e-5)


def test_penalised_runs_in_one_stack_equal_plain_training() -> None:
    features, _ = toy()
    config = replace(FAST, lrs=(1e-3, 1e-4), weight_decays=(0.0, 0.1))
    together = stacked(features, config, slice(0, 24), 300)
    for number in (0, 6, 17, 23):
        assert_close(together[number], plain(features, config, number, 300), atol=2e-5)
    assert np.abs(together[0].projector).sum() > 1.05 * np.abs(together[6].projector).sum()


def test_dev_chooses_the_penalty_and_every_pair_is_on_record() -> None:
    features, labels = toy()
    config = replace(FAST, lrs=(1e-3, 1e-4), weight_decays=(0.0, 0.1))
    outcome = train_superb(features, labels, folds_of(), [0], config)[0]
    pairs = [(entry["lr"], entry.get("weight_decay", 0.0)) for entry in outcome.grid]
    assert pairs == [(1e-3, 0.0), (1e-3, 0.1), (1e-4, 0.0), (1e-4, 0.1)]
    assert outcome.dev_score == max(entry["dev_score"] for entry in outcome.grid)


def test_a_run_does_not_depend_on_its_neighbours() -> None:
    features, _ = toy()
    config = replace(FAST, lrs=(1e-3, 1e-4))
    together = stacked(features, config, slice(0, 12), 400)
    for number in (0, 5, 6, 11):
        (alone,) = stacked(features, config, slice(number, number + 1), 400)
        assert_close(together[number], alone, atol=1e-5)
    assert abs(together[0].projector - together[1].projector).max() > 1e-3


def test_threads_do_not_matter() -> None:
    features, _ = toy()
    before = torch.get_num_threads()
    found = []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            found.append(stacked(features, FAST, slice(0, 6), 200))
    finally:
        torch.set_num_threads(before)
    for one, two in zip(*found, strict=True):
        assert_close(one, two, atol=1e-5)


def test_same_seed_same_numbers_and_folds_can_be_trained_apart() -> None:
    features, labels = toy(noise=2.0)
    folds = folds_of()
    whole = train_superb(features, labels, folds, [0, 1], FAST)
    again = train_superb(features, labels, folds, [0, 1], FAST)
    resumed = [
        outcome
        for fold in folds
        for seed in (0, 1)
        for outcome in train_superb(features, labels, [fold], [seed], FAST)
    ]
    for one, two, three in zip(whole, again, resumed, strict=True):
        assert (one.fold, one.seed) == (three.fold, three.seed)
        assert one.dev_curve == two.dev_curve
        np.testing.assert_array_equal(one.predictions, two.predictions)
        assert one.layer_weights == two.layer_weights
        np.testing.assert_array_equal(one.predictions, three.predictions)
        np.testing.assert_allclose(one.layer_weights, three.layer_weights, atol=1e-5)


def test_chunks_of_runs_give_what_one_stack_gives() -> None:
    features, labels = toy(noise=2.0)
    config = replace(FAST, lrs=(1e-2, 1e-3))
    whole = train_superb(features, labels, folds_of(), [0], config)
    for one, other in zip(
        whole,
        train_superb(features, labels, folds_of(), [0], replace(config, max_bytes=1)),
        strict=True,
    ):
        np.testing.assert_array_equal(one.predictions, other.predictions)
        assert one.setting == other.setting


def test_it_learns_and_finds_the_layer() -> None:
    features, labels = toy(num=300)
    config, folds = replace(FAST, steps=300), folds_of(300)
    outcomes = train_superb(features, labels, folds, [0], config)
    for fold, outcome in zip(folds, outcomes, strict=True):
        assert score(labels[fold.test], outcome.predictions, CLASSES).uar > 0.9
        assert np.argmax(outcome.layer_weights) == 1
        assert sum(outcome.layer_weights) == pytest.approx(1, abs=1e-5)


def test_scrambled_training_labels_bring_it_to_chance() -> None:
    features, labels = toy(num=900)
    folds = folds_of(900)
    hits = []
    for fold in folds:
        scrambled = labels.copy()
        for side in (fold.train, fold.dev):
            scrambled[side] = np.random.default_rng(1).permutation(labels[side])
        (outcome,) = train_superb(features, scrambled, [fold], [0], replace(FAST, steps=300))
        hits += (outcome.predictions == labels[fold.test]).tolist()
    # 450 test utterances, chance 1/3: three standard errors are 0.067
    assert np.mean(hits) == pytest.approx(1 / 3, abs=0.1)


def test_dev_chooses_the_rate_and_test_labels_play_no_part() -> None:
    features, labels = toy(noise=1.5)
    config = replace(FAST, lrs=(1e-7, 1e-2, 1e-6))
    folds = folds_of()
    other = labels.copy()
    for fold in folds[:1]:
        other[fold.test] = (other[fold.test] + 1) % CLASSES
    one = train_superb(features, labels, folds[:1], [0], config)[0]
    two = train_superb(features, other, folds[:1], [0], config)[0]
    assert one.setting == {"lr": 1e-2}
    assert [row["lr"] for row in one.grid] == [1e-7, 1e-2, 1e-6]
    assert one.dev_score == max(row["dev_score"] for row in one.grid)
    assert (one.grid, one.dev_curve) == (two.grid, two.dev_curve)
    np.testing.assert_array_equal(one.predictions, two.predictions)


def test_equal_dev_scores_take_the_first_rate_and_the_first_step() -> None:
    features, labels = toy(noise=0.01)
    config = replace(FAST, steps=400, lrs=(1e-2, 2e-2))
    outcome = train_superb(features, labels, folds_of()[:1], [0], config)[0]
    assert outcome.dev_score == 1
    assert outcome.setting == {"lr": 1e-2}
    assert outcome.best_step == next(step for step, s in outcome.dev_curve if s == 1)


def test_dev_curve_has_every_evaluation_and_the_last_step() -> None:
    features, labels = toy()
    outcome = train_superb(features, labels, folds_of(), [0], replace(FAST, steps=50))[0]
    assert [step for step, _ in outcome.dev_curve] == [20, 40, 50]


def test_outcome_becomes_a_fold_score() -> None:
    features, labels = toy()
    fold = folds_of()[0]
    outcome = train_superb(features, labels, [fold], [3], FAST)[0]
    named = Fold("f0", ("a",), ("b",), tuple(f"u{i}" for i in fold.test))
    record = outcome.to_fold_score(named)
    assert (record.fold, record.seed, record.test_ids) == ("f0", 3, named.test)
    assert record.predictions == tuple(outcome.predictions.tolist())
    assert (record.num_train, record.num_dev) == (len(fold.train), len(fold.dev))
    assert record.grid[0]["lr"] == 1e-2


def test_progress_reaches_the_total() -> None:
    features, labels = toy()
    seen: list[tuple[int, int]] = []
    train_superb(
        features,
        labels,
        folds_of(),
        [0],
        FAST,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen[-1] == (180, 180)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_recipes() -> None:
    superb = SUPERB_RECIPES["superb"].validate()
    assert (superb.steps, superb.batch, superb.micro_batch, superb.lrs) == (30_000, 32, 4, (1e-4,))
    assert (superb.eval_every, superb.clip, superb.select_metric) == (1_000, 1.0, "wa")
    assert LR_AUTO == (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7)
    assert SUPERB_RECIPES["quick"].validate().steps < superb.steps


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"steps": 0}, "steps must be above 0, found 0"),
        ({"batch": 6}, "batch 6 is not a multiple of micro_batch 4"),
        ({"lrs": ()}, "lrs must be distinct and above 0"),
        ({"lrs": (1e-3, 1e-3)}, "lrs must be distinct"),
        ({"weight_decays": (-1.0,)}, "weight decays must be distinct, 0 or more"),
        ({"select_metric": "f1"}, "select_metric must be one of wa, uar, weighted_f1, found 'f1'"),
    ],
)
def test_a_config_that_makes_no_sense_is_said(change: dict[str, object], said: str) -> None:
    features, labels = toy()
    with pytest.raises(TrainError, match=said):
        train_superb(features, labels, folds_of(), [0], replace(FAST, **change))


def broken(kind: str) -> tuple[np.ndarray, np.ndarray, list[IndexedFold], list[int]]:
    features, labels = toy()
    folds, seeds = folds_of(), [0]
    none = np.zeros(0, np.int64)
    match kind:
        case "nan":
            features[7, 1, 2] = np.nan
        case "float64":
            features = features.astype(np.float64)
        case "labels":
            labels = labels[:-1]
        case "one class":
            labels = np.zeros_like(labels)
        case "empty dev":
            folds[1] = replace(folds[1], dev=none)
        case "range":
            folds[1] = replace(folds[1], test=np.array([90]))
        case "twice":
            folds[1] = folds[0]
        case "seeds":
            seeds = [0, 0]
        case "nothing":
            folds = []
    return features, labels, folds, seeds


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("nan", "features of 1 of 90 utterances are not finite .first: row 7"),
        ("float64", r"found float64 \[90, 3, 12\]"),
        ("labels", r"labels must be int64 \[90\] and not negative, found int64 \[89\]"),
        ("one class", "same label: there is nothing to learn"),
        ("empty dev", "fold 'f1' has no dev utterances"),
        ("range", "fold 'f1': test rows go beyond 90 features"),
        ("twice", "every fold name must be there once"),
        ("seeds", "every seed must be there once"),
        ("nothing", "0 folds, 1 seeds"),
    ],
)
def test_what_cannot_be_trained_on_is_said(kind: str, said: str) -> None:
    with pytest.raises(TrainError, match=said):
        train_superb(*broken(kind), FAST)


def test_divergence_at_every_rate_is_said_and_at_one_is_left_out() -> None:
    features, labels = toy()
    features *= 1e37
    with pytest.raises(TrainError, match="fold 'f0': training diverged at every learning rate"):
        train_superb(features, labels, folds_of()[:1], [0], replace(FAST, lrs=(1.0, 0.5)))


@pytest.mark.gpu
def test_cuda_graph_equals_the_cpu() -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    features, labels = toy(noise=2.0)
    config = replace(FAST, steps=200, lrs=(1e-2, 1e-3))
    ours = train_superb(features, labels, folds_of(), [0, 1], config, device="cuda")
    for one, other in zip(
        ours, train_superb(features, labels, folds_of(), [0, 1], config), strict=True
    ):
        np.testing.assert_allclose(one.layer_weights, other.layer_weights, atol=1e-4)
        assert np.mean(one.predictions == other.predictions) > 0.95
