"""The stacked trainer against s3prl 0.4.18's own Featurizer and emotion expert.

s3prl is looked for in this environment and in the folder named by SERFEAT_S3PRL (docs/s3prl.md).
"""

from pathlib import Path

import numpy as np
import pytest
import torch

from s3prl_process import run_s3prl
from ser_features.heads.superb import HeadWeights, SuperbShape, initial_weights
from ser_features.train.recipes import SUPERB_RECIPES
from ser_features.train.stack import EpochStream, IndexedFold, Run, generators
from ser_features.train.superb import StackTrainer, TrainingData

LAYERS, DIM, CLASSES, NUM = 13, 768, 4, 41
CONFIG = SUPERB_RECIPES["superb"]
ALL = np.arange(NUM)
FOLD = IndexedFold("Session1", ALL, ALL, ALL)


@pytest.fixture(scope="module")
def ragged() -> tuple[list[np.ndarray], np.ndarray]:
    """Frames [T, L, D] of each utterance, and its label."""
    rng = np.random.default_rng(0)
    labels = ALL % CLASSES
    mean = rng.standard_normal((CLASSES, LAYERS, DIM)) * 0.1
    frames = [
        mean[c] + rng.standard_normal((int(t), LAYERS, DIM))
        for c, t in zip(labels, rng.integers(3, 12, NUM), strict=True)
    ]
    return [f.astype(np.float32) for f in frames], labels


@pytest.fixture(scope="module")
def theirs(
    ragged: tuple[list[np.ndarray], np.ndarray], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, np.ndarray]:
    """What s3prl computes from the same initial weights and the same 100 minibatches."""
    frames, labels = ragged
    init, order = generators(FOLD.name, 0)
    weights = initial_weights(SuperbShape(LAYERS, DIM, CLASSES), init)
    index, weight = EpochStream(ALL, order, 4, 8).take(100)
    folder = tmp_path_factory.mktemp("s3prl")
    names = ("projector", "projector_bias", "output", "output_bias", "scalars")
    np.savez(
        folder / "in.npz", frames=np.concatenate(frames), lengths=[len(f) for f in frames],
        labels=labels, index=index, weight=weight, micro=4, lr=1e-4, clip=CONFIG.clip,
        **dict(zip(names, weights, strict=True)),
    )  # fmt: skip
    script = Path(__file__).with_name("s3prl_reference.py")
    run_s3prl(script, folder / "in.npz", folder / "out.npz")
    return dict(np.load(folder / "out.npz"))


@pytest.fixture
def trainer(ragged: tuple[list[np.ndarray], np.ndarray]) -> StackTrainer:
    frames, labels = ragged
    pooled = np.stack([f.mean(axis=0, dtype=np.float64) for f in frames]).astype(np.float32)
    data = TrainingData(pooled, labels, [FOLD], torch.device("cpu"))
    return StackTrainer(data, SuperbShape(LAYERS, DIM, CLASSES), [Run(0, 0, 1e-4, 0)], CONFIG)


def as_weights(found: dict[str, np.ndarray], prefix: str) -> HeadWeights:
    return HeadWeights(*(found[f"{prefix}{i}"] for i in range(5)))


def assert_within(ours: HeadWeights, theirs: HeadWeights, atol: float) -> None:
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=atol)


def test_logits_loss_and_gradients_are_those_of_s3prl(
    trainer: StackTrainer, theirs: dict[str, np.ndarray]
) -> None:
    index, weight = EpochStream(ALL, generators(FOLD.name, 0)[1], 4, 8).take(1)
    rows, labels = torch.from_numpy(index), trainer.data.labels[index]
    table, stack = trainer.data.table, trainer.stack
    logits = stack.logits(table, trainer.data.rows(rows[0]), 0)
    losses = torch.nn.functional.cross_entropy(logits, labels[0], reduction="none")
    real = weight[0] > 0
    np.testing.assert_allclose(logits[real].numpy(), theirs["logits"], rtol=0, atol=1e-5)
    assert float((losses * torch.from_numpy(weight[0])).sum()) == pytest.approx(
        float(theirs["loss"]), abs=1e-5
    )
    stack.backward(table, trainer.data.rows(rows), labels, torch.from_numpy(weight), CONFIG.clip)
    assert_within(stack.gradients_of(0), as_weights(theirs, "grad"), 1e-5)


def test_weights_after_100_updates_are_those_of_s3prl(
    trainer: StackTrainer, theirs: dict[str, np.ndarray]
) -> None:
    start = trainer.stack.weights(0)
    trainer.advance(100)
    ours = trainer.stack.weights(0)
    assert_within(ours, as_weights(theirs, "weight"), 1e-4)
    moved = [abs(a - b).max() for a, b in zip(ours, start, strict=True)]
    assert min(moved) > 1e-3  # 100 updates at 1e-4: the tolerance is far below the way gone
