"""Train a ResNet head on another task than the one benched, and keep its weights (papers 2 and 4).

The network, the frames, the chunks and SpecAugment are those of ``bench``; only the labels are
others. ``serfeat bench --init`` starts from the file.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ser_features.errors import ManifestError, TrainError, UsageError
from ser_features.extract.pipeline import Options, Report, extract_sets
from ser_features.extract.progress import Progress, Silent
from ser_features.fingerprint import fingerprint
from ser_features.labels import canonical_label
from ser_features.manifest import Manifest
from ser_features.records import Json, Utterance
from ser_features.runs import CLEAN
from ser_features.sets import without_rejects
from ser_features.store.place import Place
from ser_features.store.reader import open_feature_set
from ser_features.train.checkpoint import Header, check_writable, save_checkpoint
from ser_features.train.resnet import ResNetRun
from ser_features.train.resnet_recipes import PAPER_UPSTREAM, ResNetConfig, is_resnet
from ser_features.train.run import (
    Training,
    check_recipe,
    check_resnet,
    check_start,
    check_taken,
    identity_of,
)
from ser_features.train.spectrograms import Spectrograms
from ser_features.train.stack import IndexedFold, Run
from ser_features.views import FrameView, Joined, Part

TASKS = ("speaker", "emotion")


@dataclass(frozen=True, slots=True)
class PretrainOptions:
    """What to learn and how.

    ``dev_share`` of every class's utterances is held out; their accuracy chooses the epoch.
    ``extraction.augment`` adds augmented copies of the training side (paper 2 adds noise and
    music).
    """

    task: str = "speaker"
    head: str = "resnet34-transfer"
    seed: int = 0
    dev_share: float = 0.1
    allow_rejects: bool = False
    training: Training = field(default_factory=Training)
    extraction: Options = field(default_factory=Options)

    def config(self) -> ResNetConfig:
        """All numbers of the training. Raises UsageError or TrainError where one is wrong."""
        if self.task not in TASKS:
            raise UsageError(f"task must be one of {', '.join(TASKS)}, found {self.task!r}")
        if not 0 < self.dev_share < 1:
            raise UsageError(f"the dev share must lie between 0 and 1, found {self.dev_share}")
        if not is_resnet(self.head):
            raise UsageError(f"head {self.head!r} cannot be pretrained; a resnet34 head can")
        check_recipe(self.training.recipe, [self.head])
        check_taken(self.training, [self.head])
        config = self.training.config(self.head)
        assert isinstance(config, ResNetConfig)
        if config.init is not None or len(config.lrs) > 1:
            raise UsageError("pretraining takes one learning rate and starts from new weights")
        return replace(config, select_metric="wa")


@dataclass(frozen=True, slots=True)
class Pretrained:
    """The checkpoint that was written; ``accuracy`` is that of the held-out utterances."""

    path: Path
    sha256: str
    classes: tuple[str, ...]
    num_train: int
    num_dev: int
    best_epoch: int
    accuracy: float


def pretrain(
    manifests: Sequence[Manifest],
    request: str | None,
    store: Place,
    out: Path,
    options: PretrainOptions | None = None,
    progress: Progress | None = None,
) -> Pretrained:
    """Extract what is missing, train one network on all corpora, write its best epoch to ``out``.

    ``request`` names the spectral upstream; None is that of the head's paper.
    Speakers are kept apart by corpus (``corpus/speaker``). Raises ManifestError where an utterance
    has no class, RejectsError as ``bench`` does, TrainError.
    """
    options, progress = options or PretrainOptions(), progress or Silent()
    config = options.config()
    request = request or PAPER_UPSTREAM[options.head]
    check_resnet(options.training.resnet, [options.head], [request])
    check_start(options.training, options.head, request)
    check_writable(out)
    classes = {name: kind for one in manifests for name, kind in _classes(one, options.task)}
    parts, copies = list[Part](), dict[str, list[str]]()
    for one in manifests:
        kept, reports = _extracted(one, request, store, options, progress)
        own = [_part(report, store, first=one is manifests[0]) for report in reports]
        copies |= _rows(kept, own)
        parts += own
    known = {name: classes[name] for name in copies}
    run, names = _start(Joined(parts), known, copies, config, options)
    progress.start(f"pretraining {options.head} on {request}", config.epochs, "epochs")
    for _ in run.fit():
        progress.advance(1)
    return _save(run, names, out, parts[0], config, options, manifests)


def _classes(manifest: Manifest, task: str) -> Iterator[tuple[str, str]]:
    """``corpus/id`` and class of every utterance; ManifestError where one has none.

    A speaker is one of the corpus; an emotion is the same in all of them, whatever their word.
    """

    def of(utterance: Utterance) -> str | None:
        if task == "speaker":
            return utterance.speaker
        return None if utterance.label is None else canonical_label(utterance.label)

    if lacking := [u.id for u in manifest.utterances if of(u) is None]:
        raise ManifestError(
            f"{manifest.corpus}: {len(lacking)} of {len(manifest)} utterances have no {task} "
            f"(first: {lacking[0]!r}); add it to the manifest, or leave them out"
        )
    prefix = f"{manifest.corpus}/" if task == "speaker" else ""
    for u in manifest.utterances:
        yield f"{manifest.corpus}/{u.id}", f"{prefix}{of(u)}"


def _extracted(
    manifest: Manifest, request: str, store: Place, options: PretrainOptions, progress: Progress
) -> tuple[Manifest, list[Report]]:
    """The clean feature set, then the augmented ones; and the utterances that are in all."""
    how = replace(options.extraction, frames=True)
    reports = [*extract_sets(manifest, request, store, replace(how, augment=()), progress)]
    if how.augment:
        reports += extract_sets(manifest, request, store, how, progress)
    return without_rejects(manifest, reports, allow=options.allow_rejects), reports


def _part(report: Report, store: Place, *, first: bool) -> Part:
    spec = report.spec
    augmentation = "" if spec.augmentation == CLEAN else spec.augmentation
    corpus = "" if first else spec.corpus
    return Part(open_feature_set(store, spec), augmentation, corpus)


def _rows(manifest: Manifest, parts: Sequence[Part]) -> dict[str, list[str]]:
    """The rows of every utterance, the clean one first."""
    return {
        f"{manifest.corpus}/{u.id}": [part.row_id(u.id) for part in parts]
        for u in manifest.utterances
    }


def _start(
    features: Joined,
    classes: Mapping[str, str],
    copies: Mapping[str, Sequence[str]],
    config: ResNetConfig,
    options: PretrainOptions,
) -> tuple[ResNetRun, tuple[str, ...]]:
    """The run and the names of its classes: dev is clean, copies are on the training side."""
    names = tuple(sorted(set(classes.values())))
    if len(names) < 2:
        raise TrainError(f"there is {len(names)} {options.task}: nothing to tell apart")
    held = _held_out(classes, options)
    train = [row for key in classes if key not in held for row in copies[key]]
    dev = [copies[key][0] for key in classes if key in held]
    if not dev:
        raise TrainError(f"every {options.task} has one utterance: none can be held out")
    rows = [*train, *dev]
    kind_of = {row: classes[key] for key in classes for row in copies[key]}
    labels = np.array([names.index(kind_of[row]) for row in rows], np.int64)
    at = np.arange(len(rows))
    fold = IndexedFold("pretrain", at[: len(train)], at[len(train) :], at[len(train) :])
    spectrograms = Spectrograms(FrameView(features, rows), at, config)
    run = Run(0, options.seed, config.lrs[0], 0)
    return ResNetRun(run, fold, spectrograms, labels, config, options.training.device), names


def _held_out(classes: Mapping[str, str], options: PretrainOptions) -> set[str]:
    """A share of each class's utterances, at least one of two or more; drawn by their names."""
    by_class: dict[str, list[str]] = {}
    for key, kind in classes.items():
        by_class.setdefault(kind, []).append(key)
    held = set[str]()
    for keys in by_class.values():
        drawn = sorted(keys, key=lambda key: fingerprint([options.seed, key]))
        held.update(drawn[: min(len(keys) - 1, max(1, round(options.dev_share * len(keys))))])
    return held


