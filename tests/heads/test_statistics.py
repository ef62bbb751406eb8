import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ser_features.heads.mlp import FrameShape
from ser_features.heads.statistics import EPSILON, StatisticsHead

COUNTS = st.lists(st.integers(1, 9), min_size=1, max_size=6)


def plain(hidden: torch.Tensor, counts: list[int]) -> torch.Tensor:
    parts = torch.split(hidden, counts)
    means = torch.stack([part.mean(0) for part in parts])
    roots = [(part.var(0, correction=0) + EPSILON).sqrt() for part in parts]
    return torch.cat([means, torch.stack(roots)], dim=1)


@settings(deadline=None, max_examples=50)
@given(counts=COUNTS, seed=st.integers(0, 1000))
def test_pooling_and_its_gradient_equal_each_utterances_own_statistics(
    counts: list[int], seed: int
) -> None:
    torch.manual_seed(seed)
    head = StatisticsHead(FrameShape(1, 5, 4, hidden=6))
    hidden = torch.randn(sum(counts), 6, dtype=torch.double, requires_grad=True)
    weight = torch.randn(len(counts), 12, dtype=torch.double)
    ours, theirs = head.pool(hidden, torch.tensor(counts)), plain(hidden, counts)
    torch.testing.assert_close(ours, theirs)
    grads = [torch.autograd.grad((each * weight).sum(), hidden) for each in (ours, theirs)]
    torch.testing.assert_close(*grads)


def test_a_single_frame_has_finite_gradients() -> None:
    head = StatisticsHead(FrameShape(2, 5, 4, hidden=6))
    head(torch.randn(1, 2, 5), torch.tensor([1])).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in head.parameters())


def test_the_output_reads_mean_and_deviation() -> None:
    assert StatisticsHead(FrameShape(1, 768, 4)).output.in_features == 256
