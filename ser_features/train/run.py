"""Train any head by its name, on a feature set, for given folds and seeds."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ser_features.fingerprint import fingerprint
from ser_features.records import FeatureSetSpec, Fold, FoldScore
from ser_features.train.cache_augment import CacheAugment
from ser_features.train.extras import Extras
from ser_features.train.frame_recipes import FrameConfig
from ser_features.train.recipes import SuperbConfig
from ser_features.train.resnet_recipes import ResNetConfig
from ser_features.train.stack import IndexedFold, index_folds
from ser_features.train.training import (
    BEST_LAYER,
    Config,
    Training,
    check_recipe,
    check_resnet,
    check_start,
    check_taken,
    needs_frames,
    parse_lrs,
    parse_numbers,
)
from ser_features.views import Features, resolve_layers

__all__ = [
    "BEST_LAYER",
    "Config",
    "RowFacts",
    "Training",
    "check_recipe",
    "check_resnet",
    "check_start",
    "check_taken",
    "identity_of",
    "init_notes",
    "needs_frames",
    "parse_lrs",
    "parse_numbers",
    "rows_of",
    "train_head",
]

Progress = Callable[[int, int], None]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class RowFacts:
    """What training knows of rows beyond labels, by id.

    ``added`` are the other data of a strategy; ``copy_of`` maps copies to the rows that they may
    stand in for. ``neutral`` is the class that CopyPaste joins to others.
    """

    added: frozenset[str] = frozenset()
    copy_of: Mapping[str, str] = field(default_factory=dict)
    neutral: int | None = None

    def extras(
        self, head: str, features: Features, ids: Sequence[str], training: Training
    ) -> Extras:
        """The same for the trainer of a head, by row of ``ids``."""
        frames = dict(zip(features.ids, features.num_frames.tolist(), strict=True))
        return Extras(
            added=np.array([name in self.added for name in ids], bool),
            num_frames=np.array([frames.get(name, 0) for name in ids], np.int64),
            strategy=training.strategy,
            rate=training.rate,
            late=training.late,
            cache=self._cache(head, features.spec, training),
        )

    def _cache(self, head: str, spec: FeatureSetSpec, training: Training) -> CacheAugment | None:
        steps, config = training.cache_steps(head), training.config(head)
        if not steps:
            return None
        which = config.layers if isinstance(config, FrameConfig) else training.layers or "all"
        layers = len(resolve_layers(which, spec.num_layers))
        return CacheAugment(steps, layers, spec.dim, self.neutral)


def train_head(
    head: str,
    features: Features,
    ids: Sequence[str],
    labels: Indices,
    folds: Sequence[Fold],
    seeds: Sequence[int],
    training: Training,
    progress: Progress | None = None,
    facts: RowFacts | None = None,
) -> dict[str, list[FoldScore]]:
    """Train ``head`` for every fold and seed; ``labels`` [len(ids)] are class indices.

    ``facts`` say which rows are copies and which are the other data of a strategy.

    The result has one entry, ``head``; for ``layers`` one for each layer (``layers:3``) and one
    for the layer that dev chooses (``best-layer``). Raises TrainError where the features or folds
    cannot be trained on.
    """
    by_name = {fold.name: fold for fold in folds}
    facts = facts or RowFacts()
    outcomes = _train(head, features, tuple(ids), labels, folds, seeds, training, progress, facts)
    return {
        name: [outcome.to_fold_score(by_name[outcome.fold]) for outcome in part]
        for name, part in outcomes.items()
    }


def _train(
    head: str,
    features: Features,
    ids: tuple[str, ...],
    labels: Indices,
    folds: Sequence[Fold],
    seeds: Sequence[int],
    training: Training,
    progress: Progress | None,
    facts: RowFacts,
) -> dict[str, list[Any]]:
    from ser_features.train.frames import run_frames
    from ser_features.train.linear import best_layers, run_layers, run_linear
    from ser_features.train.superb import train_superb
    from ser_features.views import FrameView, PooledView

    config = training.config(head)
    indexed = index_folds(folds, ids, facts.copy_of)
    options: Any = {"device": training.device, "progress": progress}
    extras = facts.extras(head, features, ids, training)
    if isinstance(config, FrameConfig):
        frames = FrameView(features, ids, config.layers)
        return {head: run_frames(frames, labels, indexed, seeds, config, extras=extras, **options)}
    if isinstance(config, ResNetConfig):
        options["extras"] = extras
        return {head: _resnet(features, ids, labels, indexed, seeds, config, options)}
    view = PooledView(features, ids, "mean_layernorm" if training.normalize else "mean")
    if isinstance(config, SuperbConfig):
        data = view.load(training.layers or "all")
        return {head: train_superb(data, labels, indexed, seeds, config, extras=extras, **options)}
    if head == "linear":
        return {head: run_linear(view, labels, indexed, seeds, config, **options)}
    outcomes = run_layers(view, labels, indexed, seeds, config, **options)
    layers: dict[str, list[Any]] = {BEST_LAYER: best_layers(outcomes)}
    for outcome in outcomes:
        layers.setdefault(f"layers:{outcome.setting['layer']}", []).append(outcome)
    return layers


def init_notes(checkpoint: str | None, corpus: str) -> list[str]:
    """What a reader must know of a pretrained network that heard the corpus it is tested on."""
    if checkpoint is None:
        return []
    from ser_features.train.checkpoint import read_header

    trained = read_header(Path(checkpoint)).trained
    if corpus not in trained.get("corpora", ()):
        return []
    return [
        f"the checkpoint {Path(checkpoint).name} was pretrained on {corpus} "
        "itself: it has heard the test speakers"
    ]


def _resnet(
    features: Features,
    ids: tuple[str, ...],
    labels: Indices,
    folds: Sequence[IndexedFold],
    seeds: Sequence[int],
    config: ResNetConfig,
    options: Any,
) -> list[Any]:
    from ser_features.heads.resnet34 import shape_of
    from ser_features.train.checkpoint import check_init
    from ser_features.train.resnet import run_resnet
    from ser_features.views import FrameView

    spec = features.spec
    shape = shape_of(config.head, spec.dim, 2, config.pooling)
    check_init(config, shape, identity_of(spec), spec.upstream)
    view = FrameView(features, ids)
    return run_resnet(view, labels, folds, seeds, config, **options)


def identity_of(spec: FeatureSetSpec) -> str:
    """Fingerprint of the upstream behind a feature set: the same for every corpus and copy."""
    return fingerprint(spec.provenance.get("identity", {}))


def rows_of(head: str, training: Training, num_layers: int) -> list[str]:
    """The keys of ``train_head``'s result: the leaderboard rows that a head makes."""
    if head != "layers":
        return [head]
    from ser_features.views import resolve_layers

    layers = resolve_layers(training.layers or "all", num_layers)
    return [BEST_LAYER, *(f"layers:{layer}" for layer in layers)]
