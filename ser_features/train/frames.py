"""The trainer of the heads on frames: all folds, seeds and learning rates share each pass.

Every run has its own weights, optimiser, minibatches and best epoch, and does the same arithmetic
as it would alone. What they share is the reading: a window of frames is decoded once and every run
trains on those of its training side. A minibatch may span two windows; its gradient is summed up
piece by piece, so memory does not grow with it. Dev is scored one pass late, on a copy of the
weights, so that it costs no pass of its own.
"""

import copy
import time
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ser_features.errors import TrainError
from ser_features.heads.attentive import AttentiveHead
from ser_features.heads.mlp import FrameShape, MlpHead
from ser_features.heads.statistics import StatisticsHead
from ser_features.registry import Table
from ser_features.train.adversarial import DOMAIN, FrameAdversary
from ser_features.train.cache_apply import augmented_frames, blended_loss
from ser_features.train.cache_augment import CacheDraw
from ser_features.train.checks import check_folds, check_labels
from ser_features.train.extras import Extras, no_extras, swap_of
from ser_features.train.frame_recipes import FrameConfig, rate_factor
from ser_features.train.select import Best, dev_score, first_best
from ser_features.train.stack import CACHE, IndexedFold, Run, generator, generators, list_runs
from ser_features.train.stream import Frames, Window, open_frames, pieces, plan_pass
from ser_features.train.superb import Progress, RunOutcome
from ser_features.views import FrameView, Indices

MODELS: Table[type[MlpHead]] = Table(
    "head", [("mlp", MlpHead), ("attentive", AttentiveHead), ("statistics", StatisticsHead)]
)
PIECE_BYTES = {"cpu": 2**24, "cuda": 2**30}
"""Most bytes of float32 frames that go through a head at once, by device type. On a CPU 8
to 64 MiB are equally fast."""


def run_frames(
    view: FrameView,
    labels: Indices,
    folds: Sequence[IndexedFold],
    seeds: Sequence[int],
    config: FrameConfig,
    *,
    device: str = "cpu",
    progress: Progress | None = None,
    extras: Extras | None = None,
) -> list[RunOutcome]:
    """Train and select; one outcome for every fold and seed, folds first.

    ``labels`` [N] are class indices from 0, parallel to ``view.ids``, and folds are rows of it. A
    step in the outcome is an epoch. ``progress`` is called with (epochs done, epochs in all),
    counted over runs. ``extras`` bring in other data, copies and late test scores. Raises
    TrainError where there is nothing to learn from, where memory is too small, or where training
    diverges.
    """
    config.validate()
    check_labels(labels, len(view.ids))
    check_folds(folds, seeds, len(labels))
    started = time.perf_counter()
    trainer = FrameTrainer(view, labels, folds, seeds, config, torch.device(device), extras)
    trainer.fit(progress or (lambda done, total: None))
    seconds = (time.perf_counter() - started) / (len(folds) * len(seeds))
    pairs = [(fold, seed) for fold in range(len(folds)) for seed in seeds]
    return [_choose(trainer.runs_of(*pair), seconds) for pair in pairs]


