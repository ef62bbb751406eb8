"""The trainer of the ResNet heads: chunks while training, whole utterances on dev and test.

Every fold, seed and learning rate is a run of its own, one after another; what they share is the
spectrograms in memory.
"""

import copy
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ser_features.errors import TrainError
from ser_features.heads.resnet34 import ResNet34, ResNetShape, shape_of
from ser_features.train.adversarial import DOMAIN, FrameAdversary
from ser_features.train.cache_apply import two_label_loss
from ser_features.train.checkpoint import load_init
from ser_features.train.checks import check_folds, check_labels
from ser_features.train.chunks import Batch, Chunk, augmented, draw_epoch
from ser_features.train.extras import Extras, no_extras, swap_of
from ser_features.train.resnet_recipes import ResNetConfig, halving_factor
from ser_features.train.select import Best, dev_score, first_best
from ser_features.train.spectrograms import Spectrograms
from ser_features.train.stack import CACHE, IndexedFold, Run, generator, generators, list_runs
from ser_features.train.stream import pieces
from ser_features.train.superb import Progress, RunOutcome
from ser_features.views import FrameView, Indices

TEST_FRAMES = {"cpu": 2**12, "cuda": 2**17}
"""Most frames that are tested at once, by device type; results do not depend on it."""


def run_resnet(
    view: FrameView,
    labels: Indices,
    folds: Sequence[IndexedFold],
    seeds: Sequence[int],
    config: ResNetConfig,
    *,
    device: str = "cpu",
    progress: Progress | None = None,
    extras: Extras | None = None,
) -> list[RunOutcome]:
    """Train and select; one outcome for every fold and seed, folds first.

    ``labels`` [N] are class indices from 0, parallel to ``view.ids``, and folds are rows of it. A
    step in the outcome is an epoch. ``progress`` is called with (epochs done, epochs in all),
    counted over runs. ``extras`` bring in other data, copies and late test scores. Raises
    TrainError where there is nothing to learn from, where the features are no spectrogram, where
    ``config.init`` does not fit, or where training diverges.
    """
    config.validate()
    check_labels(labels, len(view.ids))
    check_folds(folds, seeds, len(labels))
    used = np.unique(np.concatenate([fold.used for fold in folds]))
    spectrograms = Spectrograms(view, used, config)
    extras = extras or no_extras(len(labels))
    runs = list_runs(folds, seeds, config.lrs)
    started, outcomes = time.perf_counter(), []
    best: dict[Run, tuple[Best, Indices]] = {}
    for number, run in enumerate(runs):
        trainer = ResNetRun(run, folds[run.fold], spectrograms, labels, config, device, extras)
        for epoch in trainer.fit():
            if progress is not None:
                progress(number * config.epochs + epoch, len(runs) * config.epochs)
        best[run] = trainer.best, trainer.predict(folds[run.fold].test)
    seconds = (time.perf_counter() - started) / (len(folds) * len(seeds))
    for i, fold in enumerate(folds):
        for seed in seeds:
            tried = [(r, *b) for r, b in best.items() if (r.fold, r.seed) == (i, seed)]
            schedule = extras.schedule(extras.stages(fold), config.epochs)
            outcomes.append(replace(_choose(fold, seed, tried, seconds), schedule=schedule))
    return outcomes


