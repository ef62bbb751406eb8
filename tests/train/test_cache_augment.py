"""Augmentation on the cache: what is drawn, and that pooled and frame forms are what they say."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy

from fake_features import FakeFeatures
from ser_features.errors import UsageError
from ser_features.heads.superb import SuperbShape, SuperbStack, initial_weights
from ser_features.train.cache_apply import StackCache, augmented_frames, blended_loss
from ser_features.train.cache_augment import (
    CACHE_AUGMENTATIONS,
    CacheAugment,
    draw_bands,
    parse_cache,
)
from ser_features.train.extras import Extras
from ser_features.train.frame_recipes import FrameConfig
from ser_features.train.frames import run_frames
from ser_features.train.recipes import SuperbConfig
from ser_features.train.run import Training
from ser_features.train.stack import IndexedFold
from ser_features.train.stream import HeldFrames
from ser_features.train.superb import train_superb
from ser_features.views import FrameView

LAYERS, DIM, CLASSES, NEUTRAL = 3, 6, 3, 1


def cache_of(*texts: str) -> CacheAugment:
    named = ["layer-mask:p=0.4" if text == "layer-mask" else text for text in texts]
    return CacheAugment(parse_cache(named, frames=True), LAYERS, DIM, NEUTRAL)


@given(
    st.lists(st.integers(1, 300), min_size=1, max_size=9),
    st.floats(0, 1),
    st.integers(1, 4),
    st.integers(0, 999),
)
def test_a_mask_is_never_wider_than_its_share(
    sizes: list[int], p: float, masks: int, seed: int
) -> None:
    bands = draw_bands(np.array(sizes), p, masks, np.random.default_rng(seed))
    first, end = bands[..., 0], bands[..., 1]
    assert bands.shape == (len(sizes), masks, 2)
    assert (first >= 0).all()
    assert (end <= np.array(sizes)[:, None]).all()
    assert (end >= first).all()
    assert ((end - first) <= p * np.array(sizes)[:, None]).all()


@given(st.sampled_from(sorted(CACHE_AUGMENTATIONS)), st.integers(0, 999), st.integers(1, 20))
def test_draws_follow_from_the_generator_and_stay_in_the_minibatch(
    name: str, seed: int, size: int
) -> None:
    labels = np.random.default_rng(seed).integers(0, CLASSES, size)
    lengths = np.random.default_rng(seed + 1).integers(1, 50, size)
    one, two = (cache_of(name).draw(labels, lengths, np.random.default_rng(seed)) for _ in range(2))
    np.testing.assert_array_equal(one.partner, two.partner)
    np.testing.assert_array_equal(one.label, two.label)
    assert ((one.partner >= 0) & (one.partner < size)).all()
    np.testing.assert_allclose(one.own + one.other, 1, rtol=1e-6)
    paired = one.other > 0
    if name.startswith("copypaste"):
        assert (one.label == 1).all()  # the own label stays
        given = labels[one.partner][paired]
        same, neutral = given == labels[paired], given == NEUTRAL
        wanted = {"copypaste-se": same.all(), "copypaste-n": neutral.all()}
        assert wanted.get(name, same.all() or neutral.all())
        share = lengths / (lengths + lengths[one.partner])
        np.testing.assert_allclose(one.own[paired], share[paired], rtol=1e-6)


def test_copypaste_takes_its_share_of_the_minibatches() -> None:
    labels, lengths = np.arange(12) % CLASSES, np.full(12, 5)
    rng = np.random.default_rng(0)
    drawn = [cache_of("copypaste-n+se").draw(labels, lengths, rng) for _ in range(2000)]
    neutral = sum(one.joined and (labels[one.partner] == NEUTRAL).all() for one in drawn)
    assert np.mean([one.joined for one in drawn]) == pytest.approx(0.8, abs=0.03)
    assert neutral / len(drawn) == pytest.approx(0.4, abs=0.03)


def pooled_and_frames(seed: int = 0, num: int = 8):
    rng = np.random.default_rng(seed)
    frames = {
        f"u{i}": rng.standard_normal((int(rng.integers(2, 9)), LAYERS, DIM)).astype(np.float32)
        for i in range(num)
    }
    features = FakeFeatures(frames)
    view = FrameView(features, features.ids, "all")
    held = HeldFrames(view, np.arange(num), 2**30, 1, torch.device("cpu"))
    (window,) = held.windows([np.arange(num)])
    labels = rng.integers(0, CLASSES, num)
    return features, view, window, labels


@pytest.mark.parametrize(
    "name", ["copypaste-se", "copypaste-n+se", "feature-mask", "layer-mask", "mixup"]
)
def test_pooled_forms_are_the_means_of_the_frame_forms(name: str) -> None:
    features, view, window, labels = pooled_and_frames()
    share = ":share=1" if "paste" in name else ":p=0.7" if "mask" in name else ""
    cache, rows = cache_of(name + share), np.array([3, 0, 5, 1, 6])
    lengths = view.num_frames
    drawn = cache.draw(labels[rows], lengths[rows], np.random.default_rng(1))
    if name == "mixup":  # exact where lengths agree: cycling repeats whole utterances
        rows = np.repeat(rows[:1], 5)
    frames, counts = augmented_frames(window, rows, drawn, np.arange(5), False)
    means = torch.stack([part.mean(0) for part in frames.split(counts.tolist())])  # [B, L, D]
    rngs = [np.random.default_rng(1)]
    pooled = StackCache(cache, labels, lengths, rngs, torch.device("cpu"))
    original = np.array([3, 0, 5, 1, 6])
    blend = pooled.blend(pooled.draw(original[None]))
    table = torch.from_numpy(features.pooled("mean"))
    other = table[rows[drawn.partner]]
    own = table[rows]
    expected = own * blend.own[0][:, None, None] + other * blend.other[0][:, None, None]
    expected = expected * blend.layers[0][..., None] * blend.features[0][:, None]
    torch.testing.assert_close(means, expected, atol=1e-5, rtol=1e-5)
    assert drawn.other.any() or drawn.bands


def test_the_stacked_gradient_of_blended_minibatches_is_autograds() -> None:
    rng = np.random.default_rng(0)
    features = torch.from_numpy(rng.standard_normal((20, LAYERS, DIM)).astype(np.float32))
    labels, lengths = rng.integers(0, CLASSES, 20), rng.integers(1, 9, 20)
    for texts in (("mixup:alpha=1", "layer-mask:p=0.7"), ("copypaste-n:share=1", "feature-mask")):
        cache, shape = cache_of(*texts), SuperbShape(LAYERS, DIM, CLASSES, 5)
        stack = SuperbStack(shape, 2, torch.device("cpu"))
        for run in range(2):
            stack.load(run, initial_weights(shape, rng))
        stack.params[4].normal_(generator=torch.Generator().manual_seed(0))
        rngs = [np.random.default_rng(i) for i in range(2)]
        pooled = StackCache(cache, labels, lengths, rngs, torch.device("cpu"))
        index = rng.integers(0, 20, (2, 7))
        blend = pooled.blend(pooled.draw(index))
        at = torch.from_numpy(index)
        rows = at.unsqueeze(-1) * LAYERS + torch.arange(LAYERS)
        weight = torch.full((2, 7), 1 / 7)
        truth = torch.from_numpy(labels)[at]
        stack.backward(features.view(-1, DIM), rows, truth, weight, 1e9, blend)
        leaves = [p.detach().clone().requires_grad_() for p in stack.params]
        x = features[at] * blend.own[..., None, None]
        x = x + features[blend.rows[..., 0] // LAYERS] * blend.other[..., None, None]
        x = x * blend.layers[..., None] * blend.features[:, :, None]
        z = (x * leaves[4].softmax(1)[:, None, :, None]).sum(2)
        hidden = z @ leaves[0].transpose(1, 2) + leaves[1].transpose(1, 2)
        logits = hidden @ leaves[2].transpose(1, 2) + leaves[3].transpose(1, 2)
        flat = logits.view(-1, CLASSES)
        loss = sum(
            (share.flatten() * cross_entropy(flat, of.flatten(), reduction="none")).sum() / 7
            for share, of in ((blend.label, truth), (1 - blend.label, blend.labels))
        )
        loss.backward()
        ours = (stack.grads[0], *stack.views(stack.grads[1]))
        for mine, leaf in zip(ours, leaves, strict=True):
            torch.testing.assert_close(mine, leaf.grad, atol=1e-6, rtol=1e-4)


def test_labels_of_mixed_utterances_are_mixed() -> None:
    drawn = cache_of("mixup").draw(np.array([0, 2]), np.array([3, 3]), np.random.default_rng(0))
    logits = torch.randn(2, CLASSES, generator=torch.Generator().manual_seed(0))
    loss = blended_loss(logits, np.array([0, 2]), drawn, np.arange(2))
    target = torch.zeros(2, CLASSES)
    for i in range(2):
        target[i, [0, 2][i]] += drawn.label[i]
        target[i, [0, 2][drawn.partner[i]]] += 1 - drawn.label[i]
    torch.testing.assert_close(loss, cross_entropy(logits, target, reduction="sum"))


def toy_fold(num: int) -> IndexedFold:
    part = np.arange(num) // CLASSES % 5
    return IndexedFold("f", *(np.flatnonzero(np.isin(part, s)) for s in ((0, 1, 2), 3, 4)))


@pytest.mark.parametrize("name", sorted(CACHE_AUGMENTATIONS))
def test_trained_runs_learn_and_do_not_depend_on_their_neighbours(name: str) -> None:
    num = 90
    rng = np.random.default_rng(4)
    labels = np.arange(num) % CLASSES
    frames = {}
    for i, label in enumerate(labels):
        values = rng.standard_normal((int(rng.integers(2, 7)), LAYERS, DIM))
        values[:, :, 2 * label : 2 * label + 2] += 2
        frames[f"u{i:02d}"] = values
    features = FakeFeatures(frames)
    fold, cache = toy_fold(num), cache_of(name)
    how = Extras(np.zeros(num, bool), features.num_frames, cache=cache)
    view = FrameView(features, features.ids, "all")
    config = FrameConfig(hidden=16, epochs=15, batch=16, lrs=(1e-2,))
    found = run_frames(view, labels, [fold], [0, 1], config, extras=how)
    (alone,) = run_frames(view, labels, [fold], [1], config, extras=how)
    np.testing.assert_array_equal(alone.predictions, found[1].predictions)
    assert np.mean(found[0].predictions == labels[fold.test]) > 0.7
    if CACHE_AUGMENTATIONS[name].needs_frames:
        return
    pooled = features.pooled("mean")
    stack = SuperbConfig(steps=150, batch=16, micro_batch=16, lrs=(1e-2, 1e-3), eval_every=30)
    both = train_superb(pooled, labels, [fold], [0, 1], stack, extras=how)
    chosen = replace(stack, lrs=(both[1].setting["lr"],))
    (single,) = train_superb(pooled, labels, [fold], [1], chosen, extras=how)
    np.testing.assert_array_equal(single.predictions, both[1].predictions)
    plain = train_superb(pooled, labels, [fold], [0], stack)
    assert np.mean(both[0].predictions == labels[fold.test]) > 0.7
    assert not np.allclose(both[0].layer_weights, plain[0].layer_weights, atol=1e-6)


@pytest.mark.parametrize(
    ("texts", "error"),
    [
        (("mixip",), "did you mean 'mixup'"),
        (("mixup:beta=1",), "parameter of cache augmentation 'mixup'"),
        (("mixup:alpha=0",), "alpha=0: expected a number above 0"),
        (("layer-mask:p=1.5",), "p=1.5: expected a share from 0 to 1"),
        (("mixup", "copypaste-se"), "one that pairs"),
        (("time-mask",), "needs a head on frames"),
        (("feature-mask:masks=inf",), "masks=inf: expected a whole number from 1 to"),
        (("feature-mask:masks=1.5",), "masks=1.5: expected a whole number from 1 to"),
        (("feature-mask:masks=1e9",), r"masks=1e\+09: expected a whole"),
    ],
)
def test_what_makes_no_sense_is_refused(texts: tuple[str, ...], error: str) -> None:
    with pytest.raises(UsageError, match=error):
        parse_cache(texts, frames=False)


def test_it_is_part_of_the_recipe_and_needs_what_it_needs() -> None:
    described = Training(cache=("mixup",)).describe("superb")
    assert described["cache"] == ["mixup:alpha=0.2"]
    assert "cache" not in Training().describe("superb")
    with pytest.raises(UsageError, match=r"of 3 layers masks none: use p of 0\.33 or more"):
        CacheAugment(parse_cache(["layer-mask"], frames=False), 3, 4)
    with pytest.raises(UsageError, match="no class is 'neutral'"):
        CacheAugment(parse_cache(["copypaste-n"], frames=False), 1, 4)
    with pytest.raises(UsageError, match="'linear' does not know augmentation on the cache"):
        Training(cache=("mixup",)).describe("linear")