def build_head(name: str, shape: FrameShape, seed: int) -> MlpHead:
    """A new head, torch's default initial weights drawn from ``seed`` alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return MODELS[name](shape)


class FrameTrainer:
    """All runs of one call, and the passes that they share."""

    def __init__(
        self,
        view: FrameView,
        labels: Indices,
        folds: Sequence[IndexedFold],
        seeds: Sequence[int],
        config: FrameConfig,
        device: torch.device,
        extras: Extras | None = None,
    ) -> None:
        self.view, self.config = view, config
        self.extras = extras or no_extras(len(labels))
        shape = FrameShape(len(view.layers), view.dim, int(labels.max()) + 1, config.hidden)
        self.runs = [
            FrameRun(run, folds[run.fold], shape, config, labels, device, self.extras)
            for run in list_runs(folds, seeds, config.lrs)
        ]
        self._frames = self._open(device)

    def _open(self, device: torch.device) -> Frames:
        needed = np.unique(np.concatenate([run.fold.used for run in self.runs]))
        config = self.config
        sizes = (config.window_bytes, config.memory_bytes)
        return open_frames(self.view, needed, *sizes, config.readers, device)

    def runs_of(self, fold: int, seed: int) -> list["FrameRun"]:
        """The runs of one fold and seed, a learning rate each."""
        return [r for r in self.runs if (r.run.fold, r.run.seed) == (fold, seed)]

    def fit(self, progress: Progress) -> None:
        """All epochs, then dev of the last one, then test with what each run chose."""
        last = self.config.epochs
        for epoch in range(1, last + 1):
            self._epoch(epoch)
            progress(epoch * len(self.runs), last * len(self.runs))
        used = [side for run in self.runs for side in (run.fold.dev, run.late_test(last))]
        for window in self._pass(last + 1, used):
            for run in self.runs:
                run.predict_finished(window, last)
        for run in self.runs:
            run.finish_epoch(last)
        for window in self._pass(last + 1, [run.fold.test for run in self.runs]):
            for run in self.runs:
                run.predict_test(window)

    def _epoch(self, epoch: int) -> None:
        for run in self.runs:
            run.start_epoch(epoch)
        used = [
            side for run in self.runs for side in (run.rows, run.fold.dev, run.late_test(epoch - 1))
        ]
        for window in self._pass(epoch, used):
            for run in self.runs:
                run.train(window)
                if epoch > 1:
                    run.predict_finished(window, epoch - 1)
        for run in self.runs:
            if epoch > 1:
                run.finish_epoch(epoch - 1)
            run.keep_weights()

    def _pass(self, epoch: int, used: Sequence[Indices]) -> Iterator[Window]:
        """The windows of one pass over all utterances that are in ``used``."""
        wanted = np.zeros(len(self.view.ids), bool)
        wanted[np.concatenate(used)] = True
        # planned over every row: the windows of a run must not depend on the other runs
        windows = plan_pass(self.view, self.config.window_bytes // self.view.frame_bytes, epoch)
        parts = [rows[wanted[rows]] for rows in windows]
        return self._frames.windows([rows for rows in parts if len(rows)])


class FrameRun:
    """One fold, seed and learning rate: its weights, its minibatches, its best epoch."""

    def __init__(
        self,
        run: Run,
        fold: IndexedFold,
        shape: FrameShape,
        config: FrameConfig,
        labels: Indices,
        device: torch.device,
        extras: Extras,
    ) -> None:
        self.run, self.fold, self.config, self.extras = run, fold, config, extras
        init, self._order = generators(fold.name, run.seed)
        self.head = build_head(config.head, shape, int(init.integers(2**62))).to(device)
        self._finished = copy.deepcopy(self.head)  # the weights at the end of the last epoch
        self._chosen = copy.deepcopy(self.head)
        self._optimiser = torch.optim.AdamW(
            self.head.parameters(), run.lr, weight_decay=config.weight_decay, fused=True
        )
        self.best = Best()
        self._labels, self._device = labels, device
        self._sides = {name: _mask(len(labels), getattr(fold, name)) for name in ("dev", "test")}
        self.stages, self._swap = extras.stages(fold), swap_of(fold, run, extras)
        self.rows: Indices = fold.train  # what this epoch trains on, copies in their places
        self._adversary = self._make_adversary()
        self._cache_rng = generator(fold.name, run.seed, CACHE)
        self._predicted = np.zeros(len(labels), np.int64)
        self._piece = PIECE_BYTES[device.type] // (4 * shape.num_layers * shape.dim)
        self._taken = 0

    def _make_adversary(self) -> FrameAdversary | None:
        strategy = self.extras.strategy
        if strategy is None or not self.extras.adversarial:
            return None
        seed = int(generator(self.fold.name, self.run.seed, DOMAIN).integers(2**62))
        head, lr, decay = self.head, self.run.lr, self.config.weight_decay
        fuser = [p for name, p in head.named_parameters() if not name.startswith("output.")]

        def make(params: list[nn.Parameter], weight_decay: float) -> torch.optim.Optimizer:
            return torch.optim.AdamW(params, lr, weight_decay=weight_decay)

        how = (seed, strategy.reversal, make, decay)
        return FrameAdversary(head.embed, fuser, head.output, *how)

    def start_epoch(self, epoch: int) -> None:
        """Set the rows and the learning rate of the epoch."""
        total = self.config.epochs
        stage = [each for each in self.stages if each.first(total) < epoch][-1]
        self.rows, self._taken = self._swap(stage.rows), 0
        self._sides["train"] = _mask(len(self._labels), self.rows)
        lr = self.run.lr * rate_factor(self.config.schedule, epoch, total) * stage.factor
        self._optimiser.param_groups[0]["lr"] = lr
        if self._adversary is not None:
            self._adversary.set_rate(lr)

    def train(self, window: Window) -> None:
        """Go on with this epoch's minibatches, with the window's share of the training side."""
        rows = self._order.permutation(self._in(window, "train"))
        batch = self.config.batch
        while len(rows):
            first = self._taken // batch * batch
            end = min(first + batch, len(self.rows))
            part, rows = np.split(rows, [end - self._taken])
            drawn = self._draw(window, part)
            cuts = list(pieces(np.arange(len(part)), window.num_frames[part], self._piece))
            for at in cuts:
                self._accumulate(window, part, at, drawn, end - first)
            self._taken += len(part)
            if self._taken == end:
                self._optimiser.step()
                self._optimiser.zero_grad(set_to_none=False)
            if self._adversary is not None:
                # of a minibatch that spans windows, the domain steps take each part by itself
                self._adversary.update([self._with_domains(window, part, at, drawn) for at in cuts])

    def _read(
        self, window: Window, rows: Indices, at: Indices, drawn: CacheDraw | None
    ) -> tuple[Tensor, Tensor]:
        """Frames and counts of some (``at``) of a minibatch's ``rows``, augmented as drawn."""
        if drawn is None:
            return window.gather(rows[at], self.config.normalize)
        return augmented_frames(window, rows, drawn, at, self.config.normalize)

    def _with_domains(
        self, window: Window, rows: Indices, at: Indices, drawn: CacheDraw | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The same with the domain of each."""
        own = self.extras.added[rows].astype(np.float32)
        domains = own if drawn is None else drawn.blended(own)
        frames, counts = self._read(window, rows, at, drawn)
        return frames, counts, torch.from_numpy(domains[at]).to(self._device)

    def _draw(self, window: Window, rows: Indices) -> CacheDraw | None:
        """What augmentation on the cache draws for a minibatch (or its part in the window)."""
        if self.extras.cache is None:
            return None
        return self.extras.cache.draw(self._labels[rows], window.num_frames[rows], self._cache_rng)

    def _accumulate(
        self, window: Window, rows: Indices, at: Indices, drawn: CacheDraw | None, batch: int
    ) -> None:
        """Add the gradient of some (``at``) of a minibatch's ``batch`` utterances."""
        labels = self._labels[rows]
        logits = self.head(*self._read(window, rows, at, drawn))
        if drawn is None:
            truth = torch.from_numpy(labels[at]).to(self._device)
            loss = cross_entropy(logits, truth, reduction="sum")
        else:
            loss = blended_loss(logits, labels, drawn, at)
        (loss / batch).backward()  # type: ignore[no-untyped-call]

    def keep_weights(self) -> None:
        """Copy the weights at the end of an epoch, to be scored on dev while the next one runs."""
        if self._adversary is not None:
            epoch = len(self.best.domain_curve) + 1
            self.best.domain_curve.append((epoch, self._adversary.accuracy()))
        self._finished.load_state_dict(self.head.state_dict())

    def late_test(self, epoch: int) -> Indices:
        """The test rows, where ``epoch`` counts for the late scores; else nothing."""
        late = self.extras.is_late(epoch, self.config.epochs)
        return self.fold.test if late else self.fold.test[:0]

    def predict_finished(self, window: Window, epoch: int) -> None:
        """Predict the window's share of dev (and test, late) as ``epoch``, just finished, says."""
        self._predict(self._finished, window, "dev")
        if len(self.late_test(epoch)):
            self._predict(self._finished, window, "test")

    def predict_test(self, window: Window) -> None:
        """Predict the window's share of test with the chosen weights."""
        self._predict(self._chosen, window, "test")

    @torch.no_grad()
    def _predict(self, head: MlpHead, window: Window, side: str) -> None:
        for rows in pieces(self._in(window, side), window.num_frames, self._piece):
            logits = head(*window.gather(rows, self.config.normalize))
            if not torch.isfinite(logits).all():
                raise TrainError(
                    f"training diverged at learning rate {self.run.lr:g} "
                    "(logits are not finite); use a lower one"
                )
            self._predicted[rows] = logits.argmax(dim=1).cpu().numpy()

    def _in(self, window: Window, side: str) -> Indices:
        return window.rows[self._sides[side][window.rows]]

    def finish_epoch(self, epoch: int) -> None:
        """Score dev, which has been predicted whole, and keep the weights where they are best."""
        dev = self.fold.dev
        classes = self.head.shape.num_classes
        metric = self.config.select_metric
        score = dev_score(self._labels[dev], self._predicted[dev], classes, metric)
        if self.best.improves(epoch, score, self.config.select):
            self._chosen.load_state_dict(self._finished.state_dict())
        if len(test := self.late_test(epoch)):
            self.best.late.append((epoch, self._predicted[test]))

    def outcome(self, grid: Sequence["FrameRun"], seconds: float) -> RunOutcome:
        """What this run says on test; ``grid`` are all runs that it was chosen from."""
        return RunOutcome(
            fold=self.fold.name,
            seed=self.run.seed,
            predictions=self._predicted[self.fold.test],
            num_train=len(self.fold.train),
            num_dev=len(self.fold.dev),
            best_step=self.best.step,
            dev_score=self.best.score,
            setting={"lr": self.run.lr},
            grid=tuple(
                {"lr": r.run.lr, "dev_score": r.best.score, "best_step": r.best.step} for r in grid
            ),
            dev_curve=tuple(self.best.curve),
            layer_weights=tuple(self._chosen.layer_weights().tolist()),
            seconds=seconds,
            schedule=self.extras.schedule(self.stages, self.config.epochs),
            domain_curve=tuple(self.best.domain_curve),
            late=tuple(self.best.late),
        )


def _mask(size: int, rows: Indices) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    mask = np.zeros(size, bool)
    mask[rows] = True
    return mask


def _choose(runs: Sequence[FrameRun], seconds: float) -> RunOutcome:
    """The outcome of the learning rate with the best dev score; the first of equals."""
    return runs[first_best([run.best.score for run in runs])].outcome(runs, seconds)
