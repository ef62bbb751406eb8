"""Train any head by its name, on a feature set, for given folds and seeds."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from ser_features.errors import TrainError, UsageError
from ser_features.fingerprint import file_sha256, fingerprint
from ser_features.heads.table import FRAMES, HEADS
from ser_features.records import FeatureSetSpec, Fold, FoldScore, Json
from ser_features.registry import unknown
from ser_features.train.extras import Extras
from ser_features.train.frame_recipes import FRAME_RECIPES, FrameConfig, LinearConfig
from ser_features.train.recipes import LR_AUTO, SUPERB_RECIPES, SuperbConfig
from ser_features.train.resnet_recipes import (
    RESNET_RECIPES,
    ResNetConfig,
    ResNetOptions,
    is_resnet,
    resnet_config,
)
from ser_features.train.stack import IndexedFold, index_folds
from ser_features.train.strategies import Strategy
from ser_features.upstreams.catalog import CATALOG, SPECTRAL
from ser_features.upstreams.request import parse_request
from ser_features.views import Features

Progress = Callable[[int, int], None]
Indices = npt.NDArray[np.int64]
Config = SuperbConfig | FrameConfig | ResNetConfig | LinearConfig
C = TypeVar("C", SuperbConfig, FrameConfig, ResNetConfig)
# They bound memory or use threads; results do not depend on them.
INERT = ("max_bytes", "memory_bytes", "readers")
BEST_LAYER = "best-layer"
"""The row that head ``layers`` adds: in every fold, the layer that dev chooses."""


@dataclass(frozen=True, slots=True)
class Training:
    """How heads are trained: a recipe and what was changed of it (None: as the recipe has it).

    A recipe counts for the heads that have it; the others take their default. ``steps`` are
    updates, or epochs of heads on frames. ``normalize`` trains pooled heads on the mean of
    layer-normed frames, as s3prl's featurizer option does. ``resnet`` is for the ResNet heads only.

    ``strategy`` says how other data enters; ``rate`` is the share of training samples that a copy
    stands in for. ``select`` is the checkpoint to test: best on ``dev`` or ``last``; None is the
    recipe's, and the last one with a strategy (paper 1, section 3.1.2). ``late`` keeps the test
    predictions of the last fifth of training beside the selected ones (paper 3, section 2.2).
    """

    recipe: str | None = None
    steps: int | None = None
    lrs: tuple[float, ...] | None = None
    weight_decays: tuple[float, ...] | None = None
    layers: str | None = None
    normalize: bool = False
    device: str = "cpu"
    resnet: ResNetOptions = field(default_factory=ResNetOptions)
    strategy: Strategy | None = None
    rate: float = 0.0
    select: str | None = None
    late: bool = False

    def config(self, head: str) -> Config:
        """All numbers of a head's training. Raises TrainError where one makes no sense."""
        self._check(head)
        kind = "mean_layernorm" if self.normalize else "mean"
        if head == "superb":
            return self._superb().validate()
        if is_resnet(head):
            decay = None if self.weight_decays is None else _only(self.weight_decays)
            config = resnet_config(head, self.recipe, self.steps, self.lrs, decay, self.resnet)
            return self._select(config)
        if HEADS[head].reads == FRAMES:
            return replace(self._frames(), head=head).validate()
        layers = self.layers or ("all" if head == "layers" else "last")
        return LinearConfig(layers=layers, kind=kind).validate()

    def describe(self, head: str) -> dict[str, Json]:
        """What of it decides the result: part of the run's key. A checkpoint is its sha256."""
        config = self.config(head)
        numbers = {k: v for k, v in asdict(config).items() if k not in INERT}
        if isinstance(config, ResNetConfig):
            numbers["init"] = _sha256_of(config.init)
        if isinstance(config, SuperbConfig) and config.select == "dev":
            del numbers["select"]  # older records, where it had no other value, keep their key
        own = {"layers": self.layers or "all", "normalize": self.normalize}
        extras = {
            "strategy": None if self.strategy is None else self.strategy.describe(),
            "rate": self.rate,
            "late": self.late,
        }
        given = {name: value for name, value in extras.items() if value}
        return {"head": head, **(own if head == "superb" else {}), **numbers, **given}

    def _check(self, head: str) -> None:
        """UsageError for what a head cannot do."""
        if not 0 <= self.rate <= 1:
            raise UsageError(f"rate must be between 0 and 1, found {self.rate:g}")
        if self.strategy is not None:
            self.strategy.validate()
        asked = {
            "a strategy": self.strategy is not None,
            "a rate": self.rate > 0,
            "late scores": self.late,
            "a checkpoint to select": self.select is not None,
        }
        if is_resnet(head) and self.strategy is not None and self.strategy.name == "adversarial":
            raise UsageError(f"head {head!r} does not know the strategy 'adversarial'")
        if any(asked.values()) and head in ("linear", "layers"):
            what = " or ".join(name for name, there in asked.items() if there)
            raise UsageError(
                f"head {head!r} does not know {what}; use superb, mlp, attentive or statistics"
            )

    def _select(self, config: C) -> C:
        select = self.select or ("last" if self.strategy is not None else config.select)
        return replace(config, select=select)

    def _superb(self) -> SuperbConfig:
        recipe = self.recipe or "quick"
        config = self._select(SUPERB_RECIPES[recipe if recipe in SUPERB_RECIPES else "quick"])
        if self.steps is not None:
            every = min(config.eval_every, max(1, self.steps // 20))
            config = replace(config, steps=self.steps, eval_every=every)
        if self.weight_decays is not None:
            config = replace(config, weight_decays=self.weight_decays)
        return config if self.lrs is None else replace(config, lrs=self.lrs)

    def _frames(self) -> FrameConfig:
        recipe = self.recipe or "data2vec-ser"
        config = self._select(FRAME_RECIPES[recipe if recipe in FRAME_RECIPES else "data2vec-ser"])
        changed: dict[str, Any] = {"epochs": self.steps, "lrs": self.lrs, "layers": self.layers}
        if self.weight_decays is not None:
            changed["weight_decay"] = _only(self.weight_decays)
        return replace(config, **{k: v for k, v in changed.items() if v is not None})


def check_recipe(recipe: str | None, heads: Sequence[str]) -> None:
    """UsageError where none of the heads has the recipe."""
    has = {name: _recipes_of(name) for name in heads if name not in ("linear", "layers")}
    if recipe is not None and not any(recipe in table for table in has.values()):
        known = sorted({name for table in has.values() for name in table})
        raise UsageError(unknown(f"recipe of {', '.join(heads)}", recipe, known))


def check_resnet(options: ResNetOptions, heads: Sequence[str], requests: Sequence[str]) -> None:
    """UsageError for options that no head would take, and for upstreams that are no spectrogram."""
    networks = [head for head in heads if is_resnet(head)]
    if not networks and options != ResNetOptions():
        given = [name for name, value in asdict(options).items() if value is not None]
        raise UsageError(f"{', '.join(given)}: only resnet34 heads take it; none was asked for")
    targets = [parse_request(text).target for text in requests]
    other = [one for one in targets if one not in CATALOG or CATALOG[one].family != SPECTRAL]
    if networks and other:
        raise UsageError(
            f"{networks[0]} reads a spectrogram, and {other[0]!r} is none; "
            "name logmel or mfcc, or bench the heads apart"
        )


def _recipes_of(head: str) -> Mapping[str, Config]:
    if is_resnet(head):
        return RESNET_RECIPES
    return FRAME_RECIPES if HEADS[head].reads == FRAMES else SUPERB_RECIPES


def _sha256_of(checkpoint: str | None) -> str | None:
    try:
        return None if checkpoint is None else file_sha256(Path(checkpoint))
    except OSError as error:
        raise TrainError(
            f"cannot read the checkpoint {checkpoint}: {error.strerror or error}; "
            "'serfeat pretrain' writes one"
        ) from error


def _only(decays: tuple[float, ...]) -> float:
    if len(decays) > 1:
        raise UsageError("heads on frames take one --weight-decay, not several")
    return decays[0]


def parse_lrs(text: str | None) -> tuple[float, ...] | None:
    """``auto`` is SUPERB's log grid; otherwise numbers by commas.

    >>> parse_lrs("1e-4,0.001")
    (0.0001, 0.001)
    """
    return LR_AUTO if text == "auto" else parse_numbers(text, "--lr", "or auto")


def parse_numbers(text: str | None, option: str, other: str = "") -> tuple[float, ...] | None:
    """Numbers by commas; UsageError naming the option where they are not."""
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        expected = ", ".join(filter(None, ["expected numbers by commas", other]))
        raise UsageError(f"{option} {text!r}: {expected}") from None


def needs_frames(heads: Sequence[str]) -> bool:
    """Whether any of the heads reads frames."""
    return any(HEADS[head].reads == FRAMES for head in heads)


@dataclass(frozen=True, slots=True)
class RowFacts:
    """What training knows of rows beyond labels, by id.

    ``added`` are the other data of a strategy; ``copy_of`` maps copies to the rows that they may
    stand in for.
    """

    added: frozenset[str] = frozenset()
    copy_of: Mapping[str, str] = field(default_factory=dict)

    def extras(self, features: Features, ids: Sequence[str], training: Training) -> Extras:
        """The same for a trainer, by row of ``ids``."""
        frames = dict(zip(features.ids, features.num_frames.tolist(), strict=True))
        return Extras(
            added=np.array([name in self.added for name in ids], bool),
            num_frames=np.array([frames.get(name, 0) for name in ids], np.int64),
            strategy=training.strategy,
            rate=training.rate,
            late=training.late,
        )


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
    extras = facts.extras(features, ids, training)
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
