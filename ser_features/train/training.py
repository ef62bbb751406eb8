"""How heads are trained, as a user asks for it; what may go with what."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from ser_features.errors import TrainError, UsageError
from ser_features.fingerprint import file_sha256
from ser_features.heads.table import FRAMES, HEADS
from ser_features.records import Json
from ser_features.registry import unknown
from ser_features.train.cache_augment import CacheStep, parse_cache
from ser_features.train.frame_recipes import FRAME_RECIPES, FrameConfig, LinearConfig
from ser_features.train.recipes import LR_AUTO, SUPERB_RECIPES, SuperbConfig
from ser_features.train.resnet_recipes import (
    RESNET_RECIPES,
    ResNetConfig,
    ResNetOptions,
    check_energy,
    is_resnet,
    resnet_config,
)
from ser_features.train.strategies import Strategy
from ser_features.upstreams.catalog import CATALOG, SPECTRAL
from ser_features.upstreams.request import parse_request

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
    ``cache`` are augmentations on the cache (see ``train.cache_augment``), drawn while training.
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
    cache: tuple[str, ...] = ()

    def config(self, head: str) -> Config:
        """All numbers of a head's training. Raises TrainError where one makes no sense."""
        self._check(head)
        config = self._config(head)
        if self.strategy is not None:
            if isinstance(config, SuperbConfig):
                self.strategy.check_length(config.steps, "updates")
            elif not isinstance(config, LinearConfig):
                self.strategy.check_length(config.epochs, "epochs")
        return config

    def _config(self, head: str) -> Config:
        kind = "mean_layernorm" if self.normalize else "mean"
        if head == "superb":
            return self._superb().validate()
        if is_resnet(head):
            decay = None if self.weight_decays is None else _only(self.weight_decays)
            config = resnet_config(head, self.recipe, self.steps, self.lrs, decay, self.resnet)
            return self._select(config).validate()
        if HEADS[head].reads == FRAMES:
            return replace(self._frames(), head=head).validate()
        layers = self.layers or ("all" if head == "layers" else "last")
        return LinearConfig(layers=layers, kind=kind).validate()

    def for_head(self, head: str) -> "Training":
        """The same without what this head does not take of what several are asked for."""
        solved, network = head in ("linear", "layers"), is_resnet(head)
        unknown_recipe = self.recipe is not None and self.recipe not in _recipes_of(head)
        drops = {
            "recipe": solved or unknown_recipe,
            "steps": solved,
            "lrs": solved,
            "weight_decays": solved,
            "layers": network,
            "normalize": HEADS[head].reads == FRAMES,
            "resnet": not network,
        }
        default = Training()
        gone = {name: getattr(default, name) for name, drop in drops.items() if drop}
        return replace(self, **gone)

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
            "cache": [step.text for step in self.cache_steps(head)],
        }
        given = {name: value for name, value in extras.items() if value}
        return {"head": head, **(own if head == "superb" else {}), **numbers, **given}

    def _check(self, head: str) -> None:
        """UsageError for what a head cannot do."""
        if not 0 <= self.rate <= 1:
            raise UsageError(f"rate must be between 0 and 1, found {self.rate:g}")
        if self.strategy is not None:
            self.strategy.validate()
        if self.layers not in (None, "last", "all") and not _is_number(self.layers):
            raise UsageError(f"layers {self.layers!r}: expected 'last', 'all' or a number from 0")
        self.cache_steps(head)
        asked = {
            "a strategy": self.strategy is not None,
            "a rate": self.rate > 0,
            "late scores": self.late,
            "a checkpoint to select": self.select is not None,
            "augmentation on the cache": bool(self.cache),
        }
        if is_resnet(head) and any(s.name == "layer-mask" for s in self.cache_steps(head)):
            raise UsageError(f"head {head!r} reads a spectrogram, which has no layers to mask")
        if any(asked.values()) and head in ("linear", "layers"):
            what = " or ".join(name for name, there in asked.items() if there)
            raise UsageError(
                f"head {head!r} does not know {what}; use superb, mlp, attentive or statistics"
            )

    def cache_steps(self, head: str) -> tuple[CacheStep, ...]:
        """The augmentations on the cache; UsageError where this head cannot have them."""
        return parse_cache(self.cache, frames=HEADS[head].reads == FRAMES)

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
        given = [_option(name) for name, value in asdict(options).items() if value is not None]
        raise UsageError(f"{', '.join(given)}: only resnet34 heads take it; none was asked for")
    targets = [parse_request(text).target for text in requests]
    other = [one for one in targets if one not in CATALOG or CATALOG[one].family != SPECTRAL]
    if networks and other:
        raise UsageError(
            f"{networks[0]} reads a spectrogram, and {other[0]!r} is none; "
            "name logmel or mfcc, or bench the heads apart"
        )


def check_taken(training: Training, heads: Sequence[str]) -> None:
    """UsageError for options that none of the heads would take."""
    taken = [training.for_head(HEADS[head].name) for head in heads]
    lost = [
        option
        for name, option in _OPTIONS.items()
        if all(getattr(one, name) != getattr(training, name) for one in taken)
    ]
    if lost:
        raise UsageError(f"{', '.join(lost)}: none of the heads takes it: {', '.join(heads)}")


_OPTIONS = {
    "steps": "--steps", "lrs": "--lr", "weight_decays": "--weight-decay", "layers": "--layers",
    "normalize": "--normalize",
}  # fmt: skip


def check_start(training: Training, head: str, request: str) -> None:
    """TrainError where a ResNet could not be trained on the frames, or not from its checkpoint."""
    config, upstream = training.config(head), parse_request(request).name
    if not isinstance(config, ResNetConfig):
        return
    if config.vad:
        check_energy(upstream)
    if config.init is not None:
        from ser_features.train.checkpoint import check_options

        check_options(config, upstream)


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


def _option(field: str) -> str:
    """The option that sets a field of ``ResNetOptions``."""
    names = {"precision": "train-precision"}
    return f"--{names.get(field, field).replace('_', '-')}"


def _is_number(text: str | None) -> bool:
    return text is not None and text.isascii() and text.isdecimal()


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
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if not numbers or not all(0 <= number < float("inf") for number in numbers):
        expected = ", ".join(filter(None, ["expected numbers from 0 by commas", other]))
        raise UsageError(f"{option} {text!r}: {expected}")
    return numbers


def needs_frames(heads: Sequence[str]) -> bool:
    """Whether any of the heads reads frames."""
    return any(HEADS[head].reads == FRAMES for head in heads)
