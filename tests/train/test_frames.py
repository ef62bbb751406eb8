from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence

from fake_features import FakeFeatures
from frame_factory import CLASSES, COUNT, QUICK, accuracy, make_folds, make_labels, make_view
from ser_features.heads.mlp import FrameShape
from ser_features.train.frames import FrameTrainer, build_head, run_frames
from ser_features.train.recipes import SuperbConfig
from ser_features.train.stack import IndexedFold, generators
from ser_features.train.superb import train_superb
from ser_features.views import FrameView

HEADS = ("mlp", "attentive", "statistics")


def _weights(trainer: FrameTrainer) -> list[dict[str, torch.Tensor]]:
    return [run.head.state_dict() for run in trainer.runs]


def _fit(view: FrameView, labels: np.ndarray, folds, seeds, config) -> FrameTrainer:
    trainer = FrameTrainer(view, labels, folds, seeds, config, torch.device("cpu"))
    trainer.fit(lambda done, total: None)
    return trainer


def _same(ours, theirs) -> None:
    for a, b in zip(ours, theirs, strict=True):
        assert (a.fold, a.seed, a.setting, a.grid, a.dev_curve) == (
            b.fold,
            b.seed,
            b.setting,
            b.grid,
            b.dev_curve,
        )
        np.testing.assert_array_equal(a.predictions, b.predictions)


@pytest.mark.parametrize("which", ["last", "all"])
def test_a_run_equals_a_plain_loop_over_padded_batches(which: str) -> None:
    labels, fold, seed = make_labels(), make_folds()[0], 3
    view = make_view(labels, which)
    config = replace(QUICK, epochs=20)
    trainer = _fit(view, labels, [fold], [seed], config)
    head, curve = _plain_loop(view, labels, fold, seed, config)
    for name, value in head.state_dict().items():
        torch.testing.assert_close(
            trainer.runs[0].head.state_dict()[name], value, atol=2e-5, rtol=0
        )
    assert [score for _, score in trainer.runs[0].best.curve] == pytest.approx(curve)
    assert trainer.runs[0].best.step == 1 + int(np.argmax(curve))


def _plain_loop(view, labels, fold, seed, config):
    """What a textbook would write: every epoch a shuffle, padded minibatches, dev at its end."""
    init, order = generators(fold.name, seed)
    shape = FrameShape(len(view.layers), view.dim, CLASSES, config.hidden)
    head = build_head(config.head, shape, int(init.integers(2**62)))
    optimiser = torch.optim.AdamW(
        head.parameters(), config.lrs[0], weight_decay=config.weight_decay, foreach=False
    )
    curve = []
    for _ in range(config.epochs):
        rows = order.permutation(np.sort(fold.train))
        for start in range(0, len(rows), config.batch):
            batch = rows[start : start + config.batch]
            optimiser.zero_grad()
            cross_entropy(_padded(head, view, batch), torch.from_numpy(labels[batch])).backward()
            optimiser.step()
        with torch.no_grad():
            predicted = _padded(head, view, fold.dev).argmax(1).numpy()
        curve.append((predicted == labels[fold.dev]).mean())
    return head, curve


def _padded(head, view, rows) -> torch.Tensor:
    parts = [torch.from_numpy(view.read(row)) for row in rows]
    whole = pad_sequence(parts, batch_first=True, padding_value=9.0)  # [B, T, L, D]
    counts = torch.tensor([len(part) for part in parts])
    mask = (torch.arange(whole.shape[1]) < counts[:, None]).float()[:, :, None]
    mixed = torch.einsum("l,btld->btd", head.layer_weights(), whole)
    hidden = torch.relu(head.project(mixed)) * mask
    return head.output(hidden.sum(1) / counts[:, None])


