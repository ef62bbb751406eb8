"""The adversarial strategy on minibatches that augmentation on the cache has changed."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from fake_features import FakeFeatures
from resnet_factory import BANDS, COUNT, FOLD, QUICK, planted_labels, planted_view
from ser_features.heads.mlp import FrameShape
from ser_features.heads.superb import SuperbShape, SuperbStack, initial_weights
from ser_features.train.adversarial import DomainCounts, FrameAdversary, StackAdversary
from ser_features.train.cache_apply import StackCache
from ser_features.train.cache_augment import CacheAugment, parse_cache
from ser_features.train.chunks import Chunk
from ser_features.train.extras import Extras
from ser_features.train.frame_recipes import FrameConfig
from ser_features.train.frames import FrameRun, build_head, run_frames
from ser_features.train.recipes import SuperbConfig
from ser_features.train.resnet import ResNetRun, run_resnet
from ser_features.train.stack import IndexedFold, Run
from ser_features.train.strategies import Strategy
from ser_features.train.stream import HeldFrames
from ser_features.train.superb import train_superb
from ser_features.views import FrameView

NUM, LAYERS, DIM, CLASSES, NEUTRAL = 90, 3, 7, 3, 1
LABELS = np.arange(NUM) % CLASSES
ADDED = np.arange(NUM) % 4 == 0
PART = np.arange(NUM) // CLASSES % 5
FOLDS = [
    IndexedFold(
        name,
        np.flatnonzero((PART < 3) | ADDED),
        np.flatnonzero((dev == PART) & ~ADDED),
        np.flatnonzero((7 - dev == PART) & ~ADDED),
    )
    for name, dev in (("f", 3), ("g", 4))
]
FRAMES = FrameConfig(hidden=16, epochs=12, batch=24, lrs=(1e-2,), select="last")
STACK = SuperbConfig(
    steps=150, batch=16, micro_batch=4, lrs=(1e-2,), eval_every=30, hidden=8, select="last"
)
CACHES = [("mixup:alpha=1",), ("copypaste-n+se", "feature-mask"), ("layer-mask:p=0.4",)]


def features_of(domain: float = 2.0) -> FakeFeatures:
    """Two dimensions tell each class, the last one whether a row is added."""
    rng = np.random.default_rng(4)
    frames = {}
    for i, label in enumerate(LABELS):
        values = rng.standard_normal((int(rng.integers(2, 7)), LAYERS, DIM)).astype(np.float32)
        values[:, :, 2 * label : 2 * label + 2] += 2
        values[:, :, -1] += domain * (1 if ADDED[i] else -1)
        frames[f"u{i:02d}"] = values
    return FakeFeatures(frames)


def cache_of(texts: tuple[str, ...], layers: int = LAYERS, dim: int = DIM) -> CacheAugment:
    return CacheAugment(parse_cache(texts, frames=True), layers, dim, NEUTRAL)


def extras(texts: tuple[str, ...], reversal: float = 1.0) -> Extras:
    strategy = Strategy("adversarial", reversal=reversal)
    return Extras(
        ADDED, features_of().num_frames, strategy, cache=cache_of(texts) if texts else None
    )


@pytest.mark.parametrize("texts", [("mixup:alpha=1", "layer-mask:p=0.7"),
                                   ("copypaste-n:share=1", "feature-mask:p=0.5")])  # fmt: skip
def test_the_domain_steps_have_the_gradients_of_autograd(texts: tuple[str, ...]) -> None:
    """On what was blended, against the share of added data in it."""
    features, rng = features_of(), np.random.default_rng(0)
    data, shape = torch.from_numpy(features.pooled("mean")), SuperbShape(LAYERS, DIM, CLASSES, 5)
    stack = SuperbStack(shape, 2, torch.device("cpu"))
    for run in range(2):
        stack.load(run, initial_weights(shape, rng))
    stack.params[4].normal_(generator=torch.Generator().manual_seed(0))
    rngs = [np.random.default_rng(i) for i in range(2)]
    pooled = StackCache(cache_of(texts), LABELS, features.num_frames, rngs, torch.device("cpu"))
    index = rng.integers(0, NUM, (2, 9))
    blend = pooled.blend(pooled.draw(index))
    adversary = StackAdversary(stack, torch.from_numpy(ADDED), [1.0] * 2, rngs, 1.0, clip=1e9)
    at, weight = torch.from_numpy(index), torch.full((2, 9), 1 / 9)
    domains = adversary.domains_of(at, blend)
    added, partner = torch.from_numpy(ADDED).float(), blend.rows[..., 0] // LAYERS
    torch.testing.assert_close(domains, blend.own * added[at] + blend.other * added[partner])
    assert ((domains > 0) & (domains < 1)).any()
    mixed, scalars = stack.mix(
        data.view(-1, DIM), at.unsqueeze(-1) * LAYERS + torch.arange(LAYERS), blend
    )
    adversary.learn(mixed.detach(), domains, weight)
    adversary.reverse(mixed, scalars, domains, weight)
    projector, bias, _, _, weights = (p.detach().clone() for p in stack.params)
    leaves = [each.requires_grad_() for each in (projector, bias, weights)]
    x = data[at] * blend.own[..., None, None] + data[partner] * blend.other[..., None, None]
    x = x * blend.layers[..., None] * blend.features[:, :, None]
    z = (x * weights.softmax(1)[:, None, :, None]).sum(2)
    hidden = z @ projector.transpose(1, 2) + bias.transpose(1, 2)
    logits = (hidden * adversary.params[:, None, :-1]).sum(2) + adversary.params[:, -1:]
    binary_cross_entropy_with_logits(logits, domains, weight, reduction="sum").backward()
    small = stack.views(adversary.fuser_grads[1])
    for mine, leaf in zip((adversary.fuser_grads[0], small[0], small[3]), leaves, strict=True):
        torch.testing.assert_close(-mine, leaf.grad, atol=1e-6, rtol=1e-4)


def test_what_is_of_both_domains_is_not_counted() -> None:
    counts = DomainCounts(1, torch.device("cpu"))
    domains = torch.tensor([[0.0, 0.0, 1.0, 0.4, 1.0]])
    said = torch.tensor([[False, True, True, True, False]])
    counts.add(said, domains, torch.tensor([[True, True, True, True, False]]))
    assert counts.take() == [pytest.approx((1 / 2 + 1) / 2)]
    assert counts.take() == [0.5]


def test_places_that_only_fill_a_minibatch_are_not_counted() -> None:
    """The last micro-batch of an epoch is filled up with rows of weight 0."""
    shape, rng = SuperbShape(LAYERS, DIM, CLASSES, 5), np.random.default_rng(0)
    stack = SuperbStack(shape, 1, torch.device("cpu"))
    stack.load(0, initial_weights(shape, rng))
    table = torch.from_numpy(features_of().pooled("mean")).view(-1, DIM)
    heard = []
    for rows in ([0, 4, 1, 2], [0, 4, 1, 2, 3, 5, 6, 7]):  # 0 and 4 are added
        adversary = StackAdversary(
            stack, torch.from_numpy(ADDED), [1e-9], [np.random.default_rng(1)], 0.0, clip=1.0
        )
        index = torch.tensor([rows])
        weight = (torch.arange(len(rows)) < 4).float()[None] / 4
        at = index.unsqueeze(-1) * LAYERS + torch.arange(LAYERS)
        adversary.update(table, at, index, weight)
        heard.append(adversary._counts._counts.clone())
    assert torch.equal(heard[0], heard[1])
    assert heard[0][1].tolist() == [[2, 2]]


def test_the_pieces_of_a_head_on_frames_carry_the_domain_of_what_is_in_them() -> None:
    features = features_of()
    view = FrameView(features, features.ids, "all")
    how = extras(("copypaste-se:share=1",))
    shape = FrameShape(LAYERS, DIM, CLASSES, 8)
    run = FrameRun(Run(0, 0, 1e-2, 0), FOLDS[0], shape, FRAMES, LABELS, torch.device("cpu"), how)
    held = HeldFrames(view, np.arange(NUM), 2**30, 1, torch.device("cpu"))
    (window,) = held.windows([np.arange(NUM)])
    rows, lengths = np.arange(20), view.num_frames
    drawn = run._draw(window, rows)
    at = np.array([0, 3, 4])
    frames, counts, domains = run._with_domains(window, rows, at, drawn)
    for i, part, domain in zip(at, frames.split(counts.tolist()), domains, strict=True):
        other = drawn.partner[i]
        assert len(part) == lengths[i] + lengths[other]
        share = (ADDED[i] * lengths[i] + ADDED[other] * lengths[other]) / len(part)
        assert float(domain) == pytest.approx(share)


def test_chunks_carry_the_domain_of_what_is_in_them() -> None:
    added = np.arange(COUNT) % 3 == 0
    how = Extras(added, np.zeros(COUNT, np.int64), Strategy("adversarial"))
    run = ResNetRun.__new__(ResNetRun)
    run._extras, run._device = how, torch.device("cpu")
    chunks = [Chunk(0, 0, 6), Chunk(0, 0, 6, pasted=Chunk(1, 0, 2)), Chunk(1, 0, 2),
              Chunk(1, 0, 5, mixed=Chunk(3, 0, 9), share=0.7)]  # fmt: skip
    torch.testing.assert_close(run._domains(chunks), torch.tensor([1, 0.75, 0, 0.3]))


@pytest.mark.parametrize("texts", CACHES)
def test_a_stacked_run_is_the_run_alone(texts: tuple[str, ...]) -> None:
    features = features_of()
    pooled = features.pooled("mean")
    found = train_superb(pooled, LABELS, FOLDS, [0, 1], STACK, extras=extras(texts))
    for outcome, fold in zip(found, [f for f in FOLDS for _ in range(2)], strict=True):
        (alone,) = train_superb(pooled, LABELS, [fold], [outcome.seed], STACK, extras=extras(texts))
        np.testing.assert_array_equal(alone.predictions, outcome.predictions)
        assert alone.dev_curve == outcome.dev_curve
    view = FrameView(features, features.ids, "all")
    both = run_frames(view, LABELS, FOLDS, [0], FRAMES, extras=extras(texts))
    (alone,) = run_frames(view, LABELS, FOLDS[1:], [0], FRAMES, extras=extras(texts))
    np.testing.assert_array_equal(alone.predictions, both[1].predictions)
    assert (alone.dev_curve, alone.domain_curve) == (both[1].dev_curve, both[1].domain_curve)


@pytest.mark.parametrize("texts", CACHES[:2])
def test_a_planted_domain_is_found_and_then_forgotten(texts: tuple[str, ...]) -> None:
    features, heard = features_of(), {}
    config = replace(STACK, steps=300)
    for reversal in (0.0, 1.0):
        outcomes = train_superb(
            features.pooled("mean"), LABELS, FOLDS, [0, 1], config, extras=extras(texts, reversal)
        )
        heard[reversal] = np.mean([[a for _, a in o.domain_curve] for o in outcomes], axis=0)
    assert heard[0.0][-1] > 0.9
    assert heard[1.0][-5:].mean() < 0.65


@pytest.mark.usefixtures("thin_resnets")
def test_a_resnet_takes_it_too() -> None:
    added = np.arange(COUNT) % 3 == 0
    cache = cache_of(("mixup:alpha=1", "time-mask"), 1, BANDS)
    how = Extras(added, np.zeros(COUNT, np.int64), Strategy("adversarial"), cache=cache)
    config = replace(QUICK, epochs=2, batch=10, select="last")
    found = run_resnet(planted_view(), planted_labels(), [FOLD], [0], config, extras=how)
    again = run_resnet(planted_view(), planted_labels(), [FOLD], [0], config, extras=how)
    assert found[0].domain_curve == again[0].domain_curve
    assert [epoch for epoch, _ in found[0].domain_curve] == [1, 2]


def test_domain_steps_leave_the_gradient_of_a_minibatch_that_is_not_yet_whole() -> None:
    head = build_head("mlp", FrameShape(1, 4, 2, 3), 0)
    fuser = [p for name, p in head.named_parameters() if not name.startswith("output.")]
    make = lambda params, decay: torch.optim.AdamW(params, 1e-2, weight_decay=decay)  # noqa: E731
    adversary = FrameAdversary(head.embed, fuser, head.output, 1, 1.0, make)
    frames, counts = torch.randn(6, 1, 4), torch.tensor([4, 2])
    head(frames, counts).square().sum().backward()
    before = [param.grad.clone() for param in fuser]
    adversary.update([(frames, counts, torch.tensor([0.0, 1.0]))])
    assert all(torch.equal(param.grad, own) for param, own in zip(fuser, before, strict=True))


def test_the_third_step_is_taken_at_its_share_of_the_rate() -> None:
    """Adam's first step is as long as its rate, whatever the gradient."""
    shape, rng = SuperbShape(LAYERS, DIM, CLASSES, 5), np.random.default_rng(0)
    stack = SuperbStack(shape, 2, torch.device("cpu"))
    for run in range(2):
        stack.load(run, initial_weights(shape, rng))
    added = torch.from_numpy(ADDED)
    adversary = StackAdversary(stack, added, [0.1, 0.4], [rng] * 2, 0.25, clip=1.0)
    fuser, classifier = stack.blocks[0].clone(), adversary.params.clone()
    index = torch.arange(2 * 8).view(2, 8)
    table = torch.from_numpy(features_of().pooled("mean")).view(-1, DIM)
    rows = index.unsqueeze(-1) * LAYERS + torch.arange(LAYERS)
    adversary.update(table, rows, index, torch.full((2, 8), 1 / 8))
    moved = [
        (now - before).abs().flatten(1).median(dim=1).values
        for now, before in ((stack.blocks[0], fuser), (adversary.params, classifier))
    ]
    torch.testing.assert_close(moved[0], torch.tensor([0.025, 0.1]), rtol=0.01, atol=0)
    torch.testing.assert_close(moved[1], torch.tensor([0.1, 0.4]), rtol=0.01, atol=0)


