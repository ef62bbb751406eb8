from dataclasses import replace

import numpy as np
import pytest
import torch

from fake_features import FakeFeatures
from resnet_factory import (
    BANDS,
    COUNT,
    FOLD,
    QUICK,
    planted_labels,
    planted_view,
    started,
)
from ser_features.errors import TrainError
from ser_features.train import resnet
from ser_features.train.chunks import Chunk, draw_epoch
from ser_features.train.extras import no_extras
from ser_features.train.resnet import run_resnet
from ser_features.train.resnet_recipes import (
    ResNetOptions,
    resnet_config,
)
from ser_features.train.specaugment import Masks
from ser_features.train.spectrograms import Spectrograms, normalized
from ser_features.train.strategies import Strategy
from ser_features.views import FrameView

pytestmark = pytest.mark.usefixtures("thin_resnets")


def _same(ours, theirs) -> None:
    for a, b in zip(ours, theirs, strict=True):
        assert (a.fold, a.seed, a.setting, a.grid, a.dev_curve) == (
            b.fold, b.seed, b.setting, b.grid, b.dev_curve
        )  # fmt: skip
        np.testing.assert_array_equal(a.predictions, b.predictions)


@pytest.mark.parametrize("head", ["resnet34-copypaste", "resnet34-transfer"])
def test_a_planted_class_is_learned_and_all_is_recorded(head: str) -> None:
    config = replace(QUICK, head=head, epochs=12, batch=5, lrs=(1e-9, 3e-3))
    (outcome,) = run_resnet(planted_view(), planted_labels(), [FOLD], [0], config)
    assert (outcome.predictions == planted_labels()[FOLD.test]).all()
    assert outcome.setting == {"lr": 3e-3}
    assert [entry["lr"] for entry in outcome.grid] == [1e-9, 3e-3]
    assert [epoch for epoch, _ in outcome.dev_curve] == list(range(1, 13))
    assert outcome.dev_score == max(score for _, score in outcome.dev_curve)
    assert (outcome.num_train, outcome.num_dev) == (20, 8)


def test_the_same_call_gives_the_same_outcome_alone_or_with_others() -> None:
    config = replace(QUICK, spec_augment="conservative", epochs=3, batch=5)
    other = replace(FOLD, name="g", train=FOLD.train[::-1].copy())
    both = run_resnet(planted_view(), planted_labels(), [other, FOLD], [3, 1], config)
    torch.manual_seed(99)
    alone = run_resnet(planted_view(), planted_labels(), [FOLD], [1], config)
    _same([both[3]], alone)
    assert alone[0].dev_curve != both[2].dev_curve


def test_a_seed_decides_every_weight() -> None:
    config = replace(QUICK, spec_augment="aggressive", lrs=(1e-3,))
    states = []
    for seed in (0, 0, 1):
        run = started(config, seed=seed)
        run.train_epoch(1)
        states.append(run.network.state_dict())
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    assert not torch.equal(states[0]["body.conv.weight"], states[2]["body.conv.weight"])


def test_every_rate_follows_the_schedule() -> None:
    strategy = Strategy("adversarial", reversal=0.1)
    how = replace(no_extras(COUNT), added=np.arange(COUNT) % 3 == 0, strategy=strategy)
    run = started(replace(QUICK, schedule="halving", lrs=(1e-3,)), extras=how)
    rivals = run._adversary
    for epoch, factor in ((8, 1.0), (9, 0.5), (11, 0.25)):
        run.train_epoch(epoch)
        optimisers = (run._optimiser, rivals._optimiser, rivals._reverse)
        rates = [each.param_groups[0]["lr"] for each in optimisers]
        assert rates == pytest.approx([1e-3 * factor, 1e-3 * factor, 1e-4 * factor])


def test_frames_that_do_not_fit_are_read_again_and_nothing_changes() -> None:
    held = run_resnet(
        planted_view("float16"), planted_labels(), [FOLD], [0], replace(QUICK, epochs=2)
    )
    view = planted_view("float16")
    config = replace(QUICK, epochs=2, memory_bytes=1)
    _same(held, run_resnet(view, planted_labels(), [FOLD], [0], config))
    assert len(view._features.reads) > COUNT