def _copies_of(extraction: Options) -> dict[str, Json]:
    """How copies were drawn; nothing without them."""
    drawn: dict[str, Json] = {"copies": extraction.copies, "augment_seed": extraction.seed}
    return drawn if extraction.augment else {}


def _save(
    run: ResNetRun,
    names: tuple[str, ...],
    out: Path,
    main: Part,
    config: ResNetConfig,
    options: PretrainOptions,
    manifests: Sequence[Manifest],
) -> Pretrained:
    spec = main.features.spec
    trained: dict[str, Json] = {
        "task": options.task,
        "corpora": [one.corpus for one in manifests],
        "augment": list(options.extraction.augment),
        **_copies_of(options.extraction),
        "seed": options.seed,
        "recipe": options.training.describe(options.head),
        "num_train": len(run.fold.train),
        "num_dev": len(run.fold.dev),
        "best_epoch": run.best.step,
        "dev_accuracy": run.best.score,
    }
    header = Header(
        head=options.head,
        shape=run.network.shape,
        features=identity_of(spec),
        upstream=spec.upstream,
        vad=config.vad,
        frame_norm=config.frame_norm,
        classes=names,
        trained=trained,
    )
    sha256 = save_checkpoint(out, run.network, header)
    sizes = (len(run.fold.train), len(run.fold.dev))
    return Pretrained(out, sha256, names, *sizes, run.best.step, run.best.score)
