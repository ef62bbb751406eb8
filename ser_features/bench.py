"""The bench: extract what is missing, train every head on every upstream, keep run records."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from ser_features import __version__
from ser_features.audio import probe
from ser_features.audit import audit
from ser_features.baselines import Facts, baseline_records
from ser_features.errors import RejectsError, UsageError
from ser_features.extract.pipeline import Options, Report, extract
from ser_features.extract.progress import Progress, Silent
from ser_features.extract.remarks import remarks
from ser_features.folds import make_folds
from ser_features.heads.table import HEADS
from ser_features.manifest import Manifest
from ser_features.records import Json, RunRecord
from ser_features.results import save_record
from ser_features.runs import Run, Task
from ser_features.store.reader import FeatureSet, open_feature_set
from ser_features.train.resnet_recipes import ResNetOptions
from ser_features.train.run import BEST_LAYER, Training, check_recipe, needs_frames


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """What to compare and how: ``labels`` as ``Manifest.select_labels`` takes them.

    ``fold_seed`` draws what the protocol leaves to chance; it is not a training seed. ``inputs``
    goes into the records as it is: what the caller needs to run them again.
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


def bench(
    manifest: Manifest,
    requests: Sequence[str],
    store: Path,
    results: Path,
    options: BenchOptions | None = None,
    progress: Progress | None = None,
) -> list[RunRecord]:
    """Run every head on every upstream over one corpus; what is on record is not trained again.

    Baselines come along. Heads on frames make the extraction keep frames. Raises RejectsError
    where utterances were rejected by any upstream and ``allow_rejects`` is off; with it on they
    are left out of every row, so that rows stay comparable.
    """
    options, progress = options or BenchOptions(), progress or Silent()
    selected = prepare(manifest, requests, options)
    frames = options.extraction.frames or needs_frames(options.heads)
    how = replace(options.extraction, frames=frames)
    reports = [extract(selected, one, store, how, progress) for one in requests]
    for sentence in dict.fromkeys(line for report in reports for line in remarks(report)):
        progress.say(sentence)
    kept = _without_rejects(selected, reports, options)
    opened = [open_feature_set(store, report.spec) for report in reports]
    task = _task(kept, len(selected) - len(kept), opened[0], options)
    records = _baselines(task, results)
    for features, request in zip(opened, requests, strict=True):
        own = replace(task, inputs=_inputs(options, request))
        for head in options.heads:
            run = Run(own, features, head, options.seeds, options.training, results)
            records += run.go(progress)
    return records


def prepare(manifest: Manifest, requests: Sequence[str], options: BenchOptions) -> Manifest:
    """The manifest with the asked labels; what would fail only after hours fails here.

    Raises UsageError, ManifestError, ProtocolError, TrainError.
    """
    if not requests:
        raise UsageError("name at least one upstream; 'serfeat upstreams' lists them")
    check_recipe(options.training.recipe, options.heads)
    for head in options.heads:
        options.training.describe(HEADS[head].name)
    selected = manifest.select_labels(options.labels)
    make_folds(selected, options.protocol, options.fold_seed)
    return selected


def _inputs(options: BenchOptions, request: str) -> dict[str, Json]:
    """All that ``options_of`` needs to give these options back, for one upstream."""
    extraction, training = asdict(options.extraction), asdict(options.training)
    own = {"labels": options.labels, "allow_rejects": options.allow_rejects}
    settings = {**own, "extraction": extraction, "training": training, "upstream": request}
    return {**options.inputs, **settings}


def options_of(record: RunRecord) -> BenchOptions:
    """The options that a record was made with; UsageError where it does not hold them."""
    inputs = record.provenance.get("inputs", {})
    head = record.head.partition(":")[0]
    try:
        labels, training = inputs["labels"], dict(inputs["training"])
        for name in ("lrs", "weight_decays"):
            training[name] = None if training[name] is None else tuple(training[name])
        training["resnet"] = ResNetOptions(**training.get("resnet", {}))
        return BenchOptions(
            protocol=record.protocol,
            heads=("layers" if head == BEST_LAYER else head,),
            labels=None if labels is None else tuple(labels),
            seeds=1 + max(seed for _, seed in record.expected),
            fold_seed=record.config["fold_seed"],
            allow_rejects=inputs["allow_rejects"],
            training=Training(**training),
            extraction=Options(**inputs["extraction"]),
            inputs={name: inputs[name] for name in ("source", "store") if name in inputs},
        )
    except (KeyError, TypeError, ValueError):
        raise UsageError(
            f"the record of {record.upstream} ({record.head}) does not hold what is needed to run "
            "it again; baselines come with every bench"
        ) from None


def _without_rejects(
    manifest: Manifest, reports: Sequence[Report], options: BenchOptions
) -> Manifest:
    rejected = {reject.id for report in reports for reject in report.rejects}
    if rejected and not options.allow_rejects:
        where = ", ".join(str(r.reject_report) for r in reports if r.rejects)
        raise RejectsError(
            f"{manifest.corpus}: {len(rejected)} of {len(manifest)} utterances were rejected, so "
            f"there is no ranking; see {where}, mend the files, or pass --allow-rejects"
        )
    if len(rejected) == len(manifest):
        raise RejectsError(
            f"{manifest.corpus}: all {len(manifest)} utterances were rejected; nothing is left to "
            "train on"
        )
    return manifest.without(rejected) if rejected else manifest


def _task(kept: Manifest, num_rejects: int, features: FeatureSet, options: BenchOptions) -> Task:
    plan = make_folds(kept, options.protocol, options.fold_seed)
    hashes = dict(zip(features.ids, features.audio_sha256, strict=True))
    found = audit(plan.folds, kept.utterances, hashes)
    return Task(kept, plan, options.fold_seed, found, num_rejects, options.inputs)


def _baselines(task: Task, results: Path) -> list[RunRecord]:
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
    for record in records:
        save_record(results, record)
    return records
