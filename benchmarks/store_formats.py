"""Ways to keep the frames of a corpus, one class each, for bench_store.py."""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np

from ser_features.extract.estimate import object_frames
from ser_features.extract.plan import PlanItem, plan_shards
from ser_features.records import FeatureSetSpec, Source
from ser_features.store.outputs import ShardOutputs
from ser_features.store.reader import open_feature_set
from ser_features.store.writer import StoreWriter

CHUNK = 256


@dataclass(frozen=True)
class Setting:
    utterances: int = 32
    layers: int = 13
    dim: int = 768
    longest: int = 600
    rounds: int = 5
    picks: int = 12  # random utterances a round


@dataclass(frozen=True)
class Data:
    """Utterances in stored order: ``frames`` [sum, L, D] float16, ``starts`` of each."""

    ids: tuple[str, ...]
    counts: tuple[int, ...]
    starts: tuple[int, ...]
    frames: np.ndarray
    capacity: int


def make_data(setting: Setting) -> Data:
    rng = np.random.default_rng(0)
    lengths = np.sort(rng.integers(setting.longest // 10, setting.longest, setting.utterances))
    counts = tuple(int(n) for n in lengths[::-1])
    shape = (sum(counts), setting.layers, setting.dim)
    frames = rng.standard_normal(shape, dtype=np.float32).astype(np.float16)
    ids = tuple(f"u{i:04d}" for i in range(len(counts)))
    starts = tuple(int(n) for n in np.cumsum((0, *counts[:-1])))
    return Data(ids, counts, starts, frames, object_frames(setting.layers, setting.dim, "float16"))


class Format(ABC):
    """One way to keep the frames; each has its own folder."""

    name = ""

    def __init__(self, folder: Path, data: Data) -> None:
        self.folder, self.data = folder / self.name, data
        self.folder.mkdir()

    @abstractmethod
    def write(self) -> None:
        """Keep all of ``data``."""

    def open(self) -> None:  # noqa: B027  (not every format has anything to open)
        """What is done once before reading."""

    def forget(self) -> None:  # noqa: B027
        """Let go of what keeps pages in memory."""

    @abstractmethod
    def whole(self) -> Iterator[np.ndarray]:
        """All frames in order, in pieces of at most a shard."""

    @abstractmethod
    def utterance(self, i: int) -> np.ndarray:
        """The frames of one utterance."""

    @abstractmethod
    def layer(self, k: int) -> Iterator[np.ndarray]:
        """One layer of all frames, in pieces."""

    def pieces(self) -> Iterator[slice]:
        total = len(self.data.frames)
        for start in range(0, total, self.data.capacity):
            yield slice(start, min(start + self.data.capacity, total))

    def span(self, i: int) -> slice:
        return slice(self.data.starts[i], self.data.starts[i] + self.data.counts[i])


class Ours(Format):
    name = "serfeat"

    def write(self) -> None:
        layers, dim = self.data.frames.shape[1:]
        key = sha256(b"bench_store").hexdigest()
        spec = FeatureSetSpec("bench", "random", "clean", key, layers, dim, "float16", 32,
                              self.data.capacity)  # fmt: skip
        pairs = zip(self.data.ids, self.data.counts, strict=True)
        items = [PlanItem(name, count, count) for name, count in pairs]
        at = dict(zip(self.data.ids, range(len(items)), strict=True))
        with StoreWriter(self.folder, spec) as writer:
            writer.add_plan(plan_shards(items, rows=spec.rows, capacity=spec.capacity))
            for shard in writer.pending:
                rows = [self.data.frames[self.span(at[name])] for name in shard.ids]
                pooled = np.zeros((len(rows), layers, dim), np.float32)
                sources = tuple(Source(name, "-", 1, 1, key) for name in shard.ids)
                frames = np.concatenate(rows)
                writer.write(shard, ShardOutputs(sources, pooled, pooled, pooled, frames))
            self.spec = spec

    def open(self) -> None:
        self.store = open_feature_set(self.folder, self.spec)

    def whole(self) -> Iterator[np.ndarray]:
        return (shard.frames for shard in self.store.iter_shards())

    def utterance(self, i: int) -> np.ndarray:
        return self.store.frames(self.data.ids[i])

    def layer(self, k: int) -> Iterator[np.ndarray]:
        return (shard.frames[:, 0] for shard in self.store.iter_shards([k]))


class Raw(Format):
    """One file of nothing but the values, and a memory map of it."""

    name = "raw"

    def __init__(self, folder: Path, data: Data) -> None:
        super().__init__(folder, data)
        self.path = self.folder / "frames.bin"

    def write(self) -> None:
        with self.path.open("wb") as file:
            self.data.frames.tofile(file)
            file.flush()
            os.fsync(file.fileno())

    def open(self) -> None:
        self.map = np.memmap(self.path, np.float16, "r", shape=self.data.frames.shape)

    def forget(self) -> None:
        del self.map

    def whole(self) -> Iterator[np.ndarray]:
        shape = self.data.frames.shape[1:]
        with self.path.open("rb") as file:
            for piece in self.pieces():
                count = (piece.stop - piece.start) * shape[0] * shape[1]
                yield np.fromfile(file, np.float16, count).reshape(-1, *shape)

    def utterance(self, i: int) -> np.ndarray:
        return np.array(self.map[self.span(i)])

    def layer(self, k: int) -> Iterator[np.ndarray]:
        return (np.array(self.map[piece, k]) for piece in self.pieces())


class NumpyFiles(Format):
    """A .npy file for every utterance."""

    name = "npy-files"

    def path(self, i: int) -> Path:
        return self.folder / f"{self.data.ids[i]}.npy"

    def write(self) -> None:
        for i in range(len(self.data.ids)):
            np.save(self.path(i), self.data.frames[self.span(i)])

    def whole(self) -> Iterator[np.ndarray]:
        return (self.utterance(i) for i in range(len(self.data.ids)))

    def utterance(self, i: int) -> np.ndarray:
        return np.load(self.path(i))

    def layer(self, k: int) -> Iterator[np.ndarray]:
        for i in range(len(self.data.ids)):
            yield np.array(np.load(self.path(i), mmap_mode="r")[:, k])


class Sliced(Format):
    """A library whose array is sliced like numpy's."""

    def whole(self) -> Iterator[np.ndarray]:
        return (self.read(piece) for piece in self.pieces())

    def utterance(self, i: int) -> np.ndarray:
        return self.read(self.span(i))

    def layer(self, k: int) -> Iterator[np.ndarray]:
        return (self.read((piece, k)) for piece in self.pieces())

    def read(self, what: object) -> np.ndarray:
        return np.asarray(self.array[what])


class Hdf5(Sliced):
    name = "h5py"

    def write(self) -> None:
        import h5py

        with h5py.File(self.folder / "x.h5", "w") as file:
            chunks = (CHUNK, 1, self.data.frames.shape[2])
            file.create_dataset("frames", data=self.data.frames, chunks=chunks)

    def open(self) -> None:
        import h5py

        self.array = h5py.File(self.folder / "x.h5", "r")["frames"]


class ZarrPython(Sliced):
    name = "zarr"
    pipeline = "zarr.core.codec_pipeline.BatchedCodecPipeline"

    def write(self) -> None:
        import zarr

        _, layers, dim = shape = self.data.frames.shape
        with zarr.config.set({"codec_pipeline.path": self.pipeline}):
            array = zarr.create_array(
                str(self.folder / "a"),
                shape=shape,
                dtype="float16",
                chunks=(CHUNK, 1, dim),
                shards=(self.data.capacity, layers, dim),
                compressors=[zarr.codecs.Crc32cCodec()],
                overwrite=True,
            )
            array[:] = self.data.frames

    def open(self) -> None:
        import zarr

        with zarr.config.set({"codec_pipeline.path": self.pipeline}):
            self.array = zarr.open_array(str(self.folder / "a"), mode="r")


class Zarrs(ZarrPython):
    name = "zarrs"
    pipeline = "zarrs.ZarrsCodecPipeline"


class Tensorstore(Sliced):
    name = "tensorstore"

    def spec(self) -> dict[str, object]:
        _, layers, dim = self.data.frames.shape
        little = {"name": "bytes", "configuration": {"endian": "little"}}
        inner = {
            "chunk_shape": [CHUNK, 1, dim],
            "codecs": [little, {"name": "crc32c"}],
            "index_codecs": [little, {"name": "crc32c"}],
        }
        return {
            "driver": "zarr3",
            "kvstore": {"driver": "file", "path": str(self.folder / "a")},
            "metadata": {
                "shape": list(self.data.frames.shape),
                "data_type": "float16",
                "chunk_grid": {
                    "name": "regular",
                    "configuration": {"chunk_shape": [self.data.capacity, layers, dim]},
                },
                "codecs": [{"name": "sharding_indexed", "configuration": inner}],
            },
        }

    def write(self) -> None:
        import tensorstore

        array = tensorstore.open(self.spec(), create=True, delete_existing=True).result()
        array.write(self.data.frames).result()

    def open(self) -> None:
        import tensorstore

        self.array = tensorstore.open(self.spec(), open=True).result()

    def read(self, what: object) -> np.ndarray:
        return self.array[what].read().result()


FORMATS = (Ours, Raw, NumpyFiles, Tensorstore, Zarrs, ZarrPython, Hdf5)
NEEDS = {"tensorstore": "tensorstore", "zarrs": "zarrs", "zarr": "zarr", "h5py": "h5py"}
