"""Recipes of the ResNet-34 heads: every number they are trained with. Data only, no torch."""

import math
from dataclasses import dataclass, fields, replace

from ser_features.errors import TrainError
from ser_features.heads.table import HEADS
from ser_features.registry import Table
from ser_features.train.recipes import SELECT_METRICS, check_lrs

GIB = 2**30
POOLINGS = ("attention", "statistics", "mean")
NORMS = ("none", "mean", "mean-variance")
PRECISIONS = ("float32", "bfloat16")
INIT_TRAIN = ("new", "all")


@dataclass(frozen=True, slots=True)
class ResNetOptions:
    """What a user may change of a ResNet head (None: as the recipe has it).

    ``pooling`` is attention, statistics or mean. ``vad`` drops unvoiced frames, ``frame_norm`` is
    none, mean or mean-variance (of each band over an utterance's frames). ``spec_augment`` names a
    policy of ``train.specaugment``, or ``none``. ``init`` is a checkpoint that ``serfeat pretrain``
    wrote: with ``init_train`` ``new`` the convolutions stay as they are and both linear layers are
    replaced and trained (paper 4); with ``all`` the last layer is replaced and everything trained
    (paper 2). ``precision`` is that of the convolutions while training and testing.
    """

    pooling: str | None = None
    vad: bool | None = None
    frame_norm: str | None = None
    spec_augment: str | None = None
    init: str | None = None
    init_train: str | None = None
    precision: str | None = None

    @property
    def words(self) -> tuple[str, ...]:
        """What was changed: ``spec augment none``."""
        given = ((field.name, getattr(self, field.name)) for field in fields(self))
        return tuple(f"{k.replace('_', ' ')} {v}" for k, v in given if v is not None)


@dataclass(frozen=True, slots=True)
class ResNetConfig:
    """How a ResNet head is trained: minibatches of chunks, tests on whole utterances.

    ``optimiser`` is adam (torch's defaults) or sgd with ``momentum``; ``schedule`` is constant or
    halving (see ``halving_factor``). Each minibatch draws a length of ``chunks`` (frames); each of
    its utterances gives a chunk of that length from a random place. A shorter one is repeated from
    its start: to the drawn length where ``pad_to_chunk``, else to the longest of those that go
    through the network together. Those are ``micro_batch`` chunks, sorted by length: batch
    normalisation sees as many, and memory does not grow with the batch.

    Dev is scored whole by ``select_metric`` after every epoch; ``select`` keeps the first best
    epoch (``dev``) or the ``last`` one. ``memory_bytes`` decides only whether frames stay in memory
    or are read again; ``readers`` threads decode. The other fields stand in ``ResNetOptions``.
    """

    head: str
    pooling: str
    frame_norm: str
    optimiser: str
    batch: int
    chunks: tuple[int, ...]
    lrs: tuple[float, ...]
    vad: bool = False
    pad_to_chunk: bool = False
    schedule: str = "constant"
    momentum: float = 0.0
    weight_decay: float = 0.0
    epochs: int = 30
    micro_batch: int = 16
    spec_augment: str = "none"
    init: str | None = None
    init_train: str = "all"
    precision: str = "float32"
    select: str = "dev"
    select_metric: str = "weighted_f1"
    memory_bytes: int = 6 * GIB
    readers: int = 2

    def validate(self) -> "ResNetConfig":
        """This config; TrainError where a value makes no sense."""
        # batch normalisation needs two; parts of three or more never leave one over
        least = {"epochs": 1, "batch": 2, "micro_batch": 3, "memory_bytes": 1, "readers": 1}
        for name, bound in least.items():
            if getattr(self, name) < bound:
                raise TrainError(f"{name} must be {bound} or more, found {getattr(self, name)}")
        if not all(0 <= number < math.inf for number in (self.momentum, self.weight_decay)):
            raise TrainError("momentum and weight_decay must be 0 or more")
        if not self.chunks or min(self.chunks) < 1:
            raise TrainError(f"chunks must be numbers of frames, at least one, found {self.chunks}")
        check_lrs(self.lrs)
        for name, known in _WORDS.items():
            if getattr(self, name) not in known:
                raise TrainError(
                    f"{name} must be one of {', '.join(known)}, found {getattr(self, name)!r}"
                )
        return self


