import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ser_features.heads.attentive import AttentiveHead
from ser_features.heads.mlp import FrameShape

COUNTS = st.lists(st.integers(1, 9), min_size=1, max_size=6)


def masked(head: AttentiveHead, frames: torch.Tensor, counts: list[int]) -> torch.Tensor:
    """Self-attentive pooling on a padded batch, minus infinity on the padding's scores."""
    parts = torch.split(frames, counts)
    whole = torch.nn.utils.rnn.pad_sequence(list(parts), batch_first=True, padding_value=50.0)
    padding = torch.arange(whole.shape[1]) >= torch.tensor(counts)[:, None]  # [B, T]
    hidden = torch.relu(head.project(whole[:, :, 0]))
    additive = torch.zeros(padding.shape, dtype=frames.dtype).masked_fill(padding, -torch.inf)
    weights = torch.softmax(head.score(hidden)[:, :, 0] + additive, dim=1)
    assert (weights[padding] == 0).all()
    return head.output(torch.einsum("bt,bth->bh", weights, hidden))


@settings(deadline=None, max_examples=50)
@given(counts=COUNTS, seed=st.integers(0, 1000))
def test_logits_and_gradients_equal_a_softmax_with_the_padding_at_minus_infinity(
    counts: list[int], seed: int
) -> None:
    torch.manual_seed(seed)
    head = AttentiveHead(FrameShape(1, 5, 4, hidden=6)).double()
    frames = torch.randn(sum(counts), 1, 5, dtype=torch.double)
    weight = torch.randn(len(counts), 4, dtype=torch.double)
    ours, theirs = head(frames, torch.tensor(counts)), masked(head, frames, counts)
    torch.testing.assert_close(ours, theirs)
    grads = [
        torch.autograd.grad((each * weight).sum(), list(head.parameters()))
        for each in (ours, theirs)
    ]
    torch.testing.assert_close(*grads)


def test_huge_scores_neither_overflow_nor_leak_between_utterances() -> None:
    torch.manual_seed(0)
    head = AttentiveHead(FrameShape(1, 3, 2, hidden=4))
    hidden = torch.randn(5, 4)
    with torch.no_grad():
        head.score.weight.fill_(1000.0)
    pooled = head.pool(hidden, torch.tensor([2, 3]))
    for row, part in enumerate((hidden[:2], hidden[2:])):
        strongest = part[part.sum(dim=1).argmax()]
        torch.testing.assert_close(pooled[row], strongest)


def test_equal_scores_give_the_mean() -> None:
    head = AttentiveHead(FrameShape(1, 3, 2, hidden=4))
    torch.nn.init.zeros_(head.score.weight)
    hidden = torch.randn(5, 4)
    means = torch.stack([hidden[:2].mean(0), hidden[2:].mean(0)])
    torch.testing.assert_close(head.pool(hidden, torch.tensor([2, 3])), means)
