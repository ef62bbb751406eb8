"""How long the superb head takes to train: the stacked trainer beside one torch loop per run.

    python benchmarks/bench_heads.py            # SUPERB's recipe at IEMOCAP's size, random features
    python benchmarks/bench_heads.py --quick    # the same code, small and fast, nothing written

Both sides do the same updates on the same minibatches. The stacked trainer does the whole recipe;
the loop's time is measured on slices of it and scaled. Rounds alternate between the two. With
SERFEAT_S3PRL naming s3prl's folder (``make s3prl``), a few updates of s3prl's on-the-fly recipe run
beside (HuBERT base forward included) and its whole time follows from them. Writes
benchmarks/results/heads-DEVICE-DATE.json.
"""

import argparse
import datetime
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ser_features.heads.superb import SuperbShape, initial_weights
from ser_features.train.recipes import SUPERB_RECIPES, SuperbConfig
from ser_features.train.stack import EpochStream, IndexedFold, generators, list_runs
from ser_features.train.superb import StackTrainer, TrainingData, train_superb

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Setting:
    utterances: int = 5531
    layers: int = 13
    dim: int = 768
    classes: int = 4
    folds: int = 5
    seeds: int = 1
    rounds: int = 5
    slice_steps: int = 200


def problem(setting: Setting) -> tuple[np.ndarray, np.ndarray, list[IndexedFold]]:
    """Random features and labels; folds with SUPERB's proportions (test 1/K, dev 20 % of rest)."""
    rng = np.random.default_rng(0)
    n, k = setting.utterances, setting.folds
    features = rng.standard_normal((n, setting.layers, setting.dim), dtype=np.float32)
    labels = rng.integers(0, setting.classes, n)
    group = np.arange(n) % k
    folds = []
    for i in range(k):
        rest = rng.permutation(np.flatnonzero(group != i))
        cut = int(0.8 * len(rest))
        folds.append(IndexedFold(f"fold{i}", rest[:cut], rest[cut:], np.flatnonzero(group == i)))
    return features, labels, folds


class PlainRun:
    """One run as one writes it first: modules, autograd, Adam, gathered minibatches."""

    def __init__(self, data: TrainingData, config: SuperbConfig, fold: IndexedFold, lr: float):
        self.data, self.config = data, config
        init, order = generators(fold.name, 0)
        self.layers = len(data.layers)
        shape = SuperbShape(self.layers, data.table.shape[1], int(data.labels.max()) + 1)
        start = [torch.from_numpy(w).to(data.device) for w in initial_weights(shape, init)]
        self.params = [nn.Parameter(w) for w in start]
        self.adam = torch.optim.Adam(self.params, lr=lr)
        self.stream = EpochStream(
            fold.train, order, config.micro_batch, config.batch // config.micro_batch
        )

    def advance(self, steps: int) -> None:
        table = self.data.table.view(-1, self.layers, self.data.table.shape[1])
        index, weight = self.stream.take(steps)
        for rows, share in zip(index, weight, strict=True):
            on_device = torch.from_numpy(rows).to(self.data.device)
            x, y = table[on_device], self.data.labels[on_device]
            projector, bias, output, output_bias, scalars = self.params
            mixed = (scalars.softmax(0)[:, None] * x).sum(1)
            logits = (mixed @ projector.T + bias) @ output.T + output_bias
            losses = nn.functional.cross_entropy(logits, y, reduction="none")
            self.adam.zero_grad()
            (losses * torch.from_numpy(share).to(self.data.device)).sum().backward()
            nn.utils.clip_grad_norm_(self.params, self.config.clip)
            self.adam.step()


