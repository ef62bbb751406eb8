"""The bench: extract what is missing, train every head on every upstream, keep run records."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from ser_features import __version__
from ser_features.audio import probe
from ser_features.audit import audit
from ser_features.augment.parse import parse_augmentation
from ser_features.baselines import Facts, baseline_records, under
from ser_features.errors import UsageError
from ser_features.extract.pipeline import Options
from ser_features.extract.progress import Progress, Silent
from ser_features.folds import make_folds
from ser_features.heads.table import HEADS
from ser_features.manifest import Manifest
from ser_features.mixture import Mixture, foreign_rows, map_labels
from ser_features.records import Json, RunRecord
from ser_features.results import save_record
from ser_features.runs import CLEAN, Run, Task
from ser_features.sets import make_sets, without_rejects
from ser_features.store.place import Place
from ser_features.train.cache_augment import check_neutral
from ser_features.train.resnet_recipes import ResNetOptions
from ser_features.train.run import (
    BEST_LAYER,
    Training,
    check_recipe,
    check_resnet,
    check_start,
    check_taken,
    init_notes,
    needs_frames,
)
from ser_features.train.strategies import Strategy


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """What to compare and how: ``labels`` as ``Manifest.select_labels`` takes them.

    ``fold_seed`` draws what the protocol leaves to chance; it is not a training seed. ``inputs``
    goes into the records as it is: what the caller needs to run them again.

    ``augment`` are augmentations (as ``augment.parse`` reads them) of the training side, each
    ``copies`` times: further training rows, or stand-ins where ``training.rate`` is set.
    ``conditions`` are what test is predicted under, ``clean`` or augmentations; a record each.
    ``ratios`` of added to real data make a row each, with ``training.strategy``.
    """

    protocol: str = "loso"
    heads: tuple[str, ...] = ("superb",)
    labels: tuple[str, ...] | None = None
    seeds: int = 1
    fold_seed: int = 0
    allow_rejects: bool = False
    training: Training = field(default_factory=Training)
    extraction: Options = field(default_factory=Options)
    inputs: Mapping[str, Json] = field(default_factory=dict)
    augment: tuple[str, ...] = ()
    copies: int = 1
    conditions: tuple[str, ...] = (CLEAN,)
    ratios: tuple[float, ...] = ()

    @property
    def trainings(self) -> tuple[Training, ...]:
        """One a ratio, or the one."""
        strategy = self.training.strategy
        if strategy is None or not self.ratios:
            return (self.training,)
        return tuple(
            replace(self.training, strategy=replace(strategy, ratio=ratio).validate())
            for ratio in self.ratios
        )


def bench(
    manifest: Manifest,
    requests: Sequence[str],
    store: Place,
    results: Path,
    options: BenchOptions | None = None,
    progress: Progress | None = None,
    added: Sequence[Manifest] = (),
) -> list[RunRecord]:
    """Run every head on every upstream over one corpus; what is on record is not trained again.

    Baselines come along. Heads on frames make the extraction keep frames. ``added`` are other
    corpora for the training side, as ``training.strategy`` says. Raises RejectsError where
    utterances were rejected by any upstream and ``allow_rejects`` is off; with it on they are left
    out of every row, so that rows stay comparable.
    """
    options, progress = options or BenchOptions(), progress or Silent()
    selected = prepare(manifest, requests, options, added)
    others = [map_labels(one, options.labels or selected.labels) for one in added]
    frames = options.extraction.frames or needs_frames(options.heads)
    how = replace(options.extraction, frames=frames)
    wanted = (options.augment, options.copies, options.conditions, progress)
    made = [make_sets(selected, one, others, store, how, *wanted) for one in requests]
    for sentence in dict.fromkeys(s for sets in made for s in sets.sentences):
        progress.say(sentence)
    allow = options.allow_rejects
    kept = without_rejects(selected, [r for sets in made for r in sets.own], allow=allow)
    rests = [
        without_rejects(one, [sets.added[i] for sets in made], allow=allow)
        for i, one in enumerate(others)
    ]
    mixtures = [sets.open(store, rests) for sets in made]
    task = make_task(kept, len(selected) - len(kept), mixtures[0], options)
    records = _baselines(task, results, made[0].tested)
    count = len(requests) * len(options.trainings) * len(options.heads)
    number = itertools.count(1)
    for sets, mixture, request in zip(made, mixtures, requests, strict=True):
        for run in plan_runs(task, mixture, request, sets.tested, options, results):
            records += run.go(progress, f" ({next(number)} of {count})")
    return records


def plan_runs(
    task: Task,
    mixture: Mixture,
    request: str,
    tested: Sequence[str],
    options: BenchOptions,
    results: Path,
) -> Iterator[Run]:
    """The runs on one upstream; ``tested`` are the names of the test conditions."""
    for training in options.trainings:
        inputs = _inputs(options, request, training)
        mixed = mixture.join(replace(task, inputs=inputs), training, tested)
        for head in options.heads:
            yield Run(mixed.task, mixed.features, head, options.seeds, training, results)


def prepare(
    manifest: Manifest,
    requests: Sequence[str],
    options: BenchOptions,
    added: Sequence[Manifest] = (),
) -> Manifest:
    """The manifest with the asked labels; what would fail only after hours fails here.

    Raises UsageError, ManifestError, ProtocolError, TrainError.
    """
    if not requests:
        raise UsageError("name at least one upstream; 'serfeat upstreams' lists them")
    check_recipe(options.training.recipe, options.heads)
    check_taken(options.training, options.heads)
    _check_mixture(options, [manifest, *added])
    check_resnet(options.training.resnet, options.heads, requests)
    for head in options.heads:
        for training in options.trainings:
            training.describe(HEADS[head].name)
            for request in requests:
                check_start(training, head, request)
    selected = manifest.select_labels(options.labels)
    if len(selected.labels) < 2:
        one = ", ".join(selected.labels)
        raise UsageError(f"{manifest.corpus!r} has one class to tell, {one}; expected two or more")
    for head in options.heads:
        steps = options.training.cache_steps(head)
        check_neutral(steps, has_neutral="neutral" in selected.labels)
    selected = selected.with_notes(*init_notes(options.training.resnet.init, manifest.corpus))
    make_folds(selected, options.protocol, options.fold_seed)
    return selected


def _check_mixture(options: BenchOptions, corpora: Sequence[Manifest]) -> None:
    """UsageError where what is to join training does not go together."""
    training, added = options.training, len(corpora) > 1
    has_strategy = training.strategy is not None
    names = [one.corpus for one in corpora]
    joining = ", ".join(n for one in options.conditions for n in parse_augmentation(one).joining)
    rules = [
        (len(set(names)) == len(names), f"the added corpora need names of their own: {names}"),
        (options.copies >= 1, f"copies must be 1 or more, found {options.copies}"),
        (not training.rate or options.augment, "a rate needs an augmentation: --augment"),
        (not (training.rate and has_strategy), "a rate and a strategy exclude each other"),
        (
            not has_strategy or added or options.augment,
            "a strategy needs other data: --added CORPUS=PATH, or --augment",
        ),
        (has_strategy or not added, "added data need a strategy, such as --strategy mix"),
        (has_strategy or not options.ratios, "a ratio needs a strategy: --strategy"),
        (bool(options.conditions), "name at least one test condition, such as clean"),
        (
            not joining,
            f"{joining} cannot be a test condition: it would join test recordings with others, "
            "also with those that are trained on",
        ),
    ]
    for holds, sentence in rules:
        if not holds:
            raise UsageError(sentence)


def _inputs(options: BenchOptions, request: str, training_: Training) -> dict[str, Json]:
    """All that ``options_of`` needs to give these options back, for one upstream."""
    extraction, training = asdict(options.extraction), asdict(training_)
    own: dict[str, Json] = {"labels": options.labels, "allow_rejects": options.allow_rejects}
    own |= {"augment": options.augment, "copies": options.copies, "conditions": options.conditions}
    settings = {**own, "extraction": extraction, "training": training, "upstream": request}
    return {**options.inputs, **settings}


def options_of(record: RunRecord) -> BenchOptions:
    """The options that a record was made with; UsageError where it does not hold them."""
    inputs = record.provenance.get("inputs", {})
    named = record.head.partition(":")[0]
    head = "layers" if named == BEST_LAYER else named
    try:
        labels, training = inputs["labels"], dict(inputs["training"])
        extraction = dict(inputs["extraction"])
        extraction["augment"] = tuple(extraction.get("augment", ()))
        for name in ("lrs", "weight_decays"):
            training[name] = None if training[name] is None else tuple(training[name])
        training["resnet"] = ResNetOptions(**training.get("resnet", {}))
        training["cache"] = tuple(training.get("cache", ()))
        if training.get("strategy") is not None:
            training["strategy"] = Strategy(**training["strategy"])
        return BenchOptions(
            protocol=record.protocol,
            heads=(head,),
            labels=None if labels is None else tuple(labels),
            seeds=1 + max(seed for _, seed in record.expected),
            fold_seed=record.config["fold_seed"],
            allow_rejects=inputs["allow_rejects"],
            training=Training(**training).for_head(head),
            extraction=Options(**extraction),
            inputs={name: inputs[name] for name in ("source", "store", "added") if name in inputs},
            augment=tuple(inputs.get("augment", ())),
            copies=inputs.get("copies", 1),
            conditions=tuple(inputs.get("conditions", (CLEAN,))),
        )
    except (KeyError, TypeError, ValueError):
        raise UsageError(
            f"the record of {record.upstream} ({record.head}) does not hold what is needed to run "
            "it again; baselines come with every bench"
        ) from None


def make_task(kept: Manifest, num_rejects: int, mixture: Mixture, options: BenchOptions) -> Task:
    """The task without what joins it; but the audit looks at the added corpora too."""
    plan = make_folds(kept, options.protocol, options.fold_seed)
    hashes = dict(zip(mixture.clean.ids, mixture.clean.audio_sha256, strict=True))
    rows, folds = list(kept.utterances), plan.folds
    for manifest, features in mixture.added:
        foreign = tuple(foreign_rows(manifest))
        names = [u.id for u in foreign]
        rows += foreign
        folds = tuple(replace(fold, train=(*fold.train, *names)) for fold in folds)
        own = dict(zip(features.ids, features.audio_sha256, strict=True))
        pairs = zip(names, manifest.utterances, strict=True)
        hashes |= {name: own[u.id] for name, u in pairs}
    found = audit(folds, rows, hashes)
    notes = [note for manifest, _ in mixture.added for note in manifest.notes]
    kept = kept.with_notes(*notes)
    return Task(kept, plan, options.fold_seed, found, num_rejects, options.inputs)


def _baselines(task: Task, results: Path, conditions: Sequence[str]) -> list[RunRecord]:
    """They hear nothing, so they say the same under every test condition."""
    headers = {u.id: probe(u) for u in task.manifest.utterances}
    seconds = {name: header.num_samples / header.sample_rate for name, header in headers.items()}
    records = baseline_records(
        task.manifest.corpus,
        task.plan.protocol,
        task.plan.folds,
        Facts(task.manifest.labels, task.truth, task.speakers, seconds),
        config={"fold_seed": task.fold_seed},
        provenance={"serfeat": __version__, "inputs": dict(task.inputs)},
        audit=task.audit.to_json(),
        notes=task.notes,
        num_rejects=task.num_rejects,
    )
    every = [under(record, condition) for condition in conditions for record in records]
    for record in every:
        save_record(results, record)
    return every
