"""Small feature sets whose content follows from the utterance id, for the tests of the store."""

from collections.abc import Sequence
from hashlib import sha256
from math import ceil
from pathlib import Path

import numpy as np

from ser_features.fingerprint import fingerprint
from ser_features.records import FeatureSetSpec, Shard, Source
from ser_features.store.outputs import ShardOutputs
from ser_features.store.reader import open_feature_set
from ser_features.store.writer import StoreWriter


def make_spec(frames="float16", rows=4, capacity=8, num_layers=2, dim=3, **changes):
    values = {"corpus": "emodb", "upstream": "tiny", "augmentation": "clean"} | changes
    key = changes.get("key", fingerprint(["key", values]))
    provenance = {"upstream": {"source": "test", "revision": None}, "seed": 7}
    return FeatureSetSpec(
        **{**values, "key": key},
        num_layers=num_layers,
        dim=dim,
        frames=frames,
        rows=rows,
        capacity=capacity,
        provenance=provenance,
    )


def make_shards(spec, lengths: Sequence[int], index=0, frame=0, prefix="u") -> tuple[Shard, ...]:
    """Pack utterances of these lengths in their order, at most ``rows`` and ``capacity`` each."""
    groups: list[list[tuple[str, int]]] = []
    for i, length in enumerate(lengths):
        used = sum(count for _, count in groups[-1]) if groups else 0
        if not groups or len(groups[-1]) == spec.rows or used + length > spec.capacity:
            groups.append([])
        groups[-1].append((f"{prefix}{i}", length))
    shards = []
    for offset, group in enumerate(groups):
        ids, counts = zip(*group, strict=True)
        shards.append(Shard(index + offset, ids, counts, frame))
        frame += ceil(sum(counts) / spec.capacity) * spec.capacity
    return tuple(shards)


def source_of(key: str, salt: str = "") -> Source:
    return Source(key, f"/audio/{key}.wav", 100, 5, sha256((key + salt).encode()).hexdigest())


def _random(key: str, shape: tuple[int, ...]):
    seed = int.from_bytes(sha256(key.encode()).digest()[:8])
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def frames_of(spec, key: str, count: int):
    return _random(f"frames{key}", (count, spec.num_layers, spec.dim)).astype(spec.frames)


def pooled_of(spec, kind: str, key: str):
    return _random(kind + key, (spec.num_layers, spec.dim))


def outputs_of(spec, shard: Shard, present=None, salt="") -> ShardOutputs:
    pairs = [(k, c) for k, c in zip(shard.ids, shard.num_frames, strict=True)
             if present is None or k in present]  # fmt: skip
    shape = (0, spec.num_layers, spec.dim)

    def stack(kind):
        rows = [pooled_of(spec, kind, k + salt)[None] for k, _ in pairs]
        return np.concatenate([np.empty(shape, np.float32), *rows])

    frames = None
    if spec.frames != "none":
        rows = [frames_of(spec, k + salt, c) for k, c in pairs]
        frames = np.concatenate([np.empty(shape, spec.frames), *rows])
    sources = tuple(source_of(k, salt) for k, _ in pairs)
    return ShardOutputs(sources, stack("mean"), stack("std"), stack("mean_layernorm"), frames)


def fill(
    store: Path, spec=None, lengths=(5, 3, 4, 2, 2, 7), rejected=(), only=None
) -> FeatureSetSpec:
    """Write a whole small feature set; ``only`` limits the shards that are written."""
    spec = spec or make_spec()
    shards = make_shards(spec, lengths)
    with StoreWriter(store, spec) as writer:
        writer.add_plan(shards, [source_of(key) for shard in shards for key in shard.ids])
        for shard in shards:
            if only is None or shard.index in only:
                writer.write(shard, outputs_of(spec, shard, set(shard.ids) - set(rejected)))
    return spec


def content_of(store: Path, spec) -> dict:
    """All that a reader gives, as plain comparable values."""
    found = open_feature_set(store, spec)
    rows = {kind: found.pooled(kind).tobytes() for kind in ("mean", "std", "mean_layernorm")}
    frames = {}
    if spec.frames != "none":
        frames = {key: found.frames(key).tobytes() for key in found.ids}
    return {"ids": found.ids, "sources": found.sources, **rows, "frames": frames}