def build_network(shape: ResNetShape, seed: int) -> ResNet34:
    """A new network, torch's default initial weights drawn from ``seed`` alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ResNet34(shape)


class ResNetRun:
    """One fold, seed and learning rate: its network, its chunks, its best epoch."""

    def __init__(
        self,
        run: Run,
        fold: IndexedFold,
        spectrograms: Spectrograms,
        labels: Indices,
        config: ResNetConfig,
        device: str = "cpu",
        extras: Extras | None = None,
    ) -> None:
        self.run, self.fold, self.config = run, fold, config
        self._extras = extras or no_extras(len(labels))
        self._stages = self._extras.stages(fold)
        self._swap = swap_of(fold, run, self._extras)
        self._cache_rng = generator(fold.name, run.seed, CACHE)
        self._frames, self._labels = spectrograms, labels
        self._device = torch.device(device)
        init, self._order = generators(fold.name, run.seed)
        bands, classes = spectrograms.bands, int(labels.max()) + 1
        shape = shape_of(config.head, bands, classes, config.pooling)
        self.network = build_network(shape, int(init.integers(2**62)))
        trained = self._initialise()
        self.network.to(self._device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._optimiser = _optimiser(config, run.lr, trained)
        self._adversary = self._make_adversary(trained)
        self.best = Best()
        self._chosen = copy.deepcopy(self.network.state_dict())
        if min(len(stage.rows) for stage in self._stages) < 2:
            raise TrainError(f"fold {fold.name!r}: batch normalisation needs two utterances")

    def _initialise(self) -> list[nn.Parameter]:
        """Load the checkpoint, if there is one; the parameters that are trained."""
        everything = dict(self.network.named_parameters())
        if self.config.init is None:
            return list(everything.values())
        new = load_init(self.network, Path(self.config.init), self.config.init_train)
        if self.config.init_train == "all":
            return list(everything.values())
        for name, parameter in everything.items():
            parameter.requires_grad_(name in new)
        return [everything[name] for name in new]

    def _make_adversary(self, trained: Sequence[nn.Parameter]) -> FrameAdversary | None:
        """Its steps have optimisers of the recipe's kind; frozen layers take no part."""
        strategy = self._extras.strategy
        if strategy is None or not self._extras.adversarial:
            return None
        seed = int(generator(self.fold.name, self.run.seed, DOMAIN).integers(2**62))
        config, lr, output = self.config, self.run.lr, self.network.output
        fuser = [p for p in trained if all(p is not own for own in output.parameters())]

        def make(params: list[nn.Parameter], weight_decay: float) -> torch.optim.Optimizer:
            return _optimiser(replace(config, weight_decay=weight_decay), lr, params)

        how = (seed, strategy.reversal, make, config.weight_decay)
        return FrameAdversary(self._embed, fuser, output, *how)

    def fit(self) -> Iterator[int]:
        """Train to the end; yields the number of every epoch that is done and scored."""
        with _one_mode():
            for epoch in range(1, self.config.epochs + 1):
                self.train_epoch(epoch)
                self._score(epoch)
                yield epoch
        self.network.load_state_dict(self._chosen)

    def train_epoch(self, epoch: int) -> None:
        """One pass over the training side, in freshly drawn chunks."""
        config, frames = self.config, self._frames
        stage = [each for each in self._stages if each.first(config.epochs) < epoch][-1]
        factor = halving_factor(epoch) if config.schedule == "halving" else 1.0
        lr = self.run.lr * factor * stage.factor
        self._optimiser.param_groups[0]["lr"] = lr
        if self._adversary is not None:
            self._adversary.set_rate(lr)
        rows = self._swap(stage.rows)
        self._to_training()
        for batch in draw_epoch(rows, frames.num_frames, frames.bands, config, self._order):
            self._update(self._augmented(batch))
        if self._adversary is not None:
            self.best.domain_curve.append((epoch, self._adversary.accuracy()))

    def _augmented(self, batch: Batch) -> Batch:
        """What augmentation on the cache draws for this minibatch."""
        if self._extras.cache is None:
            return batch
        labels = self._labels[[chunk.row for chunk in batch.chunks]]
        lengths = np.array([chunk.length for chunk in batch.chunks], np.int64)
        return augmented(batch, self._extras.cache.draw(labels, lengths, self._cache_rng))

    def _to_training(self) -> None:
        """Frozen convolutions stay in evaluation mode: their statistics are the checkpoint's."""
        self.network.train()
        if self.is_frozen:
            self.network.body.eval()

    @property
    def is_frozen(self) -> bool:
        """Whether the convolutions are a checkpoint's and stay so."""
        return self.config.init is not None and self.config.init_train == "new"

    def _update(self, batch: Batch) -> None:
        self._optimiser.zero_grad()
        parts = batch.micro_batches(self.config.micro_batch)
        for part in parts:
            loss = self._loss(self._logits(self._read(batch, part)), part)
            (loss / len(batch.chunks)).backward()  # type: ignore[no-untyped-call]
        self._optimiser.step()
        if self._adversary is not None:
            self._adversary.update([(self._read(batch, p), None, self._domains(p)) for p in parts])

    def _read(self, batch: Batch, part: Sequence[Chunk]) -> Tensor:
        """Frames [B, T, bands] of a micro-batch, whose longest chunk is the first."""
        longest = part[0].total
        length = max(batch.frames, longest) if self.config.pad_to_chunk else longest
        return self._frames.chunks(part, length).to(self._device)

    def _loss(self, logits: Tensor, part: Sequence[Chunk]) -> Tensor:
        """Summed over the chunks; of both labels where two are mixed."""
        own = self._labels_of([chunk.row for chunk in part])
        if all(chunk.mixed is None for chunk in part):
            return cross_entropy(logits, own, reduction="sum")
        other = self._labels_of([chunk.partner[0] for chunk in part])
        share = torch.tensor([chunk.share for chunk in part], device=self._device)
        return two_label_loss(logits, own, other, share)

    def _labels_of(self, rows: list[int]) -> Tensor:
        return torch.from_numpy(self._labels[rows]).to(self._device)

    def _domains(self, part: Sequence[Chunk]) -> Tensor:
        """Share of added data in each chunk."""
        added = self._extras.added.astype(np.float32)
        own = added[[chunk.row for chunk in part]]
        rows, shares = zip(*(chunk.partner for chunk in part), strict=True)
        domains = own + np.array(shares, np.float32) * (added[list(rows)] - own)
        return torch.from_numpy(domains).to(self._device)

    def _logits(self, frames: Tensor, lengths: Tensor | None = None) -> Tensor:
        low = self.config.precision == "bfloat16"
        with torch.autocast(self._device.type, torch.bfloat16, enabled=low):
            logits: Tensor = self.network(frames, lengths)
        return logits

    def _embed(self, frames: Tensor, lengths: Tensor | None) -> Tensor:
        """The hidden layer for the domain steps, which leave running statistics as they are."""
        low = self.config.precision == "bfloat16"
        with (
            torch.autocast(self._device.type, torch.bfloat16, enabled=low),
            _kept_statistics(self.network),
        ):
            return self.network.embed(frames, lengths)

    def _score(self, epoch: int) -> None:
        """Score dev, and keep the weights where they are best."""
        dev, metric = self.fold.dev, self.config.select_metric
        classes = self.network.shape.num_classes
        score = dev_score(self._labels[dev], self.predict(dev), classes, metric)
        if self.best.improves(epoch, score, self.config.select):
            self._chosen = copy.deepcopy(self.network.state_dict())
        if self._extras.is_late(epoch, self.config.epochs):
            self.best.late.append((epoch, self.predict(self.fold.test)))

    @torch.no_grad()
    def predict(self, rows: Indices) -> Indices:
        """Class indices of whole utterances, in the order of ``rows``."""
        self.network.eval()
        counts = self._frames.num_frames
        ordered = rows[np.argsort(counts[rows], kind="stable")]
        found = dict[int, int]()
        for part in pieces(ordered, counts, TEST_FRAMES[self._device.type]):
            frames, lengths = self._frames.whole(part)
            logits = self._logits(frames.to(self._device), lengths)
            if not torch.isfinite(logits).all():
                raise TrainError(
                    f"training diverged at learning rate {self.run.lr:g} "
                    "(logits are not finite); use a lower one"
                )
            found.update(zip(part.tolist(), logits.argmax(dim=1).tolist(), strict=True))
        return np.array([found[row] for row in rows.tolist()], np.int64)


