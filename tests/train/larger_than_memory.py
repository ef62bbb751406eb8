"""Train on more frames than this process may hold; run by test_frames in a process of its own."""

import gc
import resource
import sys
import time
from pathlib import Path

import numpy as np

from fake_features import outputs_of, spec_of
from ser_features.records import Shard
from ser_features.store.reader import FeatureSet, open_feature_set
from ser_features.store.writer import StoreWriter
from ser_features.train.frame_recipes import FrameConfig
from ser_features.train.frames import run_frames
from ser_features.train.stack import IndexedFold
from ser_features.views import FrameView

COUNT, LENGTH, LAYERS, DIM, CLASSES, ROWS = 640, 200, 4, 256, 4, 64
MIB = 2**20
# Held, the frames are 500 MiB of float32; streamed, the address space grows by 175 MiB at most with
# no limit at all. So neither end hangs on when a thread starts or an allocator gives back.
ALLOWED = 220 * MIB
LABELS = np.arange(COUNT) % CLASSES


def write(root: Path) -> FeatureSet:
    spec = spec_of(LAYERS, DIM, "float16", capacity=ROWS * LENGTH, rows=ROWS)
    rng = np.random.default_rng(0)
    with StoreWriter(root, spec) as writer:
        shards = [
            Shard(k, tuple(f"u{i:04d}" for i in range(k * ROWS, (k + 1) * ROWS)),
                  (LENGTH,) * ROWS, k * spec.capacity)
            for k in range(COUNT // ROWS)
        ]  # fmt: skip
        writer.add_plan(shards)
        for shard in shards:
            frames = {key: _frames(rng, LABELS[int(key[1:])]) for key in shard.ids}
            writer.write(shard, outputs_of(shard, frames, "float16"))
    return open_feature_set(root, writer.name)


def _frames(rng: np.random.Generator, label: int) -> np.ndarray:
    values = rng.standard_normal((LENGTH, LAYERS, DIM), np.float32)
    values[:, :, label] += 1
    return values.astype(np.float16)


def fold(count: int) -> IndexedFold:
    part = np.arange(count) // CLASSES % 5
    return IndexedFold(
        "f", np.flatnonzero(part < 3), np.flatnonzero(part == 3), np.flatnonzero(part == 4)
    )


def train(features: FeatureSet, count: int, memory: int) -> float:
    ids = features.ids[:count]
    config = FrameConfig(
        hidden=16, epochs=3, batch=32, lrs=(1e-2,), window_bytes=24 * MIB, memory_bytes=memory
    )
    view, sides = FrameView(features, ids, "all"), fold(count)
    outcome = run_frames(view, LABELS[:count], [sides], [0], config)[0]
    return float((outcome.predictions == LABELS[sides.test]).mean())


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def main() -> None:
    features = write(Path(sys.argv[1]) / "store")
    size = COUNT * LENGTH * LAYERS * DIM * 2
    train(features, 100, 48 * MIB)  # starts threads and libraries; held
    train(features, 200, 48 * MIB)  # streamed
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak of writing
    before, resident = _status("VmSize"), _status("VmRSS")
    resource.setrlimit(resource.RLIMIT_AS, (before + ALLOWED, before + ALLOWED))
    try:
        train(features, COUNT, 100 * size)
        say("held: trained")
    except (MemoryError, RuntimeError) as error:
        say(f"held: out of memory ({str(error).splitlines()[0][:90]})")
    gc.collect()
    started = time.perf_counter()
    accuracy = train(features, COUNT, 48 * MIB)
    assert accuracy > 0.9, accuracy
    grown = _status("VmHWM") - resident
    say(f"streamed: trained in {time.perf_counter() - started:.1f} s, accuracy {accuracy:.2f}")
    say(f"{size / MIB:.0f} MiB of frames, {ALLOWED / MIB:.0f} MiB allowed")
    say(f"peak resident {grown / MIB:+.0f} MiB")


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    main()