def test_heads_on_frames_transfer_at_the_lower_rate() -> None:
    strategy = Strategy("transfer", share=0.25, factor=0.1)
    how = Extras(ADDED, features_of().num_frames, strategy)
    shape = FrameShape(LAYERS, DIM, CLASSES, 8)
    run = FrameRun(Run(0, 0, 1e-2, 0), FOLDS[0], shape, FRAMES, LABELS, torch.device("cpu"), how)
    rates = []
    for epoch in range(1, FRAMES.epochs + 1):
        run.start_epoch(epoch)
        rates.append(run._optimiser.param_groups[0]["lr"])
        assert ADDED[run.rows].all() if epoch <= 3 else not ADDED[run.rows].any()
    assert rates == [1e-2] * 3 + [pytest.approx(1e-3)] * 9


def test_a_reversal_of_nearly_zero_is_none_where_minibatches_span_windows() -> None:
    features = features_of()
    view = FrameView(features, features.ids, "all")
    config = replace(FRAMES, window_bytes=int(view.num_frames.sum()) * view.frame_bytes // 4)
    found = [
        run_frames(view, LABELS, FOLDS, [0], config, extras=extras((), reversal))
        for reversal in (0.0, 1e-30)
    ]
    for plain, other in zip(*found, strict=True):
        assert plain.dev_curve == other.dev_curve
        assert plain.domain_curve == other.domain_curve
