"""How long an epoch of the ResNet heads takes, beside the same network as one writes it first.

    python benchmarks/bench_resnet.py --corpus EMODB/wav      # lengths of its recordings
    python benchmarks/bench_resnet.py --quick                 # small, made up, nothing written

Ours is one whole epoch of the trainer: micro-batches sorted by length, channels last. Plain pads
every chunk to the drawn 4 s and keeps torch's default layout; one update of 16 chunks is measured
and scaled to the epoch. Rounds alternate. The frames' values do not matter and are random, their
lengths are the recordings'. Also on record: an epoch in bfloat16, and with --transfer one of
resnet34-transfer. Writes results/resnet-cpu-DATE.json.
"""

import argparse
import datetime
import json
import shlex
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile
import torch
from bench_heads import RESULTS, machine, spread
from torch.nn.functional import cross_entropy

from ser_features.records import FeatureSetSpec
from ser_features.train.chunks import draw_epoch
from ser_features.train.resnet import ResNetRun
from ser_features.train.resnet_recipes import RESNET_RECIPES, ResNetConfig
from ser_features.train.spectrograms import Spectrograms
from ser_features.train.stack import IndexedFold, Run
from ser_features.upstreams.kaldi import num_frames
from ser_features.views import FrameView


class Noise:
    """Random frames [T, 1, bands] of given lengths, as a feature set gives them."""

    def __init__(self, lengths: list[int], bands: int) -> None:
        self.spec = FeatureSetSpec("noise", "logmel", "clean", "0" * 64, 1, bands, "float32", 8, 64)
        self.ids = tuple(f"u{i}" for i in range(len(lengths)))
        self.num_frames = np.array(lengths, np.int64)
        rng = np.random.default_rng(0)
        self.data = {
            key: rng.standard_normal((length, 1, bands), np.float32)
            for key, length in zip(self.ids, lengths, strict=True)
        }

    def frames(self, utterance: str, layers: object = None) -> np.ndarray:
        return self.data[utterance]


def emodb_lengths(folder: Path) -> list[int]:
    """Frames of every recording, from the headers."""
    paths = sorted(folder.rglob("*.wav"))
    return [num_frames(soundfile.info(str(path)).frames) for path in paths]


def started(config: ResNetConfig, lengths: list[int], bands: int) -> ResNetRun:
    """A run that trains on all utterances."""
    features = Noise(lengths, bands)
    rows = np.arange(len(lengths))
    labels = rows % 7
    view = FrameView(features, features.ids)
    fold = IndexedFold("all", rows, rows[:2], rows[:2])
    return ResNetRun(Run(0, 0, 1e-4, 0), fold, Spectrograms(view, rows, config), labels, config)


class Plain:
    """The same network and updates: every batch whole, padded to the drawn length."""

    def __init__(self, run: ResNetRun, batch: int) -> None:
        self.run, self.batch = run, batch
        run.network.to(memory_format=torch.contiguous_format)
        self.adam = torch.optim.Adam(run.network.parameters(), 1e-4)

    def update(self, number: int) -> int:
        """One update; utterances in it."""
        run, rng = self.run, np.random.default_rng(number)
        frames = run._frames
        config = replace(run.config, batch=self.batch)
        (first, *_) = draw_epoch(run.fold.train, frames.num_frames, frames.bands, config, rng)
        run.network.train()
        self.adam.zero_grad()
        x = frames.chunks(first.chunks, first.frames)
        labels = torch.from_numpy(run._labels[[chunk.row for chunk in first.chunks]])
        cross_entropy(run.network(x), labels).backward()
        self.adam.step()
        return len(first.chunks)


def epoch_seconds(run: ResNetRun, number: int) -> float:
    begun = time.perf_counter()
    run.train_epoch(number)
    return time.perf_counter() - begun


def measure(lengths: list[int], bands: int, rounds: int, plain_batch: int) -> dict[str, object]:
    config = replace(RESNET_RECIPES["copypaste"], vad=False)  # random frames have no voice
    ours = started(config, lengths, bands)
    plain = Plain(started(config, lengths, bands), plain_batch)
    mine, other = list[float](), list[float]()
    for number in range(1, rounds + 1):
        mine.append(epoch_seconds(ours, number))
        begun = time.perf_counter()
        count = plain.update(number)
        other.append((time.perf_counter() - begun) * len(lengths) / count)
    low = epoch_seconds(started(replace(config, precision="bfloat16"), lengths, bands), 1)
    return {
        "epoch_seconds": spread(mine),
        "plain_epoch_seconds": spread(other),
        "plain_over_ours": spread([b / a for a, b in zip(mine, other, strict=True)]),
        "epoch_seconds_bfloat16": low,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a second or two, nothing written")
    parser.add_argument("--corpus", type=Path, help="EMO-DB's folder of recordings")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--transfer", action="store_true", help="also resnet34-transfer's epoch")
    args = parser.parse_args()
    if not (args.quick or args.corpus):
        parser.error("name EMO-DB's folder with --corpus, or pass --quick")
    lengths = [20, 30, 25, 40] if args.quick else emodb_lengths(args.corpus)
    bands = 8 if args.quick else 128
    result = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["python", *sys.argv]),
        "machine": machine("cpu"),
        "utterances": len(lengths),
        "frames": sum(lengths),
        "bands": bands,
        "resnet34-copypaste": measure(lengths, bands, args.rounds, 4 if args.quick else 16),
    }
    if args.transfer:
        run = started(RESNET_RECIPES["transfer"], lengths, bands)
        result["resnet34-transfer"] = {"epoch_seconds": epoch_seconds(run, 1)}
    text = json.dumps(result, indent=1)
    print(text)
    if not args.quick:
        RESULTS.mkdir(exist_ok=True)
        day = datetime.datetime.now(datetime.UTC).date().isoformat()
        (RESULTS / f"resnet-cpu-{day}.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