def test_test_predictions_are_those_of_the_chosen_epoch() -> None:
    run = started(replace(QUICK, epochs=4))
    states = [{k: v.clone() for k, v in run.network.state_dict().items()} for _ in run.fit()]
    chosen = states[run.best.step - 1]
    assert all(torch.equal(v, chosen[k]) for k, v in run.network.state_dict().items())
    last = started(replace(QUICK, epochs=4, select="last"))
    assert list(last.fit()) == [1, 2, 3, 4]
    assert last.best.step == 4


def test_tests_in_batches_equal_tests_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    run = started(QUICK)
    run.train_epoch(1)
    together = run.predict(np.arange(COUNT))
    monkeypatch.setitem(resnet.TEST_FRAMES, "cpu", 1)
    np.testing.assert_array_equal(together, run.predict(np.arange(COUNT)))


def test_micro_batches_sum_to_the_gradient_of_the_batch() -> None:
    """With normalisation frozen, where the parts do not matter, and chunks that need no padding."""
    grads = []
    for size in (12, 4):
        config = replace(QUICK, micro_batch=size, chunks=(16,), optimiser="sgd", lrs=(1e-2,))
        run = started(config)
        run.network.eval()
        before = {k: v.clone() for k, v in run.network.named_parameters()}
        run._update(draw_epoch(
            FOLD.train, run._frames.num_frames, BANDS, config, np.random.default_rng(0)
        )[0])  # fmt: skip
        grads.append({k: v.detach() - before[k] for k, v in run.network.named_parameters()})
    for name, value in grads[0].items():
        torch.testing.assert_close(value, grads[1][name], atol=1e-7, rtol=1e-4)


def test_chunks_are_masked_and_repeated_as_drawn() -> None:
    view = planted_view()
    frames = Spectrograms(view, np.arange(COUNT), replace(QUICK, frame_norm="none"))
    whole = torch.from_numpy(view.read(3)[:, 0])
    (joined,) = frames.chunks([Chunk(3, 4, 6, pasted=Chunk(5, 1, 3))], 10)
    other = torch.from_numpy(view.read(5)[:, 0])
    torch.testing.assert_close(joined, torch.cat([whole[4:10], other[1:4], whole[4:5]]))
    masks = Masks(bands=((0, 2),), frames=((5, 1),))
    plain, hidden = frames.chunks([Chunk(3, 4, 6), Chunk(3, 4, 6, masks)], 10)
    torch.testing.assert_close(plain, whole[[4, 5, 6, 7, 8, 9, 4, 5, 6, 7]])
    assert (hidden[:, :2] == 0).all()
    assert (hidden[[1, 7]] == 0).all()
    torch.testing.assert_close(hidden[0, 2:], whole[4, 2:])


def test_chunks_are_mixed_and_then_hidden() -> None:
    view = planted_view()
    frames = Spectrograms(view, np.arange(COUNT), replace(QUICK, frame_norm="none"))
    one, two = (torch.from_numpy(view.read(row)[:, 0]) for row in (3, 5))
    mixed = Chunk(3, 4, 6, mixed=Chunk(5, 1, 4), share=0.75)
    cycled = two[[1, 2, 3, 4, 1, 2]]
    (found,) = frames.chunks([mixed], 6)
    torch.testing.assert_close(found, 0.75 * one[4:10] + 0.25 * cycled)
    hidden = replace(mixed, hidden=Masks(bands=((2, 3),), frames=((1, 2),)))
    (masked,) = frames.chunks([hidden], 8)
    assert (masked[:, 2:5] == 0).all()
    assert (masked[[1, 2, 7]] == 0).all()  # repeated as it is
    torch.testing.assert_close(masked[[0, 3, 4, 5, 6]][:, :2], found[[0, 3, 4, 5, 0]][:, :2])
    torch.testing.assert_close(frames.chunks([Chunk(3, 4, 6)], 6)[0], one[4:10])


