"""Strategies: their schedules, their gradients, and that a run in a stack is a run alone."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fake_features import FakeFeatures
from resnet_factory import thin_shape
from ser_features.errors import TrainError
from ser_features.heads.mlp import FrameShape
from ser_features.heads.superb import SuperbShape, SuperbStack, initial_weights
from ser_features.train.adversarial import FrameAdversary, StackAdversary
from ser_features.train.extras import Extras
from ser_features.train.frame_recipes import FrameConfig
from ser_features.train.frames import build_head, run_frames
from ser_features.train.recipes import SuperbConfig
from ser_features.train.resnet import build_network
from ser_features.train.stack import EpochStream, IndexedFold, StagedStream, StandIns
from ser_features.train.strategies import STRATEGIES, Strategy, parse_strategy, plan_stages
from ser_features.train.superb import train_superb
from ser_features.views import FrameView

NUM, LAYERS, DIM, CLASSES = 120, 3, 12, 3
CONFIG = SuperbConfig(
    steps=60, batch=16, micro_batch=4, lrs=(1e-2, 1e-3), eval_every=10, hidden=8, select="last"
)
ADDED = np.arange(NUM) % 4 == 0
LENGTHS = np.random.default_rng(5).permutation(NUM) + 1
LABELS = np.arange(NUM) % CLASSES


def folds_of() -> list[IndexedFold]:
    group = np.arange(NUM) // CLASSES % 5
    real = ~ADDED
    return [
        IndexedFold(
            f"f{i}",
            np.flatnonzero((group != i) & (group != i + 1) | ADDED),
            np.flatnonzero((group == i) & real),
            np.flatnonzero((group == i + 1) & real),
        )
        for i in (1, 3)
    ]


def toy(domain: float = 0.0) -> np.ndarray:
    """Features whose middle layer tells the class, and ``domain`` whether a row is added."""
    features = np.random.default_rng(0).standard_normal((NUM, LAYERS, DIM)).astype(np.float32)
    features[:, 1, :CLASSES] += 2 * np.eye(CLASSES, dtype=np.float32)[LABELS]
    features[:, :, -1] += domain * np.where(ADDED, 1, -1)[:, None]
    return features


def extras(name: str, **numbers: float) -> Extras:
    return Extras(ADDED, LENGTHS, replace(Strategy(name), **numbers))


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_stacked_run_is_the_run_alone(name: str) -> None:
    features, folds = toy(1.0), folds_of()
    together = train_superb(features, LABELS, folds, [0, 1], CONFIG, extras=extras(name))
    for outcome in together:
        fold = next(f for f in folds if f.name == outcome.fold)
        how = replace(CONFIG, lrs=(outcome.setting["lr"],))
        (alone,) = train_superb(features, LABELS, [fold], [outcome.seed], how, extras=extras(name))
        np.testing.assert_array_equal(alone.predictions, outcome.predictions)
        assert alone.dev_curve == outcome.dev_curve
        assert [s for s, _ in alone.domain_curve] == [s for s, _ in outcome.domain_curve]
        np.testing.assert_allclose(
            [a for _, a in alone.domain_curve], [a for _, a in outcome.domain_curve], atol=0.02
        )
        assert outcome.best_step == CONFIG.steps  # the last one
        assert outcome.schedule == alone.schedule


def test_transfer_trains_on_added_then_on_real_at_a_lower_rate() -> None:
    how = extras("transfer", share=0.25, factor=0.1)
    (outcome, _) = train_superb(toy(), LABELS, folds_of(), [0], CONFIG, extras=how)
    num_real = len(folds_of()[0].train) - ADDED.sum()
    assert outcome.schedule == (
        {"after": 0, "num_real": 0, "num_added": 30, "lr_factor": 1.0},
        {"after": 15, "num_real": num_real, "num_added": 0, "lr_factor": 0.1},
    )


def test_a_rate_of_nearly_zero_after_the_change_keeps_the_first_phase() -> None:
    """What the second phase learns follows from its rate: with none, the head knows added only."""
    features, folds = toy(), folds_of()
    swapped = np.where(ADDED, (LABELS + 1) % CLASSES, LABELS)  # added data teach other labels
    config = replace(CONFIG, steps=200, lrs=(1e-2,))
    hits = {}
    for factor in (1e-9, 1.0):
        how = extras("transfer", factor=factor)
        outcomes = train_superb(features, swapped, folds, [0], config, extras=how)
        hits[factor] = np.mean(
            [np.mean(o.predictions == LABELS[f.test]) for o, f in zip(outcomes, folds, strict=True)]
        )
    assert hits[1e-9] < 0.4 < 0.7 < hits[1.0]


@given(st.integers(2, 12), st.integers(0, 1000))
def test_curriculum_adds_every_row_once_short_to_long(stages: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    lengths, fold = rng.integers(1, 9, NUM), folds_of()[0]
    found = plan_stages(Strategy("curriculum", stages=stages), fold, ADDED, lengths)
    added = [set(stage.rows[ADDED[stage.rows]].tolist()) for stage in found]
    real = set(fold.train[~ADDED[fold.train]].tolist())
    assert (len(found), added[0]) == (stages, set())
    assert added[-1] == set(np.flatnonzero(ADDED).tolist())
    for before, after, stage in zip(added[:-1], added[1:], found[1:], strict=True):
        assert before <= after
        assert set(stage.rows.tolist()) - after == real
        if before and after - before:
            assert max(lengths[list(before)]) <= min(lengths[list(after - before)])
    assert [stage.begin for stage in found] == [i / stages for i in range(stages)]


@given(st.lists(st.integers(0, 9), min_size=1, max_size=4), st.lists(st.integers(1, 5), min_size=1))
def test_stages_begin_at_their_update_however_steps_are_taken(
    firsts: list[int], parts: list[int]
) -> None:
    def stream() -> StagedStream:
        rng = np.random.default_rng(0)
        starts = [0, *sorted(firsts)]
        rows = [np.arange(10 * i, 10 * i + 5) for i in range(len(starts))]
        return StagedStream(
            [(s, EpochStream(r, rng, 2, 2)) for s, r in zip(starts, rows, strict=True)]
        )

    whole, _ = stream().take(sum(parts))
    pieces = stream()
    taken = np.concatenate([pieces.take(count)[0] for count in parts])
    np.testing.assert_array_equal(whole, taken)
    for step, index in enumerate(whole):
        stage = sum(first <= step for first in firsts)
        assert set((index // 10).tolist()) == {stage}


@given(st.floats(0, 1), st.integers(0, 99))
def test_a_rate_replaces_that_share_by_copies_of_the_same_row(rate: float, seed: int) -> None:
    starts = np.array([0, 2, 2, 5])  # row 1 has no copies
    copies = StandIns(starts, np.array([10, 11, 20, 21, 22]))
    rows = np.random.default_rng(seed).integers(0, 3, 4000)
    drawn = copies.draw(rows, rate, np.random.default_rng(seed))
    changed = drawn != rows
    assert not changed[rows == 1].any()
    assert set(drawn[changed & (rows == 0)]) <= {10, 11}
    assert set(drawn[changed & (rows == 2)]) <= {20, 21, 22}
    if rate in (0, 1):
        assert (changed[rows != 1] == bool(rate)).all()
    assert changed[rows != 1].mean() == pytest.approx(rate, abs=0.06)


@pytest.mark.parametrize("layers", [LAYERS, 1])
def test_the_domain_steps_have_the_gradients_of_autograd(layers: int) -> None:
    """Both hand-written steps against torch on the same loss, in a stack of three runs."""
    features, shape = toy(0.5)[:, :layers], SuperbShape(layers, DIM, CLASSES, 8)
    stack = SuperbStack(shape, 3, torch.device("cpu"))
    rngs = [np.random.default_rng(i) for i in range(3)]
    for i, rng in enumerate(rngs):
        stack.load(i, initial_weights(shape, rng))
    stack.params[4].normal_(generator=torch.Generator().manual_seed(0))
    domains = torch.from_numpy(ADDED)
    adversary = StackAdversary(stack, domains, [1.0] * 3, rngs, 1.0, clip=1e9)
    index = torch.from_numpy(rngs[0].integers(0, NUM, (3, 16)))
    weight = torch.rand(3, 16, generator=torch.Generator().manual_seed(1)) / 16
    table = torch.from_numpy(np.ascontiguousarray(features)).view(-1, DIM)
    rows = index.unsqueeze(-1) * layers + torch.arange(layers)
    mixed, scalars = stack.mix(table, rows)
    adversary.learn(mixed.detach(), domains[index].float(), weight)
    adversary.reverse(mixed, scalars, domains[index].float(), weight)
    projector, bias, _, _, weights = (p.detach().clone().double() for p in stack.params)
    leaves = [projector, bias, weights, adversary.params.detach().clone().double()]
    for leaf in leaves:
        leaf.requires_grad_()
    picked = torch.from_numpy(features)[index].double()  # [R, B, L, D]
    share = weights.softmax(1) if layers > 1 else torch.ones(3, 1)
    z = (picked * share[:, None, :, None]).sum(2)
    hidden = torch.einsum("rbd,rhd->rbh", z, leaves[0]) + leaves[1].transpose(1, 2)
    logits = torch.einsum("rbh,rh->rb", hidden, leaves[3][:, :-1]) + leaves[3][:, -1:]
    loss = torch.nn.functional.binary_cross_entropy_with_logits(
        logits, domains[index].double(), weight=weight.double(), reduction="sum"
    )
    loss.backward()
    small = stack.views(adversary.fuser_grads[1])
    ours = [-adversary.fuser_grads[0], -small[0], -small[3], adversary.grads]
    for mine, leaf in zip(ours, leaves, strict=True):
        if leaf.numel() and (leaf is not leaves[2] or layers > 1):
            torch.testing.assert_close(mine.double(), leaf.grad, atol=1e-5, rtol=1e-4)
    assert not small[1].any()  # the emotion classifier takes no part
    assert not small[2].any()


@pytest.mark.parametrize("name", ["mlp", "attentive", "statistics"])
def test_the_reversed_step_of_a_frame_head_passes_gradcheck(name: str) -> None:
    head = build_head(name, FrameShape(2, 4, 3, 5), 0).double()
    generator = torch.Generator().manual_seed(0)
    frames = torch.randn(9, 2, 4, dtype=torch.float64, generator=generator)
    counts, domains = torch.tensor([4, 2, 3]), torch.tensor([True, False, True])
    parts = [(frames[:4], counts[:1], domains[:1]), (frames[4:], counts[1:], domains[1:])]
    check_reversed_step(head, (frames, counts, domains), parts, every=3)


@pytest.mark.parametrize("name", ["resnet34-copypaste", "resnet34-transfer"])
def test_the_reversed_step_of_a_resnet_passes_gradcheck(name: str) -> None:
    pooling = "attention" if name == "resnet34-copypaste" else "statistics"
    # normalisation is frozen: with that of the batch, the parts would matter
    network = build_network(thin_shape(name, 8, 3, pooling), 0).double().eval()
    generator = torch.Generator().manual_seed(0)
    frames = torch.randn(3, 12, 8, dtype=torch.float64, generator=generator)
    domains = torch.tensor([True, False, True])
    parts = [(frames[:1], None, domains[:1]), (frames[1:], None, domains[1:])]
    check_reversed_step(network, (frames, None, domains), parts, every=499)


def check_reversed_step(head: Any, whole: Any, parts: list[Any], every: int) -> None:
    """Minus the slope of the domain loss in every so many parameters; the sum over parts."""
    fuser = [p for key, p in head.named_parameters() if not key.startswith("output.")]
    make = lambda params, decay: torch.optim.AdamW(params, 1e-2, weight_decay=decay)  # noqa: E731
    adversary = FrameAdversary(head.embed, fuser, head.output, 1, 1.0, make)
    adversary.classifier.double()
    grads = list(adversary.reversed_gradients([whole]))
    for one, other in zip(grads, adversary.reversed_gradients(parts), strict=True):
        torch.testing.assert_close(one, other)
    *inputs, domains = whole

    def loss() -> float:
        with torch.no_grad():
            logits = adversary.classifier(head.embed(*inputs)).squeeze(1)
            wanted = domains.double()
            return float(torch.nn.functional.binary_cross_entropy_with_logits(logits, wanted))

    for param, grad in zip(fuser, grads, strict=True):
        flat = param.data.view(-1)
        for i in range(0, flat.numel(), every):
            flat[i] += 1e-6
            above = loss()
            flat[i] -= 2e-6
            slope = (above - loss()) / 2e-6
            flat[i] += 1e-6
            assert grad.view(-1)[i].item() == pytest.approx(-slope, abs=1e-6)


def test_a_planted_domain_is_found_and_then_forgotten() -> None:
    features = toy(domain=3.0)
    config = replace(CONFIG, steps=300, lrs=(1e-2,), eval_every=20)
    heard = {}
    for reversal in (0.0, 1.0):
        how = extras("adversarial", reversal=reversal)
        outcomes = train_superb(features, LABELS, folds_of(), [0, 1], config, extras=how)
        curves = np.array([[a for _, a in o.domain_curve] for o in outcomes])
        heard[reversal] = curves.mean(0)
        hits = [
            np.mean(o.predictions == LABELS[f.test])
            for o, f in zip(outcomes, np.repeat(np.array(folds_of(), object), 2), strict=True)
        ]
        assert np.mean(hits) > 0.7 - 0.2 * reversal  # emotion is still heard: chance is 0.33
    assert heard[0.0][-1] > 0.98  # found, and kept where nothing is reversed
    assert heard[1.0].max() > 0.7  # found
    assert heard[1.0][-5:].mean() < 0.65  # and forgotten: 0.5 is chance


def frame_view(domain: float) -> FrameView:
    rng = np.random.default_rng(3)
    frames = {}
    for i, label in enumerate(LABELS):
        values = rng.standard_normal((int(rng.integers(2, 6)), 1, DIM))
        values[:, 0, label] += 2
        values[:, 0, -1] += domain * (1 if ADDED[i] else -1)
        frames[f"u{i:03d}"] = values
    features = FakeFeatures(frames)
    return FrameView(features, features.ids)


FRAMES = FrameConfig(hidden=16, epochs=20, batch=24, lrs=(1e-2,), select="last")


@pytest.mark.parametrize("name", STRATEGIES)
def test_heads_on_frames_follow_the_same_schedules(name: str) -> None:
    folds, how = folds_of(), extras(name)
    outcomes = run_frames(frame_view(1.0), LABELS, folds, [0, 1], FRAMES, extras=how)
    for outcome in outcomes:
        fold = next(f for f in folds if f.name == outcome.fold)
        (alone,) = run_frames(frame_view(1.0), LABELS, [fold], [outcome.seed], FRAMES, extras=how)
        np.testing.assert_array_equal(alone.predictions, outcome.predictions)
        assert (alone.dev_curve, alone.domain_curve) == (outcome.dev_curve, outcome.domain_curve)
        assert outcome.schedule == how.schedule(how.stages(fold), FRAMES.epochs)
        assert outcome.best_step == FRAMES.epochs
        assert np.mean(outcome.predictions == LABELS[fold.test]) > 0.6


def test_heads_on_frames_find_and_forget_a_planted_domain() -> None:
    heard = {}
    for reversal in (0.0, 1.0):
        how = extras("adversarial", reversal=reversal)
        config = replace(FRAMES, epochs=40)
        outcomes = run_frames(frame_view(2.0), LABELS, folds_of(), [0], config, extras=how)
        heard[reversal] = np.mean([[a for _, a in o.domain_curve] for o in outcomes], axis=0)
    assert heard[0.0][-1] > 0.95
    assert heard[1.0][-20:].mean() < 0.65


def test_copies_stand_in_for_frames_too() -> None:
    """Added rows are copies of no use; at rate 1 the head never sees a clean row."""
    fold = folds_of()[0]
    real = fold.train[~ADDED[fold.train]]
    starts = np.searchsorted(real, np.arange(NUM + 1))
    wrong = np.flatnonzero(ADDED)
    stand_ins = StandIns(starts, np.resize(wrong, len(real)))
    only = replace(fold, train=real, copies=stand_ins)
    labels = np.where(ADDED, 0, LABELS)
    how = Extras(ADDED, LENGTHS, rate=1.0)
    (outcome,) = run_frames(frame_view(0), labels, [only], [0], FRAMES, extras=how)
    assert set(outcome.predictions.tolist()) == {0}
    (plain,) = run_frames(frame_view(0), labels, [only], [0], FRAMES)
    assert len(set(plain.predictions.tolist())) == CLASSES
    longer = replace(CONFIG, steps=300, lrs=(1e-2,))
    (stacked,) = train_superb(toy(), labels, [only], [0], longer, extras=how)
    assert set(stacked.predictions.tolist()) == {0}


def test_late_evaluations_are_those_of_the_last_fifth() -> None:
    how = replace(extras("mix"), late=True)
    outcome = train_superb(toy(), LABELS, folds_of(), [0], CONFIG, extras=how)[0]
    assert [step for step, _ in outcome.late] == [50, 60]
    np.testing.assert_array_equal(outcome.late[-1][1], outcome.predictions)
    frames = run_frames(frame_view(0), LABELS, folds_of(), [0], FRAMES, extras=how)[0]
    assert [epoch for epoch, _ in frames.late] == [17, 18, 19, 20]
    np.testing.assert_array_equal(frames.late[-1][1], frames.predictions)


def test_a_fold_without_other_or_real_data_is_named() -> None:
    fold = folds_of()[0]
    with pytest.raises(TrainError, match="fold 'f1' has no added data to train on with transfer"):
        plan_stages(Strategy("transfer"), fold, np.zeros(NUM, bool), LENGTHS)
    with pytest.raises(TrainError, match="no real data"):
        plan_stages(Strategy("mix"), fold, np.ones(NUM, bool), LENGTHS)


def test_strategies_are_read_as_they_are_written() -> None:
    for text in ("mix", "adversarial:reversal=0.5", "transfer:factor=0.2,share=0.4"):
        assert parse_strategy(text).text == text
    assert parse_strategy("curriculum").stages == 10