@contextmanager
def _one_mode() -> Iterator[None]:
    """Convolutions chosen without timing: the same call gives the same numbers."""
    before = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    try:
        yield
    finally:
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = before


@contextmanager
def _kept_statistics(network: nn.Module) -> Iterator[None]:
    """Batch normalisation by the batch, its running statistics unchanged."""
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, before, strict=True):
            norm.momentum = momentum


def _optimiser(
    config: ResNetConfig, lr: float, parameters: list[nn.Parameter]
) -> torch.optim.Optimizer:
    decay = config.weight_decay
    if config.optimiser == "sgd":
        return torch.optim.SGD(parameters, lr, momentum=config.momentum, weight_decay=decay)
    return torch.optim.Adam(parameters, lr, weight_decay=decay)


def _choose(
    fold: IndexedFold, seed: int, tried: Sequence[tuple[Run, Best, Indices]], seconds: float
) -> RunOutcome:
    """The outcome of the learning rate with the best dev score; the first of equals."""
    run, best, predictions = tried[first_best([each.score for _, each, _ in tried])]
    return RunOutcome(
        fold=fold.name,
        seed=seed,
        predictions=predictions,
        num_train=len(fold.train),
        num_dev=len(fold.dev),
        best_step=best.step,
        dev_score=best.score,
        setting=dict(run.setting),
        grid=tuple({**r.setting, "dev_score": b.score, "best_step": b.step} for r, b, _ in tried),
        dev_curve=tuple(best.curve),
        layer_weights=(),
        seconds=seconds,
        domain_curve=tuple(best.domain_curve),
        late=tuple(best.late),
    )
