from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ser_features.train.cache_augment import CacheAugment, CacheDraw, parse_cache
from ser_features.train.chunks import Batch, Chunk, _cut, augmented, draw_epoch
from ser_features.train.resnet_recipes import RESNET_RECIPES
from ser_features.train.specaugment import POLICIES

COUNTS = st.lists(st.integers(1, 60), min_size=2, max_size=40)


@settings(max_examples=60)
@given(
    counts=COUNTS,
    batch=st.integers(2, 12),
    chunks=st.lists(st.integers(1, 50), min_size=1, max_size=3),
    policy=st.sampled_from(["none", *POLICIES]),
    seed=st.integers(0, 99),
)
def test_an_epoch_takes_every_row_once_and_its_copies(
    counts: list[int], batch: int, chunks: list[int], policy: str, seed: int
) -> None:
    config = replace(
        RESNET_RECIPES["transfer"], batch=batch, chunks=tuple(chunks), spec_augment=policy
    ).validate()
    rows = np.random.default_rng(seed).permutation(len(counts))[: max(2, len(counts) // 2)]
    drawn = draw_epoch(rows, np.array(counts), 20, config, np.random.default_rng(seed))
    slots = [chunk for each in drawn for chunk in each.chunks]
    copies = 0 if policy == "none" else POLICIES[policy].copies
    assert sorted(c.row for c in slots if c.masks is None) == sorted(rows)
    assert sorted(c.row for c in slots if c.masks is not None) == sorted(rows.tolist() * copies)
    for each in drawn:
        assert each.frames in chunks
        assert 2 <= len(each.chunks) <= batch + 1
        for chunk in each.chunks:
            assert chunk.length == min(each.frames, counts[chunk.row])
            assert 0 <= chunk.start <= counts[chunk.row] - chunk.length
    sizes = [len(each.chunks) for each in drawn]
    assert all(size == batch for size in sizes[:-2])
    again = draw_epoch(rows, np.array(counts), 20, config, np.random.default_rng(seed))
    assert drawn == again


def test_no_chunk_is_ever_alone_in_a_minibatch() -> None:
    for count in range(2, 40):
        for batch in range(2, 13):
            parts = _cut(np.arange(count), batch)
            assert np.concatenate(parts).tolist() == list(range(count))
            assert all(2 <= len(part) <= batch + 1 for part in parts)
            assert all(len(part) == batch for part in parts[:-1])


@given(st.lists(st.integers(1, 50), min_size=2, max_size=60), st.integers(3, 20))
def test_micro_batches_hold_each_chunk_once_by_length(lengths: list[int], size: int) -> None:
    batch = Batch(50, tuple(Chunk(i, 0, length) for i, length in enumerate(lengths)))
    parts = batch.micro_batches(size)
    flat = [chunk.length for part in parts for chunk in part]
    assert flat == sorted(lengths, reverse=True)
    assert sorted(chunk.row for part in parts for chunk in part) == list(range(len(lengths)))
    assert all(2 <= len(part) <= size for part in parts)


def test_every_start_and_every_length_is_drawn() -> None:
    config = replace(RESNET_RECIPES["transfer"], batch=4, chunks=(10, 12))
    rng = np.random.default_rng(0)
    drawn = [
        each
        for _ in range(200)
        for each in draw_epoch(np.arange(4), np.full(4, 14), 8, config, rng)
    ]
    assert {each.frames for each in drawn} == {10, 12}
    starts = {(each.frames, chunk.start) for each in drawn for chunk in each.chunks}
    assert starts == {(10, s) for s in range(5)} | {(12, s) for s in range(3)}


def drawn_for(partner: np.ndarray, *, joined: bool) -> CacheDraw:
    own = np.linspace(0.1, 0.9, len(partner)).astype(np.float32)
    return CacheDraw(partner, own, 1 - own, own, joined, ())


@given(
    st.lists(st.integers(1, 30), min_size=2, max_size=12),
    st.sampled_from([(), ("copypaste-se:share=1",), ("mixup",)]),
    st.sampled_from([0.0, 0.3, 1.0]),
    st.integers(0, 99),
)
def test_masks_lie_in_the_chunk_and_mixing_keeps_the_weight(
    lengths: list[int], pairing: tuple[str, ...], p: float, seed: int
) -> None:
    batch = Batch(30, tuple(Chunk(i, 2 * i, n) for i, n in enumerate(lengths)))
    masks = (f"time-mask:p={p},masks=2", "feature-mask:p=0.5")
    cache = CacheAugment(parse_cache((*pairing, *masks), frames=True), 1, 8)
    labels, rng = np.arange(len(lengths)) % 2, np.random.default_rng(seed)
    drawn = cache.draw(labels, np.array(lengths), rng)
    for i, chunk in enumerate(augmented(batch, drawn).chunks):
        partner = batch.chunks[drawn.partner[i]]
        alone = drawn.partner[i] == i
        assert chunk.mixed == (partner if pairing == ("mixup",) and not alone else None)
        assert chunk.share == (1.0 if chunk.mixed is None else drawn.label[i])
        assert (chunk.pasted is not None) == ("copypaste" in "".join(pairing) and not alone)
        assert chunk.hidden is not None
        assert len(chunk.hidden.frames) == 2
        for start, width in chunk.hidden.frames:
            assert 0 <= start <= start + width <= chunk.total
            assert width <= p * chunk.total
        ((start, width),) = chunk.hidden.bands
        assert 0 <= start <= start + width <= 8
        assert width <= 4


@given(st.lists(st.integers(1, 30), min_size=2, max_size=12), st.integers(0, 99))
def test_pasting_follows_the_partner_and_leaves_singles(lengths: list[int], seed: int) -> None:
    batch = Batch(30, tuple(Chunk(i, 2 * i, n) for i, n in enumerate(lengths)))
    partner = np.random.default_rng(seed).integers(0, len(lengths), len(lengths))
    found = augmented(batch, drawn_for(partner, joined=True))
    for i, (chunk, p) in enumerate(zip(found.chunks, partner.tolist(), strict=True)):
        assert (chunk.row, chunk.start, chunk.length) == (i, 2 * i, lengths[i])
        assert chunk.pasted == (None if p == i else batch.chunks[p])
        assert chunk.total == lengths[i] + (0 if p == i else lengths[p])
    totals = [c.total for part in found.micro_batches(3) for c in part]
    assert totals == sorted(totals, reverse=True)