def test_voiced_frames_alone_are_kept_and_normalised() -> None:
    rng = np.random.default_rng(0)
    data = {}
    for i in range(3):
        values = rng.normal(size=(60, 1, 128)) - 20  # silence
        values[20:40] += 20
        data[f"u{i}"] = values if i else values[:15]  # one has nothing but silence
    features = FakeFeatures(data)
    features.spec = replace(features.spec, upstream="logmel")
    view = FrameView(features, features.ids)
    found = Spectrograms(view, np.arange(3), replace(QUICK, vad=True, frame_norm="mean"))
    assert found.num_frames.tolist() == [15, 24, 24]  # two more at either side: the context
    assert found.read(1).mean(0).abs().max() < 1e-4


def test_normalisations() -> None:
    frames = torch.randn(50, 4) * 3 + 5
    frames[:, 3] = 2.5
    assert torch.equal(normalized(frames, "none"), frames)
    torch.testing.assert_close(normalized(frames, "mean"), frames - frames.mean(0))
    whole = normalized(frames, "mean-variance")
    torch.testing.assert_close(
        whole.var(0, correction=0), torch.tensor([1.0, 1, 1, 0]), atol=1e-4, rtol=0
    )


def test_several_layers_are_no_spectrogram() -> None:
    features = FakeFeatures({"a": np.zeros((3, 13, 4))})
    with pytest.raises(TrainError, match=r"reads a spectrogram .* found 13 layers of net"):
        Spectrograms(FrameView(features, features.ids), np.arange(1), QUICK)


def test_divergence_names_the_rate() -> None:
    with pytest.raises(TrainError, match=r"diverged at learning rate 1e\+30"):
        run_resnet(
            planted_view(),
            planted_labels(),
            [FOLD],
            [0],
            replace(QUICK, optimiser="sgd", lrs=(1e30,)),
        )


def test_one_training_utterance_is_refused() -> None:
    fold = replace(FOLD, train=FOLD.train[:1])
    with pytest.raises(TrainError, match="normalisation needs two utterances"):
        run_resnet(planted_view(), planted_labels(), [fold], [0], QUICK)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, "epochs must be 1 or more, found 0"),
        ({"batch": 1}, "batch must be 2 or more"),
        ({"micro_batch": 2}, "micro_batch must be 3 or more"),
        ({"chunks": ()}, "chunks must be numbers of frames"),
        ({"lrs": (0.0,)}, "lrs must be distinct and above 0"),
        ({"momentum": -1.0}, "momentum and weight_decay must be 0 or more"),
        ({"pooling": "max"}, "pooling must be one of attention, statistics, mean, found 'max'"),
        ({"spec_augment": "wild"}, "spec_augment must be one of none, conservative, aggressive"),
        ({"init_train": "some"}, "init_train must be one of new, all"),
    ],
)
def test_a_senseless_config_is_refused(change: dict, message: str) -> None:
    with pytest.raises(TrainError, match=message):
        replace(QUICK, **change).validate()


def test_recipes_are_the_ones_read() -> None:
    two = resnet_config("resnet34-copypaste", None, None, None, None, ResNetOptions())
    assert (two.optimiser, two.lrs, two.batch, two.schedule) == ("adam", (1e-3,), 128, "constant")
    assert (two.pooling, two.vad, two.frame_norm, two.chunks) == ("attention", True, "mean", (400,))
    assert two.select_metric == "weighted_f1"
    four = resnet_config("resnet34-transfer", None, None, None, None, ResNetOptions())
    assert (four.optimiser, four.momentum, four.lrs, four.batch) == ("sgd", 0.9, (1e-2,), 32)
    assert (four.pooling, four.vad, four.frame_norm) == ("statistics", False, "mean-variance")
    assert (four.chunks, four.schedule) == ((150, 200, 250, 300), "halving")
    mixed = resnet_config(
        "resnet34-transfer", "copypaste", 5, (1e-4,), 0.1, ResNetOptions(vad=False)
    )
    assert (mixed.head, mixed.pooling, mixed.optimiser) == (
        "resnet34-transfer",
        "statistics",
        "adam",
    )
    assert (mixed.epochs, mixed.lrs, mixed.weight_decay, mixed.vad) == (5, (1e-4,), 0.1, False)