@pytest.mark.parametrize("head", HEADS)
def test_runs_trained_together_equal_each_alone_exactly(head: str) -> None:
    labels, folds, seeds = make_labels(), make_folds(), [0, 5]
    view = make_view(labels, "all")
    # hundreds of updates; several windows, and minibatches that span them
    config = replace(
        QUICK, head=head, lrs=(1e-3, 1e-2), window_bytes=40 * 200 * 2, epochs=15, batch=12
    )
    together = _fit(view, labels, folds, seeds, config)
    for run, weights in zip(together.runs, _weights(together), strict=True):
        alone_config = replace(config, lrs=(run.run.lr,))
        fold = folds[run.run.fold]
        alone = _fit(view, labels, [fold], [run.run.seed], alone_config)
        for name, value in _weights(alone)[0].items():
            assert torch.equal(value, weights[name])
        assert alone.runs[0].best.curve == run.best.curve


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("head", HEADS)
def test_streamed_equals_held_exactly(head: str, dtype: str) -> None:
    labels, folds = make_labels(), make_folds()
    view = make_view(labels, "all", dtype)
    total = int(view.num_frames.sum()) * view.frame_bytes
    window = total // 9
    held = replace(QUICK, head=head, window_bytes=window, epochs=6)
    outcomes = []
    for memory in (100 * total, total, total - 1, 2 * window):
        view._features.reads.clear()
        config = replace(held, memory_bytes=memory)
        outcomes.append(run_frames(view, labels, folds, [0], config))
        passes = len(view._features.reads) / COUNT
        assert passes == 1 if memory >= total else passes > 6
    for others in outcomes[1:]:
        _same(outcomes[0], others)


