"""The stacked trainer of the ``superb`` head: all folds, seeds and learning rates at once."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ser_features.errors import TrainError
from ser_features.heads.superb import SuperbShape, SuperbStack, initial_weights
from ser_features.records import Fold, FoldScore, Json
from ser_features.train.adversarial import DOMAIN, StackAdversary
from ser_features.train.cache_apply import StackCache
from ser_features.train.checks import check_features, check_folds
from ser_features.train.extras import Extras, no_extras, swap_of
from ser_features.train.graph import CapturedStep
from ser_features.train.recipes import SuperbConfig
from ser_features.train.select import Best, dev_score, first_best
from ser_features.train.stack import (
    CACHE,
    EpochStream,
    IndexedFold,
    Run,
    StagedStream,
    chunks,
    generator,
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
    schedule: tuple[Mapping[str, Json], ...] = ()
    domain_curve: tuple[tuple[int, float], ...] = ()
    late: tuple[tuple[int, Indices], ...] = ()

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
            schedule=self.schedule,
            domain_curve=self.domain_curve,
            late=tuple((step, tuple(each.tolist())) for step, each in self.late),
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
    extras: Extras | None = None,
) -> list[RunOutcome]:
    """Train and select; one outcome for every fold and seed, folds first.

    ``features`` [N, L, D] are means over frames, ``labels`` [N] class indices from 0. ``progress``
    is called with (updates done, updates in all), counted over runs. ``extras`` bring in other
    data, copies and late test scores. Raises TrainError for
    features or folds that cannot be trained on.
    """
    config.validate()
    check_features(features, labels)
    check_folds(folds, seeds, len(features))
    shape = SuperbShape(features.shape[1], features.shape[2], int(labels.max()) + 1, config.hidden)
    extras = extras or no_extras(len(features))
    data = TrainingData(features, labels, folds, torch.device(device), extras)
    runs = list_runs(folds, seeds, config.lrs, config.weight_decays)
    best: dict[Run, Best] = {}
    started = time.perf_counter()
    tick = _counter(progress, len(runs) * config.steps)
    # parameters, gradients and Adam's two moments
    for chunk in chunks(runs, shape.num_parameters * 16, config.max_bytes):
        trainer = StackTrainer(data, shape, chunk, config)
        best |= dict(zip(chunk, trainer.fit(tick), strict=True))
    seconds = (time.perf_counter() - started) / (len(folds) * len(seeds))
    schedules = [extras.schedule(stages, config.steps) for stages in data.stages]
    return [
        replace(_choose(folds[f], s, best, f, seconds), schedule=schedules[f])
        for f in range(len(folds))
        for s in seeds
    ]


class TrainingData:
    """Features and labels on the device, as every run reads them."""

    def __init__(
        self,
        features: Floats,
        labels: Indices,
        folds: Sequence[IndexedFold],
        device: torch.device,
        extras: Extras | None = None,
    ) -> None:
        self.folds, self.device = folds, device
        self.extras = extras or no_extras(len(features))
        self.stages = [self.extras.stages(fold) for fold in folds]
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
        self.adversary = self._adversary()
        self.cache = self._cache([by_stream[n] for n in numbers])
        cuda = data.device.type == "cuda"
        self._graph = CapturedStep(self.update, data.device) if cuda else None

    def _cache(self, firsts: Sequence[Run]) -> StackCache | None:
        """Draws of augmentation on the cache; ``firsts`` are a run of each stream."""
        data, cache = self.data, self.data.extras.cache
        if cache is None:
            return None
        rngs = [generator(data.folds[run.fold].name, run.seed, CACHE) for run in firsts]
        return StackCache(cache, data.truth, data.extras.num_frames, rngs, data.device)

    def _adversary(self) -> StackAdversary | None:
        strategy = self.data.extras.strategy
        if strategy is None or not self.data.extras.adversarial:
            return None
        folds, domains = self.data.folds, torch.from_numpy(self.data.extras.added)
        rngs = [generator(folds[r.fold].name, r.seed, DOMAIN) for r in self.runs]
        lrs, clip = [run.lr for run in self.runs], self.config.clip
        domains = domains.to(self.data.device)
        return StackAdversary(self.stack, domains, lrs, rngs, strategy.reversal, clip)

    def _start(self, first: Run) -> StagedStream:
        """Load the initial weights of a stream's runs; return its data order."""
        fold = self.data.folds[first.fold]
        init, order = generators(fold.name, first.seed)
        weights = initial_weights(self.stack.shape, init)
        for i, run in enumerate(self.runs):
            if run.stream == first.stream:
                self.stack.load(i, weights)
        micro, swap = self.config.micro_batch, swap_of(fold, first, self.data.extras)
        parts = [
            (
                stage.first(self.config.steps),
                EpochStream(stage.rows, order, micro, self.config.batch // micro, swap),
            )
            for stage in self.data.stages[first.fold]
        ]
        return StagedStream(parts)

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
            groups.append({"params": params, "lr": lr, "initial_lr": lr, "weight_decay": decay})
        capturable = self.data.device.type == "cuda"
        return torch.optim.Adam(groups, fused=True, capturable=capturable)

    def fit(self, tick: Callable[[int], None]) -> list[Best]:
        """Train all runs to the end; their best checkpoints, in order."""
        best = [Best() for _ in self.runs]
        config, done = self.config, 0
        most = max(1, MAX_BLOCK // (len(self.runs) * config.batch))
        factors = self._factors()
        while done < config.steps:
            if done in factors:
                self._set_rates(factors.pop(done))
            until = min(config.steps, (done // config.eval_every + 1) * config.eval_every)
            block = min([until - done, most, *(first - done for first in factors)])
            self.advance(block)
            done += block
            tick(block * len(self.runs))
            if done == until:
                self._evaluate(done, best)
        return best

    def _factors(self) -> dict[int, float]:
        """What the rates are multiplied with after some updates; the same in every fold."""
        stages = self.data.stages[self.runs[0].fold]
        factors = {stage.first(self.config.steps): stage.factor for stage in stages}
        return factors if set(factors.values()) != {1.0} else {}

    def _set_rates(self, factor: float) -> None:
        groups = self.optimiser.param_groups
        for group in groups:
            group["lr"] = group["initial_lr"] * factor
        if self._graph is not None:  # a captured step keeps the rates that it was captured with
            self._graph = CapturedStep(self.update, self.data.device)

    @torch.no_grad()
    def advance(self, steps: int) -> None:
        """Do the next ``steps`` updates of every run."""
        drawn = take_all(self.streams, steps)
        device, chosen = self.data.device, self._stream_of
        index = torch.from_numpy(drawn.index).to(device)[:, chosen]  # [S, R, B]
        weight = torch.from_numpy(drawn.weight).to(device)[:, chosen]
        labels = self.data.labels[index]
        step = self._graph or self.update
        for number, inputs in enumerate(zip(index, labels, weight, strict=True)):
            step(*inputs, *self._drawn(drawn.index[number]))

    def _drawn(self, index: Indices) -> list[Tensor]:
        """What the cache augmentations draw for an update of every stream [streams, B], by run."""
        if self.cache is None:
            return []
        return [drawn[self._stream_of] for drawn in self.cache.draw(index)]

    def update(self, index: Tensor, labels: Tensor, weight: Tensor, *drawn: Tensor) -> None:
        """One update of every run on its minibatch: rows, labels and weights [R, B]."""
        rows = self.data.rows(index)
        blend = None if self.cache is None else self.cache.blend(drawn)
        self.stack.backward(self.data.table, rows, labels, weight, self.config.clip, blend)
        self.optimiser.step()
        if self.adversary is not None:
            self.adversary.update(self.data.table, rows, index, weight, blend)

    @torch.no_grad()
    def _evaluate(self, step: int, best: list[Best]) -> None:
        weights = self.stack.layer_weights().cpu().tolist()
        heard = self.adversary.accuracy() if self.adversary is not None else None
        late, config = self.data.extras.is_late(step, self.config.steps), self.config
        for i, run in enumerate(self.runs):
            fold = self.data.folds[run.fold]
            if heard is not None:
                best[i].domain_curve.append((step, heard[i]))
            logits = self._logits(i, fold.dev)
            if not torch.isfinite(logits).all():  # diverged: this checkpoint is no candidate
                best[i].score = -1.0 if config.select == "last" else best[i].score
                continue
            truth, predicted = self.data.truth[fold.dev], logits.argmax(dim=1).numpy()
            score = dev_score(truth, predicted, self.stack.shape.num_classes, config.select_metric)
            better = best[i].improves(step, score, config.select)
            tested = self._logits(i, fold.test).argmax(dim=1).numpy() if better or late else None
            if better and tested is not None:
                best[i].predictions, best[i].layer_weights = tested, tuple(weights[i])
            if late and tested is not None:
                best[i].late.append((step, tested))

    def _logits(self, run: int, side: Indices) -> Tensor:
        rows = self.data.rows(torch.from_numpy(side).to(self.data.device))
        return self.stack.logits(self.data.table, rows, run).cpu()


def _choose(
    fold: IndexedFold, seed: int, best: dict[Run, Best], number: int, seconds: float
) -> RunOutcome:
    """The outcome of one fold and seed: the setting with the best dev score."""
    tried = [(r, b) for r, b in best.items() if (r.fold, r.seed) == (number, seed)]
    run, won = tried[first_best([b.score for _, b in tried])]
    if won.score < 0:
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
        domain_curve=tuple(won.domain_curve),
        late=tuple(won.late),
    )


def _counter(progress: Progress | None, total: int) -> Callable[[int], None]:
    done = 0

    def tick(count: int) -> None:
        nonlocal done
        done += count
        if progress is not None:
            progress(done, total)

    return tick
