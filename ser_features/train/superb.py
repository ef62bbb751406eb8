"""The stacked trainer of the ``superb`` head: all folds, seeds and learning rates at once."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ser_features.errors import TrainError
from ser_features.heads.superb import SuperbShape, SuperbStack, initial_weights
from ser_features.records import Fold, FoldScore, Json
from ser_features.train.checks import check_features, check_folds
from ser_features.train.graph import CapturedStep
from ser_features.train.recipes import SuperbConfig
from ser_features.train.select import Best, dev_score, first_best
from ser_features.train.stack import (
    EpochStream,
    IndexedFold,
    Run,
    chunks,
    generators,
    list_runs,
    take_all,
)

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]
Progress = Callable[[int, int], None]
MAX_BLOCK = 2**21
"""Most minibatch slots (updates x runs x batch) that are drawn ahead."""


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """One fold and seed, with the learning rate that dev chose.

    ``predictions`` [test] are label indices, parallel to the fold's test rows; ``grid`` holds every
    learning rate with its best dev score and step. ``seconds`` is this outcome's share of the
    time of all runs that were trained together.
    """

    fold: str
    seed: int
    predictions: Indices
    num_train: int
    num_dev: int
    best_step: int
    dev_score: float
    setting: dict[str, Json]
    grid: tuple[dict[str, Json], ...]
    dev_curve: tuple[tuple[int, float], ...]
    layer_weights: tuple[float, ...]
    seconds: float

    def to_fold_score(self, fold: Fold) -> FoldScore:
        """The record of this outcome; ``fold`` gives the ids of the test side."""
        return FoldScore(
            fold=self.fold,
            seed=self.seed,
            test_ids=fold.test,
            predictions=tuple(self.predictions.tolist()),
            num_train=self.num_train,
            num_dev=self.num_dev,
            best_step=self.best_step,
            dev_score=self.dev_score,
            setting=self.setting,
            grid=self.grid,
            dev_curve=self.dev_curve,
            layer_weights=self.layer_weights,
            seconds=self.seconds,
        )


def train_superb(
    features: Floats,
    labels: Indices,
    folds: Sequence[IndexedFold],
    seeds: Sequence[int],
    config: SuperbConfig,
    *,
    device: str = "cpu",
    progress: Progress | None = None,
) -> list[RunOutcome]:
    """Train and select; one outcome for every fold and seed, folds first.

    ``features`` [N, L, D] are means over frames, ``labels`` [N] class indices from 0. ``progress``
    is called with (updates done, updates in all), counted over runs. Raises TrainError for
    features or folds that cannot be trained on.
    """
    config.validate()
    check_features(features, labels)
    check_folds(folds, seeds, len(features))
    shape = SuperbShape(features.shape[1], features.shape[2], int(labels.max()) + 1, config.hidden)
    data = TrainingData(features, labels, folds, torch.device(device))
    runs = list_runs(folds, seeds, config.lrs, config.weight_decays)
    best: dict[Run, Best] = {}
    started = time.perf_counter()
    tick = _counter(progress, len(runs) * config.steps)
    # parameters, gradients and Adam's two moments
    for chunk in chunks(runs, shape.num_parameters * 16, config.max_bytes):
        trainer = StackTrainer(data, shape, chunk, config)
        best |= dict(zip(chunk, trainer.fit(tick), strict=True))
    seconds = (time.perf_counter() - started) / (len(folds) * len(seeds))
    return [_choose(folds[f], s, best, f, seconds) for f in range(len(folds)) for s in seeds]


class TrainingData:
    """Features and labels on the device, as every run reads them."""

    def __init__(
        self,
        features: Floats,
        labels: Indices,
        folds: Sequence[IndexedFold],
        device: torch.device,
    ) -> None:
        self.folds, self.device = folds, device
        self.truth = labels
        self.table = torch.from_numpy(features).to(device).view(-1, features.shape[2])
        self.labels = torch.from_numpy(labels).to(device)
        self.layers = torch.arange(features.shape[1], device=device)

    def rows(self, index: Tensor) -> Tensor:
        """Table rows [..., L] of utterances [...]."""
        return index.unsqueeze(-1) * len(self.layers) + self.layers


class StackTrainer:
    """Some runs in one stack: their parameters, optimiser, data order and best checkpoints."""

    def __init__(
        self, data: TrainingData, shape: SuperbShape, runs: Sequence[Run], config: SuperbConfig
    ) -> None:
        self.data, self.runs, self.config = data, runs, config
        self.stack = SuperbStack(shape, len(runs), data.device)
        numbers = sorted({run.stream for run in runs})
        by_stream = {run.stream: run for run in runs}
        self.streams = [self._start(by_stream[n]) for n in numbers]
        self._stream_of = torch.tensor([numbers.index(r.stream) for r in runs], device=data.device)
        self.optimiser = self._adam()
        self._graph = CapturedStep(self.update) if data.device.type == "cuda" else None

    def _start(self, first: Run) -> EpochStream:
        """Load the initial weights of a stream's runs; return its data order."""
        fold = self.data.folds[first.fold]
        init, order = generators(fold.name, first.seed)
        weights = initial_weights(self.stack.shape, init)
        for i, run in enumerate(self.runs):
            if run.stream == first.stream:
                self.stack.load(i, weights)
        micro = self.config.micro_batch
        return EpochStream(fold.train, order, micro, self.config.batch // micro)

    def _adam(self) -> torch.optim.Adam:
        """One optimiser; runs of one setting are one slice of the stack and one group."""
        settings = [(run.lr, run.weight_decay) for run in self.runs]
        groups = []
        for lr, decay in dict.fromkeys(settings):
            first = settings.index((lr, decay))
            part = slice(first, first + settings.count((lr, decay)))
            params = [block[part] for block in self.stack.blocks]
            for param, grad in zip(params, self.stack.grads, strict=True):
                param.grad = grad[part]
            groups.append({"params": params, "lr": lr, "weight_decay": decay})
        capturable = self.data.device.type == "cuda"
        return torch.optim.Adam(groups, fused=True, capturable=capturable)

    def fit(self, tick: Callable[[int], None]) -> list[Best]:
        """Train all runs to the end; their best checkpoints, in order."""
        best = [Best() for _ in self.runs]
        config, done = self.config, 0
        most = max(1, MAX_BLOCK // (len(self.runs) * config.batch))
        while done < config.steps:
            until = min(config.steps, (done // config.eval_every + 1) * config.eval_every)
            block = min(until - done, most)
            self.advance(block)
            done += block
            tick(block * len(self.runs))
            if done == until:
                self._evaluate(done, best)
        return best

    @torch.no_grad()
    def advance(self, steps: int) -> None:
        """Do the next ``steps`` updates of every run."""
        drawn = take_all(self.streams, steps)
        device, chosen = self.data.device, self._stream_of
        index = torch.from_numpy(drawn.index).to(device)[:, chosen]  # [S, R, B]
        weight = torch.from_numpy(drawn.weight).to(device)[:, chosen]
        labels = self.data.labels[index]
        step = self._graph or self.update
        for inputs in zip(index, labels, weight, strict=True):
            step(*inputs)

    def update(self, index: Tensor, labels: Tensor, weight: Tensor) -> None:
        """One update of every run on its minibatch: rows, labels and weights [R, B]."""
        rows = self.data.rows(index)
        self.stack.backward(self.data.table, rows, labels, weight, self.config.clip)
        self.optimiser.step()

    @torch.no_grad()
    def _evaluate(self, step: int, best: list[Best]) -> None:
        weights = self.stack.layer_weights().cpu().tolist()
        for i, run in enumerate(self.runs):
            fold = self.data.folds[run.fold]
            logits = self._logits(i, fold.dev)
            if not torch.isfinite(logits).all():  # diverged: this checkpoint is no candidate
                continue
            truth, predicted = self.data.truth[fold.dev], logits.argmax(dim=1).numpy()
            metric = self.config.select_metric
            score = dev_score(truth, predicted, self.stack.shape.num_classes, metric)
            if best[i].improves(step, score):
                best[i].predictions = self._logits(i, fold.test).argmax(dim=1).numpy()
                best[i].layer_weights = tuple(weights[i])

    def _logits(self, run: int, side: Indices) -> Tensor:
        rows = self.data.rows(torch.from_numpy(side).to(self.data.device))
        return self.stack.logits(self.data.table, rows, run).cpu()


def _choose(
    fold: IndexedFold, seed: int, best: dict[Run, Best], number: int, seconds: float
) -> RunOutcome:
    """The outcome of one fold and seed: the setting with the best dev score."""
    tried = [(r, b) for r, b in best.items() if (r.fold, r.seed) == (number, seed)]
    run, won = tried[first_best([b.score for _, b in tried])]
    if not won.curve:
        raise TrainError(
            f"fold {fold.name!r}: training diverged at every learning rate "
            f"({', '.join(f'{r.lr:g}' for r, _ in tried)}); use lower ones"
        )
    grid = tuple({**r.setting, "dev_score": b.score, "best_step": b.step} for r, b in tried)
    return RunOutcome(
        fold=fold.name,
        seed=seed,
        predictions=won.predictions,
        num_train=len(fold.train),
        num_dev=len(fold.dev),
        best_step=won.step,
        dev_score=won.score,
        setting=dict(run.setting),
        grid=grid,
        dev_curve=tuple(won.curve),
        layer_weights=won.layer_weights,
        seconds=seconds,
    )


def _counter(progress: Progress | None, total: int) -> Callable[[int], None]:
    done = 0

    def tick(count: int) -> None:
        nonlocal done
        done += count
        if progress is not None:
            progress(done, total)

    return tick
