"""Copies, strategies and cache augmentation under the trainer of the ResNet heads."""

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
from ser_features.train.cache_augment import CacheAugment, parse_cache
from ser_features.train.chunks import Batch, Chunk, draw_epoch
from ser_features.train.extras import Extras, no_extras
from ser_features.train.resnet import ResNetRun, run_resnet
from ser_features.train.spectrograms import Spectrograms
from ser_features.train.stack import Run, StandIns
from ser_features.train.strategies import Strategy
from ser_features.views import FrameView

pytestmark = pytest.mark.usefixtures("thin_resnets")


def test_copies_stand_in_and_late_epochs_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    copies = StandIns(np.arange(COUNT + 1).clip(max=20), np.arange(20) + 8)  # of row r: row r + 8
    fold = replace(FOLD, copies=copies)
    drawn: list[int] = []

    def note(rows, *others):
        drawn.extend(rows.tolist())
        return draw_epoch(rows, *others)

    monkeypatch.setattr(resnet, "draw_epoch", note)
    extras = replace(no_extras(COUNT), rate=0.5, late=True)
    (outcome,) = run_resnet(
        planted_view(), planted_labels(), [fold], [0], replace(QUICK, epochs=6), extras=extras
    )
    places = np.array(drawn).reshape(6, 20) - FOLD.train
    assert set(places.ravel()) == {0, 8}
    assert 0.3 < (places == 8).mean() < 0.7
    assert (places[0] != places[1]).any()
    assert [epoch for epoch, _ in outcome.late] == [5, 6]
    assert all(len(predicted) == len(FOLD.test) for _, predicted in outcome.late)