_WORDS = {
    "pooling": POOLINGS,
    "frame_norm": NORMS,
    "optimiser": ("adam", "sgd"),
    "schedule": ("constant", "halving"),
    "spec_augment": ("none", "conservative", "aggressive"),
    "init_train": INIT_TRAIN,
    "precision": PRECISIONS,
    "select": ("dev", "last"),
    "select_metric": SELECT_METRICS,
}

RESNET_RECIPES = Table(
    "recipe",
    (
        (
            "copypaste",
            ResNetConfig(
                head="resnet34-copypaste",
                pooling="attention",
                frame_norm="mean",
                vad=True,
                optimiser="adam",
                batch=128,
                chunks=(400,),
                lrs=(1e-3,),
            ),
        ),
        (
            "transfer",
            ResNetConfig(
                head="resnet34-transfer",
                pooling="statistics",
                frame_norm="mean-variance",
                optimiser="sgd",
                momentum=0.9,
                batch=32,
                micro_batch=32,
                chunks=(150, 200, 250, 300),
                pad_to_chunk=True,
                lrs=(1e-2,),
                schedule="halving",
                init_train="new",
                select_metric="wa",
            ),
        ),
    ),
)
"""``copypaste``: paper 2, section 3.2: Adam with torch's defaults, 128 utterances, the epoch with
the best weighted F1 on dev. Its 4 s crops are those of its augmentation; that plain training takes
the same is our choice. ``transfer``: paper 4, section 4.2. Neither prints its number of epochs, nor
paper 4 how it chose one; what it pads with is not printed either."""


PAPER_UPSTREAM = {"resnet34-copypaste": "mfcc", "resnet34-transfer": "logmel"}
"""What each network reads in its paper."""


FFT_SIZES = {"logmel": 1024, "mfcc": 512}
"""Upstreams whose frames tell the energy, and the size of their Fourier transform."""


def check_energy(upstream: str) -> None:
    """TrainError for an upstream whose frames do not tell the energy (fbank is normalised)."""
    if upstream not in FFT_SIZES:
        raise TrainError(
            f"voice activity detection needs the energy, which {upstream!r} does not keep; "
            f"use {' or '.join(sorted(FFT_SIZES))}, or train without it (--no-vad)"
        )


def is_resnet(head: str) -> bool:
    """Whether ``head`` is a ResNet on a spectrogram."""
    return HEADS[head].module == "resnet34"


def resnet_config(
    head: str,
    recipe: str | None,
    epochs: int | None,
    lrs: tuple[float, ...] | None,
    weight_decay: float | None,
    options: ResNetOptions,
) -> ResNetConfig:
    """All numbers of a head's training; None keeps the recipe's. Raises TrainError."""
    if options.init_train is not None and options.init is None:
        raise TrainError("--init-train says what an --init checkpoint keeps: name the checkpoint")
    own = head.removeprefix("resnet34-")
    name = recipe if recipe is not None and recipe in RESNET_RECIPES else own
    config = replace(RESNET_RECIPES[name], head=head)
    if name != own:  # a recipe says how to train; the network stays the head's
        config = replace(config, pooling=RESNET_RECIPES[own].pooling)
    chosen = {each.name: getattr(options, each.name) for each in fields(options)}
    chosen |= {"epochs": epochs, "lrs": lrs, "weight_decay": weight_decay}
    changed = {key: value for key, value in chosen.items() if value is not None}
    return replace(config, **changed).validate()


def halving_factor(epoch: int) -> float:
    """Paper 4: the rate is constant for 8 epochs, then halved every other epoch (from 1).

    >>> [halving_factor(epoch) for epoch in (1, 8, 9, 10, 11)]
    [1.0, 1.0, 0.5, 0.5, 0.25]
    """
    return 0.5 ** max(0, (epoch - 7) // 2)
