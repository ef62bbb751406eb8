import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ser_features.heads.mlp import FrameShape, MlpHead, segment_mean, segment_sum, spread

COUNTS = st.lists(st.integers(1, 9), min_size=1, max_size=6)


def padded(frames: torch.Tensor, counts: list[int], value: float) -> tuple[torch.Tensor, ...]:
    """[F, ...] as [B, T, ...] with ``value`` in the padding, and the mask [B, T] of real frames."""
    parts = torch.split(frames, counts)
    whole = nn.utils.rnn.pad_sequence(list(parts), batch_first=True, padding_value=value)
    mask = torch.arange(whole.shape[1]) < torch.tensor(counts)[:, None]
    return whole, mask


def plain(head: MlpHead, frames: torch.Tensor, counts: list[int]) -> torch.Tensor:
    """Paper 1's head as one would write it on a padded batch."""
    whole, mask = padded(frames, counts, 7.0)  # [B, T, L, D]
    if head.shape.num_layers > 1:
        weights = torch.softmax(head.get_parameter("scalars"), dim=0)
        mixed = (whole * weights[:, None]).sum(dim=2)
    else:
        mixed = whole[:, :, 0]
    hidden = torch.relu(head.project(mixed)) * mask[:, :, None]
    return head.output(hidden.sum(dim=1) / mask.sum(dim=1, keepdim=True))


@pytest.mark.parametrize("layers", [1, 3])
@settings(deadline=None, max_examples=30)
@given(counts=COUNTS, seed=st.integers(0, 1000))
def test_logits_and_gradients_equal_the_padded_masked_head(
    layers: int, counts: list[int], seed: int
) -> None:
    torch.manual_seed(seed)
    head = MlpHead(FrameShape(layers, 5, 4, hidden=6)).double()
    if layers > 1:
        nn.init.normal_(head.get_parameter("scalars"))
    frames = torch.randn(sum(counts), layers, 5, dtype=torch.double)
    weight = torch.randn(len(counts), 4, dtype=torch.double)
    grads = []
    logits = []
    for forward in (head(frames, torch.tensor(counts)), plain(head, frames, counts)):
        logits.append(forward)
        grads.append(torch.autograd.grad((forward * weight).sum(), list(head.parameters())))
    torch.testing.assert_close(*logits)
    torch.testing.assert_close(*grads)


@settings(deadline=None, max_examples=30)
@given(counts=COUNTS)
def test_an_utterance_does_not_depend_on_its_company(counts: list[int]) -> None:
    torch.manual_seed(0)
    head = MlpHead(FrameShape(2, 5, 3, hidden=6))
    frames = torch.randn(sum(counts), 2, 5)
    together = head(frames, torch.tensor(counts))
    for i, part in enumerate(torch.split(frames, counts)):
        alone = head(part, torch.tensor([len(part)]))
        torch.testing.assert_close(together[i : i + 1], alone)


@settings(deadline=None, max_examples=30)
@given(counts=COUNTS)
def test_segments_are_sums_and_means_of_each_run_of_rows(counts: list[int]) -> None:
    values = torch.arange(sum(counts) * 2, dtype=torch.double).view(-1, 2)
    lengths = torch.tensor(counts)
    parts = torch.split(values, counts)
    assert torch.equal(segment_sum(values, lengths), torch.stack([p.sum(0) for p in parts]))
    means = torch.stack([p.mean(0) for p in parts])
    torch.testing.assert_close(segment_mean(values, lengths), means)
    torch.testing.assert_close(segment_mean(spread(means, lengths), lengths), means)


def test_segments_on_cuda_use_the_same_sums() -> None:
    values, lengths = torch.randn(9, 3), torch.tensor([2, 3, 4])
    reduced = torch.segment_reduce(values, "sum", lengths=lengths, axis=0)
    torch.testing.assert_close(segment_sum(values, lengths), reduced)


def test_layer_weights_start_equal_and_one_layer_has_none() -> None:
    assert MlpHead(FrameShape(4, 2, 3)).layer_weights().tolist() == [0.25] * 4
    single = MlpHead(FrameShape(1, 2, 3))
    assert single.layer_weights().tolist() == [1.0]
    assert dict(single.named_parameters()).keys() == {
        "project.weight",
        "project.bias",
        "output.weight",
        "output.bias",
    }


def test_the_defaults_are_the_papers() -> None:
    head = MlpHead(FrameShape(1, 768, 4))
    shapes = [tuple(p.shape) for p in head.parameters()]
    assert shapes == [(128, 768), (128,), (4, 128), (4,)]
