"""What docs/scale.md computes with: bytes an hour, planning, and what each engine adds to a shard.

    python benchmarks/unit_costs.py            # about two minutes
    python benchmarks/unit_costs.py --quick

The encoder here computes nothing and returns outputs of the shape of a base model, so that what
remains is decoding, pooling, the way from the worker to the driver, and writing. Seconds per shard
are from the first shard that came back to the last; start-up is the time to the first.
Writes benchmarks/results/unit-costs-cpu-DATE.json.
"""

import argparse
import datetime
import json
import os
import platform
import shlex
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile
import torch

from ser_features.extract import pipeline
from ser_features.extract.estimate import estimate
from ser_features.extract.pipeline import Options, extract
from ser_features.extract.plan import PlanItem, plan_shards
from ser_features.extract.progress import Silent
from ser_features.manifest import Manifest
from ser_features.records import FeatureSetSpec, UpstreamInfo, Utterance
from ser_features.store.writer import StoreWriter
from ser_features.upstreams.protocol import LayerOutputs

RATE, LAYERS, DIM = 16_000, 13, 768
SHAPES = {"base": (13, 768), "large": (25, 1024)}
MEAN_SECONDS = 5.0
ENGINES = {
    "local": {},
    "processes": {"devices": "cpu"},
    "ray": {"engine": "ray", "devices": "cpu", "ray_address": "local"},
}


class Shaped:
    """The shape of a base model, without its work."""

    info = UpstreamInfo(
        "shaped", "shaped", LAYERS, DIM, RATE, 320, 400, 0, None, {"family": "shaped"}, {}
    )  # fmt: skip

    def num_frames(self, num_samples):
        return max(0, (num_samples - 400) // 320 + 1)

    def encode(self, waves):
        counts = tuple(self.num_frames(len(wave)) for wave in waves)
        return LayerOutputs(torch.ones(LAYERS, len(waves), max(counts), DIM), counts)


def load_shaped(request, *, device="cpu", precision="float32"):
    return Shaped()


class Clock(Silent):
    """When each shard came back."""

    def __init__(self):
        self.times = []

    def start(self, what, total, unit):
        self.encoding = what.startswith("extracting")  # not the reading of headers

    def advance(self, amount):
        if self.encoding:
            self.times.append(time.perf_counter())


def bytes_an_hour():
    """GB of arrays for an hour of utterances of MEAN_SECONDS, by the store's own estimate."""
    samples = int(MEAN_SECONDS * RATE)
    item = PlanItem("u", samples, (samples - 400) // 320 + 1)
    items, found = [item] * round(3600 / MEAN_SECONDS), {}
    for name, (layers, dim) in SHAPES.items():
        for kind in ("none", "float16"):
            spec = FeatureSetSpec("c", "u", "clean", "0" * 64, layers, dim, kind, 64, 65536)
            size = estimate(items, spec, RATE)
            what = "pooled" if kind == "none" else "pooled and frames"
            found[f"{name}, {what}"] = round(size.num_bytes / size.hours / 1e9, 3)
    return found


def planning(count):
    rng = np.random.default_rng(0)
    lengths = rng.integers(RATE, 10 * RATE, count)
    items = [PlanItem(f"u{i:07}", int(n), int(n) // 320) for i, n in enumerate(lengths)]
    started = time.perf_counter()
    shards = plan_shards(items, rows=64, capacity=65536)
    return {"utterances": count, "shards": len(shards), "seconds": time.perf_counter() - started}


def engines(num_shards, frames):
    """Seconds of start-up and per shard of each engine, with one worker."""
    pipeline.load_upstream = load_shaped
    rows, seconds = (32, 2.08) if frames else (64, 0.25)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.wav"
        soundfile.write(path, 0.1 * np.random.default_rng(0).standard_normal(RATE * 60), RATE)
        starts = [i * 0.01 for i in range(num_shards * rows)]
        utterances = [
            Utterance(f"u{i:06}", str(path), start=a, end=a + seconds) for i, a in enumerate(starts)
        ]
        manifest = Manifest("made-up", tuple(utterances))
        return {name: engine(manifest, Path(folder) / name, frames, how)
                for name, how in ENGINES.items()}  # fmt: skip


def engine(manifest, store, frames, how):
    clock, writes, write = Clock(), [], StoreWriter.write

    def timed(self, shard, outputs):
        started = time.perf_counter()
        write(self, shard, outputs)
        size = sum(a.nbytes for a in (outputs.mean, outputs.std, outputs.mean_layernorm))
        size += 0 if outputs.frames is None else outputs.frames.nbytes
        writes.append((size, time.perf_counter() - started))

    StoreWriter.write = timed
    started = time.perf_counter()
    try:
        extract(manifest, "shaped", store, Options(frames=frames, workers=1, **how), clock)
    finally:
        StoreWriter.write = write
    gaps = np.diff(clock.times)
    return {
        "shards": len(clock.times),
        "start_up": clock.times[0] - started,
        "seconds_per_shard": float(np.median(gaps)),
        "spread": [float(np.quantile(gaps, q)) for q in (0.25, 0.75)],
        "write_MB_per_s": sum(n for n, _ in writes) / sum(s for _, s in writes) / 1e6,
        "MB_per_shard": writes[0][0] / 1e6,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few seconds; no result is written")
    parser.add_argument("--output", type=Path, help="where to write; benchmarks/results if unset")
    asked = parser.parse_args()
    if asked.quick:
        for name in ("processes", "ray"):
            del ENGINES[name]
    found = {
        "command": shlex.join(["python", *sys.argv]),
        "date": datetime.date.today().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "GB_per_hour": bytes_an_hour(),
        "planning": planning(1000 if asked.quick else 1_000_000),
        "pooled": engines(3 if asked.quick else 40, frames=False),
        "frames": engines(2 if asked.quick else 12, frames=True),
    }
    folder = Path(__file__).parent / "results"
    default = folder / f"unit-costs-cpu-{found['date']}.json"
    text = json.dumps(found, indent=1)
    print(text)
    if asked.output or not asked.quick:
        (asked.output or default).write_text(text + "\n")


if __name__ == "__main__":
    main()