def test_windows_change_the_order_but_not_the_recipe() -> None:
    """Every epoch still takes each training utterance once, in minibatches of the same sizes."""
    labels, fold = make_labels(), make_folds()[0]
    view = make_view(labels)
    seen: list[tuple[int, ...]] = []
    config = replace(QUICK, window_bytes=2000, epochs=2, batch=32)
    trainer = FrameTrainer(view, labels, [fold], [0], config, torch.device("cpu"))
    run = trainer.runs[0]
    steps = 0
    accumulate, step = run._accumulate, run._optimiser.step

    def note(window, part, at, drawn, batch: int) -> None:
        seen.append((batch, *part[at].tolist()))
        accumulate(window, part, at, drawn, batch)

    def count() -> None:
        nonlocal steps
        steps += 1
        step()

    run._accumulate, run._optimiser.step = note, count
    trainer.fit(lambda done, total: None)
    rows = [row for _, *part in seen for row in part]
    size = len(fold.train)
    assert sorted(rows[:size]) == sorted(rows[size:]) == fold.train.tolist()
    assert steps == 2 * -(-size // 32)
    assert {batch for batch, *_ in seen} == {32, size % 32}


@pytest.mark.parametrize("which", ["last", "all"])
@pytest.mark.parametrize("head", HEADS)
def test_true_labels_are_learned_and_noise_labels_are_not(head: str, which: str) -> None:
    labels, folds = make_labels(), make_folds(4)
    view = make_view(labels, which)
    config = replace(QUICK, head=head, epochs=20)
    assert accuracy(run_frames(view, labels, folds, [0], config), labels) > 0.85
    noisy = accuracy(
        [
            outcome
            for fold in folds
            for outcome in run_frames(view, _noise(labels, fold), [fold], [0], config)
        ],
        labels,
    )
    assert noisy < 0.4


def _noise(labels: np.ndarray, fold: IndexedFold) -> np.ndarray:
    """Training and dev labels that say nothing of the true ones; test stays true."""
    noisy = labels.copy()
    rng = np.random.default_rng(9)
    for side in (fold.train, fold.dev):
        for label in range(CLASSES):
            rows = side[labels[side] == label]
            noisy[rows] = rng.permutation(np.arange(len(rows)) % CLASSES)
    return noisy


def test_a_signal_whose_mean_is_zero_is_learned_on_frames_and_not_on_their_mean() -> None:
    labels, folds = make_labels(), make_folds(4)
    rng = np.random.default_rng(2)
    axes = rng.normal(size=(CLASSES, 8))
    frames = {}
    for i, label in enumerate(labels):
        pairs = int(rng.integers(2, 6))
        half = 2 * axes[label] + 0.3 * rng.normal(size=(pairs, 8))
        frames[f"u{i:03d}"] = np.concatenate([half, -half])[:, None]  # [T, 1, D], mean 0
    features = FakeFeatures(frames)
    view = FrameView(features, features.ids)
    means = np.stack([value.mean(0) for value in features.data.values()])
    assert np.abs(means).max() < 1e-6
    for head in HEADS:
        config = replace(QUICK, head=head, epochs=30)
        assert accuracy(run_frames(view, labels, folds, [0], config), labels) > 0.95
    config = SuperbConfig(steps=300, lrs=(1e-2,), eval_every=100)
    assert accuracy(train_superb(means, labels, folds, [0], config), labels) < 0.45


def test_the_weighted_sum_finds_the_layer_that_tells() -> None:
    labels = make_labels()
    outcomes = run_frames(
        make_view(labels, "all"), labels, make_folds(), [0], replace(QUICK, epochs=40)
    )
    for outcome in outcomes:
        assert sum(outcome.layer_weights) == pytest.approx(1)
        assert outcome.layer_weights[1] > 0.6


def test_dev_chooses_rate_and_epoch_and_all_is_recorded() -> None:
    labels = make_labels()
    config = replace(QUICK, lrs=(1e-6, 1e-2), select_metric="uar")
    for outcome in run_frames(make_view(labels), labels, make_folds(), [0, 1], config):
        assert outcome.setting == {"lr": 1e-2}
        assert [entry["lr"] for entry in outcome.grid] == [1e-6, 1e-2]
        assert [epoch for epoch, _ in outcome.dev_curve] == list(range(1, 13))
        scores = [score for _, score in outcome.dev_curve]
        assert outcome.dev_score == max(scores)
        assert outcome.best_step == 1 + scores.index(max(scores))
        assert (outcome.num_train, outcome.num_dev) == (144, 48)
        assert outcome.seconds > 0


def test_test_predictions_are_those_of_the_chosen_epoch() -> None:
    labels, fold = make_labels(), make_folds()[0]
    view = make_view(labels)
    whole = run_frames(view, labels, [fold], [0], QUICK)[0]
    assert whole.best_step < QUICK.epochs
    short = replace(QUICK, epochs=whole.best_step, select="last")
    stopped = run_frames(view, labels, [fold], [0], short)[0]
    np.testing.assert_array_equal(whole.predictions, stopped.predictions)
    last = run_frames(view, labels, [fold], [0], replace(QUICK, select="last"))[0]
    assert last.best_step == QUICK.epochs
    assert last.dev_score == last.dev_curve[-1][1]


def test_test_labels_change_nothing_that_is_chosen() -> None:
    labels, fold = make_labels(), make_folds()[0]
    other = labels.copy()
    other[fold.test] = (labels[fold.test] + 1) % CLASSES
    view = make_view(labels)
    _same(run_frames(view, labels, [fold], [0], QUICK), run_frames(view, other, [fold], [0], QUICK))


def test_the_same_call_gives_the_same_outcome_and_seeds_differ() -> None:
    labels = make_labels()
    view = make_view(labels)
    first = run_frames(view, labels, make_folds(), [0, 1], QUICK)
    torch.manual_seed(99)
    _same(first, run_frames(view, labels, make_folds(), [0, 1], QUICK))
    assert first[0].dev_curve != first[1].dev_curve


def test_training_leaves_the_callers_random_state_alone() -> None:
    labels = make_labels()
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    run_frames(make_view(labels), labels, make_folds(1), [0], replace(QUICK, epochs=1))
    assert torch.equal(torch.rand(1), expected)


def test_progress_counts_epochs_over_runs() -> None:
    labels = make_labels()
    calls: list[tuple[int, int]] = []
    config = replace(QUICK, epochs=3)
    run_frames(
        make_view(labels),
        labels,
        make_folds(),
        [0],
        config,
        progress=lambda *call: calls.append(call),
    )
    assert calls == [(2, 6), (4, 6), (6, 6)]
