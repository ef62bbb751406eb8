"""The stacked head against a plain frame-level module: same logits, same gradients."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ser_features.heads.superb import HeadWeights, SuperbShape, SuperbStack, initial_weights

CPU = torch.device("cpu")


class FrameHead(nn.Module):
    """SUPERB's head as it is written down: on frames, with masks, in the original order."""

    def __init__(self, shape: SuperbShape, weights: HeadWeights) -> None:
        super().__init__()
        self.scalars = nn.Parameter(torch.from_numpy(weights.scalars.copy()))
        self.projector = nn.Linear(shape.dim, shape.hidden)
        self.output = nn.Linear(shape.hidden, shape.num_classes)
        with torch.no_grad():
            for param, value in zip(list(self.parameters())[1:], list(weights)[:4], strict=True):
                param.copy_(torch.from_numpy(value))

    def forward(self, frames: list[torch.Tensor]) -> torch.Tensor:
        """Logits [B, C] of ragged frames, each [L, T, D]."""
        return torch.stack([self.one(x) for x in frames])

    def one(self, x: torch.Tensor) -> torch.Tensor:
        mixed = (self.scalars.softmax(0)[:, None, None] * x).sum(0) if len(x) > 1 else x[0]
        return self.output(self.projector(mixed).mean(0))

    def gradients(self) -> HeadWeights:
        found = [p.grad if p.grad is not None else torch.zeros_like(p) for p in self.parameters()]
        return HeadWeights(*(g.numpy().copy() for g in (*found[1:], found[0])))


def random_weights(shape: SuperbShape, seed: int) -> HeadWeights:
    rng = np.random.default_rng(seed)
    weights = initial_weights(shape, rng)
    scalars = rng.standard_normal(shape.num_scalars).astype(np.float32)
    return HeadWeights(*list(weights)[:4], scalars)


class Problem:
    """R heads on ragged frames, and the table of their means."""

    def __init__(self, layers: int, dim: int, classes: int, runs: int, seed: int = 0) -> None:
        self.shape = SuperbShape(layers, dim, classes, hidden=32)
        rng = np.random.default_rng(seed)
        self.frames = [
            torch.from_numpy(rng.standard_normal((layers, int(t), dim)).astype(np.float32))
            for t in rng.integers(1, 9, 20)
        ]
        self.weights = [random_weights(self.shape, seed + r) for r in range(runs)]
        self.index = torch.from_numpy(rng.integers(0, 20, (runs, 8)))
        self.labels = torch.from_numpy(rng.integers(0, classes, (runs, 8)))
        self.weight = torch.from_numpy(rng.random((runs, 8)).astype(np.float32))
        self.table = torch.stack([x.mean(1) for x in self.frames]).view(-1, dim)
        self.rows = self.index[..., None] * layers + torch.arange(layers)
        self.stack = SuperbStack(self.shape, runs, CPU)
        for r, weights in enumerate(self.weights):
            self.stack.load(r, weights)

    def frame_head(self, run: int, clip: float) -> tuple[FrameHead, torch.Tensor, float]:
        """The plain module after a backward pass: itself, its logits, its gradient norm."""
        head = FrameHead(self.shape, self.weights[run])
        logits = head([self.frames[i] for i in self.index[run]])
        losses = nn.functional.cross_entropy(logits, self.labels[run], reduction="none")
        (losses * self.weight[run]).sum().backward()
        norm = float(nn.utils.clip_grad_norm_(head.parameters(), clip))
        return head, logits.detach(), norm


def assert_close(ours: HeadWeights, theirs: HeadWeights, atol: float = 1e-5) -> None:
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=atol)


@pytest.mark.parametrize("clip", [1e9, 0.05])
@pytest.mark.parametrize("layers", [1, 2, 13])
def test_logits_and_gradients_equal_the_frame_level_head(layers: int, clip: float) -> None:
    problem = Problem(layers, dim=24, classes=4, runs=3)
    norms = problem.stack.backward(
        problem.table, problem.rows, problem.labels, problem.weight, clip
    )
    for run in range(3):
        head, logits, norm = problem.frame_head(run, clip)
        ours = problem.stack.logits(problem.table, problem.rows[run], run)
        torch.testing.assert_close(ours, logits, rtol=0, atol=1e-5)
        theirs = head.gradients()
        if layers == 1:
            theirs = HeadWeights(*list(theirs)[:4], np.zeros(0, np.float32))
        assert_close(problem.stack.gradients_of(run), theirs)
        assert float(norms[run]) == pytest.approx(norm, rel=1e-4)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 5), st.integers(1, 12), st.integers(2, 7), st.integers(1, 4), st.integers(0, 99)
)
def test_any_shape(layers: int, dim: int, classes: int, runs: int, seed: int) -> None:
    problem = Problem(layers, dim, classes, runs, seed)
    problem.stack.backward(problem.table, problem.rows, problem.labels, problem.weight, 1.0)
    run = runs - 1
    head, _, _ = problem.frame_head(run, 1.0)
    theirs = list(head.gradients())
    if layers == 1:
        theirs[4] = np.zeros(0, np.float32)
    assert_close(problem.stack.gradients_of(run), HeadWeights(*theirs), atol=2e-5)


def test_initial_weights_are_drawn_like_torch_linear() -> None:
    shape = SuperbShape(num_layers=13, dim=100, num_classes=4, hidden=64)
    weights = initial_weights(shape, np.random.default_rng(0))
    layer = nn.Linear(100, 64)
    assert weights.projector.shape == tuple(layer.weight.shape)
    for ours, theirs in ((weights.projector, layer.weight), (weights.projector_bias, layer.bias)):
        assert abs(ours).max() <= 0.1
        assert ours.std() == pytest.approx(theirs.detach().numpy().std(), rel=0.2)
    assert not weights.scalars.any()


def test_layer_weights_are_a_softmax_and_one_for_a_single_layer() -> None:
    many = SuperbStack(SuperbShape(5, 3, 2, 4), 2, CPU)
    torch.testing.assert_close(many.layer_weights(), torch.full((2, 5), 0.2))
    assert SuperbStack(SuperbShape(1, 3, 2, 4), 2, CPU).layer_weights().tolist() == [[1.0], [1.0]]


def test_weights_read_back_as_they_were_loaded() -> None:
    shape = SuperbShape(3, 5, 2, 4)
    stack = SuperbStack(shape, 2, CPU)
    weights = random_weights(shape, 1)
    stack.load(1, weights)
    assert_close(stack.weights(1), weights, atol=0)
    assert shape.num_parameters == sum(array.size for array in weights)