def seconds(work: Callable[[], object], device: str) -> float:
    started = time.perf_counter()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def slices(
    setting: Setting, config: SuperbConfig, device: str, parts: tuple
) -> dict[str, list[float]]:
    """Seconds of the whole recipe's updates, from alternating slices of both sides."""
    data = TrainingData(*parts, torch.device(device))
    folds = parts[2]
    runs = list_runs(folds, range(setting.seeds), config.lrs)
    shape = SuperbShape(setting.layers, setting.dim, setting.classes, config.hidden)
    stacked = StackTrainer(data, shape, runs, config)
    plain = PlainRun(data, config, folds[0], config.lrs[0])
    found: dict[str, list[float]] = {"stacked": [], "plain": []}
    steps = setting.slice_steps
    for _ in range(setting.rounds + 1):  # the first round warms up
        whole = config.steps / steps
        found["stacked"].append(seconds(lambda: stacked.advance(steps), device) * whole)
        once = seconds(lambda: plain.advance(steps), device)
        found["plain"].append(once * whole * len(runs))
    return {name: values[1:] for name, values in found.items()}


def spread(values: list[float]) -> dict[str, float]:
    return {
        "min": round(min(values), 3),
        "median": round(statistics.median(values), 3),
        "max": round(max(values), 3),
    }


def machine(device: str) -> dict[str, object]:
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = names[0].split(":")[1].strip() if names else model
    gpu = torch.cuda.get_device_name() if device == "cuda" else None
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": gpu,
        "load_1min": round(os.getloadavg()[0], 2),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def on_the_fly(updates: int, recipe_updates: int, stacked: float) -> dict[str, object] | None:
    """s3prl's own recipe: seconds of an update, and from it of all runs; None without s3prl."""
    if not updates or "SERFEAT_S3PRL" not in os.environ:
        return None
    script = Path(__file__).with_name("s3prl_update.py")
    command = [sys.executable, str(script), "--updates", str(updates)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found = json.loads(done.stdout.splitlines()[-1])
    one = statistics.median(found["seconds"])
    return {
        "update_seconds": spread(found["seconds"]),
        "update_audio_seconds": found["audio_seconds"],
        "whole_recipe_seconds": one * recipe_updates,
        "ratio_s3prl_over_stacked": one * recipe_updates / stacked,
    }


def measure(
    setting: Setting, config: SuperbConfig, device: str, repeats: int, updates: int
) -> dict[str, object]:
    parts = problem(setting)
    before = machine(device)
    found = slices(setting, config, device, parts)
    ratios = [p / s for p, s in zip(found["plain"], found["stacked"], strict=True)]
    whole, cpu = [], []
    for _ in range(repeats):
        used = time.process_time()
        recipe = lambda: train_superb(*parts, range(setting.seeds), config, device=device)  # noqa: E731
        whole.append(seconds(recipe, device))
        cpu.append(time.process_time() - used)
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["python", *sys.argv]),
        "machine": before,
        "setting": {k: getattr(setting, k) for k in setting.__dataclass_fields__},
        "runs": setting.folds * setting.seeds * len(config.lrs),
        "recipe": {"steps": config.steps, "batch": config.batch, "lrs": list(config.lrs)},
        "whole_recipe_seconds": spread(whole),
        # of all threads: what the work takes where other processes share the cores
        "whole_recipe_cpu_seconds": spread(cpu),
        "updates_seconds_stacked": spread(found["stacked"]),
        "updates_seconds_one_loop_per_run": spread(found["plain"]),
        "ratio_loop_over_stacked": spread(ratios),
        "s3prl_on_the_fly": on_the_fly(
            updates, config.steps * setting.folds * setting.seeds * len(config.lrs), whole[0]
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a second or two, nothing written")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--lrs", type=float, nargs="+", default=[1e-4])
    parser.add_argument("--repeats", type=int, default=1, help="whole recipes to time")
    args = parser.parse_args()
    setting = Setting(seeds=args.seeds)
    config = replace(SUPERB_RECIPES["superb"], lrs=tuple(args.lrs))
    if args.quick:
        setting = Setting(utterances=200, layers=3, dim=32, rounds=2, slice_steps=10)
        config = replace(config, steps=40, eval_every=20)
    result = measure(setting, config, args.device, args.repeats, 0 if args.quick else 3)
    text = json.dumps(result, indent=1)
    print(text)
    if not args.quick:
        RESULTS.mkdir(exist_ok=True)
        day = datetime.datetime.now(datetime.UTC).date().isoformat()
        (RESULTS / f"heads-{args.device}-{day}.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
