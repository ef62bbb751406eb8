from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ser_features.heads.resnet34 import (
    EPSILON,
    AttentionPooling,
    ResNet34,
    ResNetShape,
    StatisticsPooling,
    shape_of,
    shortened,
)

HEADS = ("resnet34-copypaste", "resnet34-transfer")
TINY = ResNetShape(bands=11, num_classes=3, channels=2, heads=4, embedding=6)


def _maps(network: ResNet34, frames: torch.Tensor) -> list[tuple[int, ...]]:
    """Shapes [C, T, F] after the first layer and after each stage, as they come out."""
    shapes = []

    def note(module, inputs, output) -> None:
        shapes.append(tuple(output.shape[1:]))

    body = network.body
    for module in (body.act, *(body.blocks[i] for i in (2, 6, 12, 15))):
        module.register_forward_hook(note)
    network(frames)
    return shapes


def test_paper_2s_table_of_layers() -> None:
    network = ResNet34(shape_of(HEADS[0], 23, 4, "attention")).eval()
    t = 200
    assert _maps(network, torch.randn(1, t, 23)) == [
        (16, t, 23),
        (16, t, 23),
        (32, t // 2, 12),
        (64, t // 4, 6),
        (128, t // 8, 3),
    ]
    assert network.body.conv.kernel_size == (7, 7)
    assert network.shape.frame_dim == 128
    assert network.shape.pooled_dim == 32 * 128
    assert network.embedding[0].out_features == 400
    assert network.output.weight.shape == (4, 400)
    assert (
        _kernels(network)
        == [((3, 3), 16)] * 6 + [((3, 3), 32)] * 8 + [((3, 3), 64)] * 12 + [((3, 3), 128)] * 6
    )


def test_paper_4s_channels_activations_and_pooling() -> None:
    network = ResNet34(shape_of(HEADS[1], 128, 4, "statistics")).eval()
    assert _maps(network, torch.randn(1, 40, 128)) == [
        (32, 40, 128),
        (32, 40, 128),
        (64, 20, 64),
        (128, 10, 32),
        (256, 5, 16),
    ]
    assert network.shape.pooled_dim == 2 * 256 * 16
    kinds = {type(module) for module in network.modules()}
    assert torch.nn.PReLU in kinds
    assert torch.nn.ReLU not in kinds
    assert [count for _, count in _kernels(network)].count(256) == 6


def _kernels(network: ResNet34) -> list[tuple[tuple[int, ...], int]]:
    convs = [c for block in network.body.blocks for c in (block.conv1, block.conv2)]
    return [(conv.kernel_size, conv.out_channels) for conv in convs]


@pytest.mark.parametrize(
    ("head", "bands", "pooling", "kernel"),
    [(HEADS[0], 23, "attention", 7), (HEADS[1], 128, "statistics", 3)],
)
def test_parameters_are_those_of_the_table_summed_by_hand(
    head: str, bands: int, pooling: str, kernel: int
) -> None:
    """Neither paper prints its count: this is the sum over paper 2's table, layer by layer."""
    shape = shape_of(head, bands, 4, pooling)
    slopes = 1 if shape.activation == "prelu" else 0
    c = shape.channels
    norms = 2  # weight and bias a channel
    total = kernel**2 * c + norms * c + slopes
    for stage, blocks in enumerate((3, 4, 6, 3)):
        wide, narrow = c * 2**stage, c * 2 ** max(0, stage - 1)
        total += 9 * narrow * wide + (2 * blocks - 1) * 9 * wide * wide
        total += 2 * blocks * (norms * wide + slopes)
        total += (narrow * wide + norms * wide) if stage else 0  # the projection beside the stride
    total += 32 * 128 + 32 if pooling == "attention" else 0
    flat = 32 * 128 if pooling == "attention" else 2 * 256 * 16
    total += flat * shape.embedding + shape.embedding * (1 + norms) + slopes
    total += shape.embedding * 4 + 4
    network = ResNet34(shape)
    assert sum(p.numel() for p in network.parameters()) == total
    assert total == {"attention": 2_979_012, "statistics": 7_422_342}[pooling]


def test_the_attention_is_the_papers_equations() -> None:
    torch.manual_seed(0)
    pooling = AttentionPooling(5, 3).double()
    with torch.no_grad():
        pooling.scales.copy_(torch.tensor([0.5, 1.0, 3.0]))
    x = torch.randn(2, 7, 5, dtype=torch.double)
    found = pooling(x, None).reshape(2, 3, 5)
    for b in range(2):
        for h in range(3):
            scores = torch.stack([
                -pooling.scales[h] * (frame - pooling.centres[h]).norm() for frame in x[b]
            ])  # fmt: skip
            weights = scores.exp() / scores.exp().sum()
            torch.testing.assert_close(found[b, h], (weights[:, None] * x[b]).sum(0))


@pytest.mark.parametrize("kind", ["attention", "statistics", "mean"])
def test_gradients_of_the_poolings(kind: str) -> None:
    torch.manual_seed(1)
    pooling = AttentionPooling(3, 2) if kind == "attention" else StatisticsPooling(kind == "mean")
    pooling.double()
    x = torch.randn(2, 4, 3, dtype=torch.double, requires_grad=True)
    keep = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]], dtype=torch.double)[..., None]
    names, values = (
        zip(*pooling.named_parameters(), strict=True) if kind == "attention" else ((), ())
    )

    def run(x, *parameters):
        return torch.func.functional_call(
            pooling, dict(zip(names, parameters, strict=True)), (x, keep)
        )

    assert torch.autograd.gradcheck(run, (x, *values))