def test_a_transfer_trains_on_the_added_then_on_the_real_at_a_lower_rate(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    added = np.arange(COUNT) < 8
    strategy = Strategy("transfer", share=0.5, factor=0.1)
    extras = replace(no_extras(COUNT), added=added, strategy=strategy)
    seen: list[tuple[set[int], float]] = []
    update = ResNetRun._update

    def note(self, batch):
        lr = self._optimiser.param_groups[0]["lr"]
        seen.append(({chunk.row for chunk in batch.chunks}, lr))
        update(self, batch)

    monkeypatch.setattr(ResNetRun, "_update", note)
    config = replace(QUICK, epochs=2, batch=20)
    (outcome,) = run_resnet(planted_view(), planted_labels(), [FOLD], [0], config, extras=extras)
    assert seen == [(set(range(8)), 3e-3), (set(range(8, 20)), pytest.approx(3e-4))]
    assert len(outcome.schedule) == 2


def test_a_stage_of_one_utterance_is_refused() -> None:
    added = np.arange(COUNT) == 3
    extras = replace(no_extras(COUNT), added=added, strategy=Strategy("transfer"))
    with pytest.raises(TrainError, match="'f': batch normalisation needs two utterances"):
        run_resnet(planted_view(), planted_labels(), [FOLD], [0], QUICK, extras=extras)


def test_copypaste_joins_chunks_of_the_same_class_in_its_share_of_the_minibatches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    labels = planted_labels()
    cache = CacheAugment(parse_cache(["copypaste-se:share=0.5"], frames=True), 1, BANDS)
    batches: list[Batch] = []
    monkeypatch.setattr(ResNetRun, "_update", lambda self, batch: batches.append(batch))
    config = replace(QUICK, epochs=20, batch=5)
    extras = replace(no_extras(COUNT), cache=cache)
    run_resnet(planted_view(), labels, [FOLD], [0], config, extras=extras)
    joined = [[chunk.pasted is not None for chunk in batch.chunks] for batch in batches]
    assert 0.35 < np.mean([any(each) for each in joined]) < 0.65
    for batch in batches:
        for chunk in batch.chunks:
            if chunk.pasted is not None:
                assert chunk.row != chunk.pasted.row
                assert labels[chunk.row] == labels[chunk.pasted.row]


def test_masks_are_drawn_for_the_frames_that_a_chunk_has(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = CacheAugment(parse_cache(["time-mask:p=1,masks=3"], frames=True), 1, BANDS)
    batches: list[Batch] = []
    monkeypatch.setattr(ResNetRun, "_update", lambda self, batch: batches.append(batch))
    extras = replace(no_extras(COUNT), cache=cache)
    config = replace(QUICK, epochs=10)
    run_resnet(planted_view(), planted_labels(), [FOLD], [0], config, extras=extras)
    ends = [
        (start + width, chunk.total)
        for batch in batches
        for chunk in batch.chunks
        for start, width in chunk.hidden.frames
    ]
    assert all(end <= total for end, total in ends)
    assert any(end == total for end, total in ends)


def test_mixed_chunks_teach_both_labels_in_their_shares() -> None:
    """The gradient of an update is that of the blended loss."""
    config = replace(QUICK, chunks=(16,), optimiser="sgd", lrs=(1e-2,))
    chunks = [Chunk(0, 0, 16), Chunk(1, 0, 16), Chunk(2, 0, 16)]
    mixed = (
        replace(chunks[0], mixed=chunks[1], share=0.7),
        replace(chunks[1], mixed=chunks[2], share=0.4),
        chunks[2],
    )
    run = started(config)
    run.network.eval()
    before = {k: v.clone() for k, v in run.network.named_parameters()}
    frames = run._frames.chunks(mixed, 16)
    losses = torch.nn.functional.log_softmax(run.network(frames), dim=1)
    share = torch.tensor([[0.7, 0.3], [0.6, 0.4], [1, 0]])  # labels 0, 1, 0
    grads = torch.autograd.grad(-(share * losses).sum() / 3, list(run.network.parameters()))
    run._update(Batch(16, mixed))
    for (name, value), grad in zip(run.network.named_parameters(), grads, strict=True):
        torch.testing.assert_close(value.detach(), before[name] - 1e-2 * grad)


ADDED = np.arange(COUNT) % 3 == 0


def adversarial(reversal: float) -> Extras:
    strategy = Strategy("adversarial", reversal=reversal)
    return replace(no_extras(COUNT), added=ADDED, strategy=strategy)


def test_the_adversarial_strategy_is_on_record() -> None:
    config = replace(QUICK, select="last", batch=10)
    (outcome,) = run_resnet(
        planted_view(), planted_labels(), [FOLD], [0], config, extras=adversarial(1.0)
    )
    assert [epoch for epoch, _ in outcome.domain_curve] == [1, 2, 3]
    assert all(0 <= heard <= 1 for _, heard in outcome.domain_curve)
    assert outcome.schedule == (
        {"after": 0, "num_real": 13, "num_added": 7, "lr_factor": 1.0},
    )  # fmt: skip


def test_a_planted_domain_is_found_and_then_forgotten() -> None:
    """Added rows are louder: the classifier learns that, one reversed step makes it less sure."""
    view, rows = planted_view(), np.arange(20)
    frames = {name: view.read(i) + 3 * ADDED[i] for i, name in enumerate(view.ids)}
    features = FakeFeatures(frames)
    config = replace(QUICK, frame_norm="none", chunks=(16,))
    spectrograms = Spectrograms(FrameView(features, features.ids), np.arange(COUNT), config)
    how = (FOLD, spectrograms, planted_labels(), config, "cpu", adversarial(0.0))
    run = ResNetRun(Run(0, 0, 0.05, 0), *how)
    piece = (spectrograms.chunks([Chunk(row, 0, 16) for row in rows.tolist()], 16), None,
             torch.from_numpy(ADDED[rows]))  # fmt: skip
    run.network.train()
    adversary = run._adversary
    start = {k: v.clone() for k, v in run.network.state_dict().items()}
    for _ in range(60):
        adversary.update([piece])
    assert adversary.accuracy() > 0.8  # of all steps, the first among them
    assert all(torch.equal(v, start[k]) for k, v in run.network.named_parameters())

    def loss() -> float:
        with torch.no_grad():
            logits = adversary.classifier(run._embed(piece[0], None)).squeeze(1)
        wanted = piece[2].float()
        return float(torch.nn.functional.binary_cross_entropy_with_logits(logits, wanted))

    before = loss()
    adversary._reversal = 1.0
    adversary.set_rate(1e-3)
    adversary.update([piece])
    assert loss() > 1.1 * before
    moved = [k for k, v in run.network.named_parameters() if not torch.equal(v, start[k])]
    assert {name.partition(".")[0] for name in moved} == {"body", "pooling", "embedding"}


def test_domain_steps_leave_running_statistics_alone() -> None:
    run = started(QUICK)
    run.network.train()
    frames = run._frames.chunks([Chunk(i, 0, 16) for i in range(3)], 16)
    before = {k: v.clone() for k, v in run.network.state_dict().items() if "running" in k}
    hidden = run._embed(frames, None)
    after = run.network.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    torch.testing.assert_close(run.network.output(hidden), run.network(frames))
    changed = run.network.state_dict()
    assert not all(torch.equal(value, changed[name]) for name, value in before.items())


@pytest.mark.parametrize(
    "texts",
    [["copypaste-se"], ["mixup", "time-mask:p=0.1"], ["copypaste-n+se", "feature-mask"]],
)
def test_training_on_augmented_chunks_learns_the_planted_class(texts: list[str]) -> None:
    cache = CacheAugment(parse_cache(texts, frames=True), 1, BANDS, neutral=0)
    config = replace(QUICK, epochs=12, batch=5)
    extras = replace(no_extras(COUNT), cache=cache)
    (outcome,) = run_resnet(planted_view(), planted_labels(), [FOLD], [0], config, extras=extras)
    assert (outcome.predictions == planted_labels()[FOLD.test]).mean() >= 0.75
