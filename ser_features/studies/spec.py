"""What a study is made of: trainings, cells of tables, and what the user asked for. Data only."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from ser_features.augment.parse import parse_augmentation
from ser_features.errors import UsageError
from ser_features.extract.pipeline import Options
from ser_features.manifest import Manifest
from ser_features.records import Json, RunRecord
from ser_features.report.document import Block
from ser_features.store.reader import FeatureSet
from ser_features.studies.published import PublishedTable
from ser_features.train.resnet_recipes import ResNetOptions
from ser_features.train.run import Training, check_recipe, check_resnet, check_start
from ser_features.upstreams.request import parse_request


@dataclass(frozen=True, slots=True)
class Request:
    """What the user asked for; None is what the paper did.

    ``manifests`` are the corpora in the order given; ``noise`` and ``music`` folders of
    recordings, ``init`` a checkpoint of ``serfeat pretrain``. ``resnet`` changes trainings of
    ResNet heads (its ``init`` is not read). ``paste`` is where study ``copypaste`` joins
    utterances. ``inputs`` goes into the records.
    """

    manifests: tuple[Manifest, ...]
    upstreams: tuple[str, ...] = ()
    head: str | None = None
    labels: tuple[str, ...] | None = None
    protocol: str | None = None
    seeds: int | None = None
    steps: int | None = None
    recipe: str | None = None
    lrs: tuple[float, ...] | None = None
    copies: int | None = None
    noise: Path | None = None
    music: Path | None = None
    init: str | None = None
    swap: tuple[tuple[str, str], ...] = ()
    ratios: tuple[float, ...] = ()
    allow_rejects: bool = False
    device: str = "cpu"
    extraction: Options = field(default_factory=Options)
    inputs: Mapping[str, Json] = field(default_factory=dict)
    weight_decays: tuple[float, ...] | None = None
    select: str | None = None
    resnet: ResNetOptions = field(default_factory=ResNetOptions)
    paste: str | None = None

    @property
    def corpora(self) -> tuple[str, ...]:
        """The names of the corpora."""
        return tuple(manifest.corpus for manifest in self.manifests)

    def manifest(self, corpus: str) -> Manifest:
        """The corpus of that name."""
        return next(m for m in self.manifests if m.corpus == corpus)


@dataclass(frozen=True, slots=True)
class Trial:
    """One training on one corpus, tested under each of ``conditions``.

    ``augment`` (each ``copies`` times) and ``conditions`` are augmentations as users write them;
    ``added`` names another corpus for ``training.strategy``.
    """

    corpus: str
    upstream: str
    head: str
    training: Training
    protocol: str
    labels: tuple[str, ...]
    seeds: int
    augment: tuple[str, ...] = ()
    copies: int = 1
    conditions: tuple[str, ...] = ("clean",)
    added: str = ""

    @property
    def about(self) -> str:
        """One line that names it."""
        training, strategy = self.training, self.training.strategy
        names = [parse_augmentation(text).name for text in self.augment]
        ratio = "" if strategy is None or strategy.ratio is None else f" {strategy.ratio:g}"
        parts = [
            f"{self.corpus} · {parse_request(self.upstream).name} · {self.head}",
            f"{strategy.name}{ratio} {self.added}".strip() if strategy is not None else "",
            f"layers {training.layers}" if training.layers is not None else "",
            " & ".join(names) + (f" x{self.copies}" if names else ""),
            " & ".join(training.cache),
            ", ".join(training.resnet.words),
        ]
        return " · ".join(filter(None, parts))


SAMPLE = 200
"""Utterances of each corpus that a study listens to for its acoustic conditions."""

SCRAMBLED = "-scrambled"


def unscrambled(name: str) -> str:
    """The corpus behind a name of a crossing."""
    return name.removesuffix(SCRAMBLED)


@dataclass(frozen=True, slots=True)
class Crossing:
    """One training on one or more corpora together, tested on each of ``tests``.

    ``CORPUS-scrambled`` is a corpus whose labels of ``swap`` are exchanged on every side. Copies
    (``augment``, each ``copies`` times) stand in at ``training.rate``.
    """

    train: tuple[str, ...]
    tests: tuple[str, ...]
    upstream: str
    head: str
    training: Training
    protocol: str
    labels: tuple[str, ...]
    seeds: int
    augment: tuple[str, ...] = ()
    copies: int = 1
    swap: tuple[tuple[str, str], ...] = ()

    @property
    def about(self) -> str:
        """One line that names it."""
        rate = f" · {self.training.rate:.0%} replaced" if self.training.rate else ""
        name = parse_request(self.upstream).name
        return f"{' + '.join(self.train)} · {name} · {self.head}{rate}"


@dataclass(frozen=True, slots=True)
class Entry:
    """One cell: a training, the name of its test, and a metric.

    ``metric`` is one of ``significance.METRICS``, ``class_f1:LABEL``, or ``late:METRIC`` (the mean
    over the last fifth of training).
    """

    trial: Trial | Crossing
    test: str
    metric: str


@dataclass(frozen=True, slots=True)
class TableSpec:
    """A table: its cells by (row, column), and the cell that each is compared with.

    ``published`` holds what the paper prints in the same rows and columns; ``relative`` shows the
    difference to ``against`` instead of the score. ``figure`` is heat, lines, bars or "".
    """

    name: str
    title: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    entries: Mapping[tuple[str, str], Entry]
    against: Mapping[tuple[str, str], tuple[str, str]] = field(default_factory=dict)
    published: PublishedTable | None = None
    relative: bool = False
    figure: str = ""
    axes: tuple[str, str] = ("", "")


@dataclass(frozen=True, slots=True)
class Plan:
    """All that a study will do: its tables, and where it leaves the paper.

    ``confusions`` are entries whose confusion matrix is drawn; ``conditions`` are augmentations
    whose acoustic conditions are measured over every corpus; ``meanings`` say in words what the
    filled tables mean; ``more`` adds what needs the records or the features themselves.
    """

    tables: tuple[TableSpec, ...]
    deviations: tuple[str, ...]
    notes: tuple[str, ...] = ()
    confusions: Mapping[str, Entry] = field(default_factory=dict)
    conditions: tuple[str, ...] = ()
    meanings: "tuple[Meaning, ...]" = ()
    more: "More | None" = None

    @property
    def trials(self) -> tuple[Trial | Crossing, ...]:
        """Every training once."""
        entries = [e for table in self.tables for e in table.entries.values()]
        return tuple(dict.fromkeys(e.trial for e in (*entries, *self.confusions.values())))


@dataclass(frozen=True, slots=True)
class Score:
    """One filled cell, 0…1. ``low`` and ``high`` are a 95 % interval, None where there is none.

    ``p`` is of the paired test of the metric against the reference cell, Holm-corrected over the
    table, ``difference`` the metric's with its interval. ``spread`` of a late score is the standard
    deviation over its evaluations.
    """

    value: float
    low: float | None = None
    high: float | None = None
    p: float | None = None
    difference: float | None = None
    difference_low: float | None = None
    difference_high: float | None = None
    spread: float | None = None


Lookup = Callable[[str, str, str], Score | None]
"""Table name, row, column -> the filled cell."""
Meaning = Callable[[Lookup], Sequence[str]]
"""What filled cells mean, in sentences."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a study that was run leaves behind.

    ``records`` by training and name of the test; ``sets`` opens the clean set of a trial and its
    copies, by the names of their augmentations.
    """

    records: Mapping[tuple[Trial | Crossing, str], RunRecord]
    sets: Callable[[Trial], Mapping[str, FeatureSet]]


More = Callable[[Evidence], Sequence[Block]]
"""Further tables and figures of a study that was run."""


@dataclass(frozen=True, slots=True)
class Study:
    """A study: what it compares, whose protocol it follows, and how its tables are planned.

    ``takes`` are the options of ``TAKEN`` that it reads.
    """

    name: str
    title: str
    paper: str
    tables: str
    protocol: str
    needs: str
    plan: Callable[[Request], Plan]
    takes: tuple[str, ...] = ()


TAKEN = {
    "copies": "copies", "noise": "noise", "music": "music", "init": "init", "swap": "swap",
    "ratio": "ratios", "paste": "paste",
}  # fmt: skip
"""Options that only some studies read, and where a request has them."""


def training_of(request: Request, **paper: object) -> Training:
    """The paper's training with what the user changed of it.

    UsageError where that is what the study compares.
    """
    names = ("recipe", "steps", "lrs", "weight_decays", "select")
    given = {name: getattr(request, name) for name in names if getattr(request, name) is not None}
    training = Training(**{"device": request.device, **paper, **given})
    return replace(training, resnet=_resnet_of(request, training.resnet))


def _resnet_of(request: Request, paper: ResNetOptions) -> ResNetOptions:
    for name in ("pooling", "spec_augment"):
        if None not in (getattr(paper, name), getattr(request.resnet, name)):
            option = name.replace("_", "-")
            raise UsageError(f"this study compares what --{option} asks for: leave it out")
    given = {k: v for k, v in asdict(request.resnet).items() if v is not None and k != "init"}
    if paper.init is None:
        given.pop("init_train", None)
    return replace(paper, **given)


def make_plan(study: Study, request: Request) -> Plan:
    """The plan; what would fail only after hours of other trainings fails here.

    Raises UsageError, TrainError, and what ``study.plan`` raises.
    """
    given = [option for option, name in TAKEN.items() if getattr(request, name)]
    if unread := [option for option in given if option not in study.takes]:
        raise UsageError(f"study {study.name} does not take --{unread[0]}")
    plan = study.plan(request)
    _check_trainings(plan, request)
    return plan


def _check_trainings(plan: Plan, request: Request) -> None:
    inits = {trial.training.resnet.init for trial in plan.trials}
    if request.init is not None and inits == {None}:
        raise UsageError(f"no training of this plan starts from --init {request.init}")
    if request.init is None and request.resnet.init_train is not None:
        raise UsageError("--init-train says what an --init checkpoint keeps: name the checkpoint")
    for trial in plan.trials:
        if len(trial.labels) < 2:
            found = ", ".join(trial.labels) or "none"
            raise UsageError(f"a study needs two labels or more, found {found}: see --labels")
        check_recipe(trial.training.recipe, [trial.head])
        check_resnet(trial.training.resnet, [trial.head], [trial.upstream])
        check_start(trial.training, trial.head, trial.upstream)


def need_upstreams(request: Request, default: Sequence[str] = ()) -> tuple[str, ...]:
    """The asked upstreams or the study's; UsageError where there is none."""
    found = request.upstreams or tuple(default)
    if not found:
        raise UsageError("name at least one upstream: --upstreams")
    return found