def test_the_poolings_read_what_is_there_and_nothing_else() -> None:
    torch.manual_seed(2)
    x = torch.randn(1, 6, 4, dtype=torch.double)
    padded = torch.cat([x, torch.full((1, 3, 4), 9.0, dtype=torch.double)], dim=1)
    keep = (torch.arange(9) < 6).double()[None, :, None]
    for pooling in (AttentionPooling(4, 3).double(), StatisticsPooling(), StatisticsPooling(True)):
        torch.testing.assert_close(pooling(padded, keep), pooling(x, None))
    expected = torch.cat([x.mean(1), (x.var(1, correction=0) + EPSILON).sqrt()], dim=1)
    torch.testing.assert_close(StatisticsPooling()(x, None), expected)


@settings(max_examples=15)
@given(
    lengths=st.lists(st.integers(1, 40), min_size=2, max_size=5),
    pooling=st.sampled_from(["attention", "statistics", "mean"]),
    activation=st.sampled_from(["relu", "prelu"]),
    average=st.booleans(),
)
def test_padding_changes_no_utterance(
    lengths: list[int], pooling: str, activation: str, average: bool
) -> None:
    """In double precision, so that only the order of sums differs: 1e-10 of logits around 1."""
    torch.manual_seed(sum(lengths))
    shape = replace(TINY, pooling=pooling, activation=activation, average_bands=average)
    network = _trained(ResNet34(shape).double())
    alone = [torch.randn(1, length, shape.bands, dtype=torch.double) for length in lengths]
    together = torch.full((len(lengths), max(lengths), shape.bands), 7.0, dtype=torch.double)
    for row, frames in zip(together, alone, strict=True):
        row[: frames.shape[1]] = frames
    with torch.no_grad():
        found = network(together, torch.tensor(lengths))
        expected = torch.cat([network(frames) for frames in alone])
    torch.testing.assert_close(found, expected, atol=1e-10, rtol=1e-10)


def _trained(network: ResNet34) -> ResNet34:
    """With biases and running statistics that would make padded frames differ from zero."""
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.bias.normal_()
                module.running_mean.normal_()
    return network.eval()


@pytest.mark.parametrize("pooling", ["attention", "statistics", "mean"])
def test_every_parameter_gets_a_gradient(pooling: str) -> None:
    torch.manual_seed(3)
    network = ResNet34(replace(TINY, pooling=pooling, activation="prelu"))
    network(torch.randn(4, 24, TINY.bands)).square().sum().backward()
    lacking = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert lacking == []


@given(st.integers(1, 500), st.integers(0, 3))
def test_lengths_are_those_of_the_convolutions(length: int, strides: int) -> None:
    x = torch.zeros(1, 1, length)
    for _ in range(strides):
        x = torch.nn.functional.conv1d(x, torch.ones(1, 1, 3), stride=2, padding=1)
    assert x.shape[2] == shortened(length, strides)
