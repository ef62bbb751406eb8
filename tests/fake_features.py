"""A feature set in memory, and one written to a real store, from given frames."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ser_features.records import FeatureSetSpec, Shard, Source
from ser_features.store.outputs import ShardOutputs
from ser_features.store.reader import FeatureSet, open_feature_set
from ser_features.store.writer import StoreWriter


def spec_of(
    num_layers: int, dim: int, frames: str = "float32", capacity: int = 64, rows: int = 8
) -> FeatureSetSpec:
    return FeatureSetSpec("toy", "net", "none", "0" * 64, num_layers, dim, frames, rows, capacity)


class FakeFeatures:
    """Frames [T, L, D] of each id, as a feature set gives them; counts what was read."""

    def __init__(self, frames: dict[str, NDArray[Any]], dtype: str = "float32") -> None:
        self.data = {key: value.astype(dtype) for key, value in frames.items()}
        first = next(iter(self.data.values()))
        self.spec = spec_of(first.shape[1], first.shape[2], dtype)
        self.reads: list[str] = []

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(self.data)

    @property
    def num_frames(self) -> NDArray[np.int64]:
        return np.array([len(value) for value in self.data.values()], np.int64)

    def pooled(
        self, kind: str, ids: Sequence[str] | None = None, layers: Sequence[int] | None = None
    ) -> NDArray[np.float32]:
        assert kind == "mean"
        means = [self.data[key].mean(0, dtype=np.float32) for key in ids or self.ids]
        whole = np.stack(means)  # [N, L, D]
        return whole if layers is None else whole[:, list(layers)]

    def frames(self, utterance: str, layers: Sequence[int] | None = None) -> NDArray[Any]:
        self.reads.append(utterance)
        whole = self.data[utterance]
        return whole if layers is None else whole[:, list(layers)]


def write_store(root: Path, frames: dict[str, NDArray[Any]], dtype: str = "float32") -> FeatureSet:
    """The same in a real store, a few utterances a shard."""
    first = next(iter(frames.values()))
    longest = max(len(value) for value in frames.values())
    spec = spec_of(first.shape[1], first.shape[2], dtype, capacity=max(256, longest))
    with StoreWriter(root, spec) as writer:
        start = 0
        shards = []
        keys = list(frames)
        for index in range(0, len(keys), spec.rows):
            part = tuple(keys[index : index + spec.rows])
            counts = tuple(len(frames[key]) for key in part)
            shards.append(Shard(len(shards), part, counts, start))
            start += -(-sum(counts) // spec.capacity) * spec.capacity
        writer.add_plan(shards)
        for shard in shards:
            writer.write(shard, outputs_of(shard, frames, dtype))
    return open_feature_set(root, writer.name)


def outputs_of(shard: Shard, frames: dict[str, NDArray[Any]], dtype: str) -> ShardOutputs:
    parts = [frames[key].astype(dtype) for key in shard.ids]
    mean = np.stack([part.astype(np.float32).mean(0) for part in parts])
    std = np.stack([part.astype(np.float32).std(0) for part in parts])
    sources = tuple(Source(key, f"{key}.wav", 1, 1, "0" * 64) for key in shard.ids)
    return ShardOutputs(sources, mean, std, mean, np.concatenate(parts))
