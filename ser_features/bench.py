"""The bench: extract what is missing, train every head on every upstream, keep run records."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ser_features import __version__
from ser_features.audio import probe
from ser_features.audit import Audit, audit
from ser_features.baselines import Facts, baseline_records
from ser_features.errors import RejectsError, ResultsError
from ser_features.extract.pipeline import Options, Report, extract
from ser_features.extract.progress import Progress, Silent
from ser_features.fingerprint import fingerprint
from ser_features.folds import FoldPlan, make_folds
from ser_features.manifest import Manifest
from ser_features.records import Json, RunRecord
from ser_features.results import load_record, missing, record_path, run_key, save_record
from ser_features.store.reader import FeatureSet, open_feature_set
from ser_features.train.run import Training, train_head


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """What to compare and how: ``labels`` as ``Manifest.select_labels`` takes them.

    ``fold_seed`` draws what the protocol leaves to chance; it is not a training seed.
    """

    protocol: str = "loso"
    heads: tuple[str, ...] = ("superb",)
    labels: tuple[str, ...] | None = None
    seeds: int = 1
    fold_seed: int = 0
    allow_rejects: bool = False
    training: Training = field(default_factory=Training)
    extraction: Options = field(default_factory=Options)


@dataclass(frozen=True, slots=True)
class Task:
    """One corpus, ready to train on: the same utterances and folds for every upstream."""

    manifest: Manifest
    plan: FoldPlan
    audit: Audit
    num_rejects: int
    notes: tuple[str, ...]


def bench(
    manifest: Manifest,
    requests: Sequence[str],
    store: Path,
    results: Path,
    options: BenchOptions | None = None,
    progress: Progress | None = None,
) -> list[RunRecord]:
    """Run every head on every upstream over one corpus; what is on record is not trained again.

    Baselines come along. Raises RejectsError where utterances were rejected by any upstream and
    ``allow_rejects`` is off; with it on they are left out of every row, so that rows stay
    comparable.
    """
    options, progress = options or BenchOptions(), progress or Silent()
    selected = manifest.select_labels(options.labels)
    make_folds(selected, options.protocol, options.fold_seed)  # a wrong protocol fails before hours
    reports = [extract(selected, one, store, options.extraction, progress) for one in requests]
    opened = [open_feature_set(store, report.spec) for report in reports]
    task = _task(selected, reports, opened[0], options)
    records = _baselines(task, options)
    for record in records:
        save_record(results, record)
    for features in opened:
        for head in options.heads:
            records.append(Run(task, features, head, results, options).go(progress))
    return records


def _task(
    manifest: Manifest, reports: Sequence[Report], features: FeatureSet, options: BenchOptions
) -> Task:
    rejected = {reject.id for report in reports for reject in report.rejects}
    if rejected and not options.allow_rejects:
        where = ", ".join(str(r.reject_report) for r in reports if r.rejects)
        raise RejectsError(
            f"{manifest.corpus}: {len(rejected)} of {len(manifest)} utterances were rejected, so "
            f"there is no ranking; see {where}, mend the files, or pass --allow-rejects"
        )
    kept = manifest.without(rejected) if rejected else manifest
    plan = make_folds(kept, options.protocol, options.fold_seed)
    hashes = dict(zip(features.ids, features.audio_sha256, strict=True))
    found = audit(plan.folds, kept.utterances, hashes)
    return Task(kept, plan, found, len(rejected), (*kept.notes, *plan.notes))


def _baselines(task: Task, options: BenchOptions) -> list[RunRecord]:
    truth, speakers = _truth(task.manifest), _speakers(task.manifest)
    headers = {u.id: probe(u) for u in task.manifest.utterances}
    seconds = {name: header.num_samples / header.sample_rate for name, header in headers.items()}
    return baseline_records(
        task.manifest.corpus,
        options.protocol,
        task.plan.folds,
        Facts(task.manifest.labels, truth, speakers, seconds),
        config={"fold_seed": options.fold_seed},
        provenance={"serfeat": __version__},
        audit=task.audit.to_json(),
        notes=task.notes,
        num_rejects=task.num_rejects,
    )


def _truth(manifest: Manifest) -> dict[str, int]:
    index = {label: i for i, label in enumerate(manifest.labels)}
    return {u.id: index[u.label or ""] for u in manifest.utterances}


def _speakers(manifest: Manifest) -> dict[str, str | None]:
    return {u.id: u.speaker for u in manifest.utterances}


@dataclass(frozen=True, slots=True)
class Run:
    """One row of the leaderboard: a head on a feature set."""

    task: Task
    features: FeatureSet
    head: str
    results: Path
    options: BenchOptions

    def go(self, progress: Progress) -> RunRecord:
        """Train the folds and seeds that are not on record; write the record after each part."""
        record = self._on_record(self._empty())
        for seeds, names in _parts(missing(record)):
            folds = [fold for fold in self.task.plan.folds if fold.name in names]
            what = f"training {self.head} on {self.features.spec.upstream}"
            progress.start(what, 1.0, "")
            done = 0.0

            def tick(step: int, total: int) -> None:
                nonlocal done
                progress.advance(step / total - done)
                done = step / total

            started = time.monotonic()
            ids = [u.id for u in self.task.manifest.utterances]
            truth = _truth(self.task.manifest)
            labels = np.array([truth[name] for name in ids], np.int64)
            scores = train_head(
                self.head,
                self.features,
                ids,
                labels,
                folds,
                seeds,
                self.options.training,
                tick,
            )
            seconds = record.cost.get("training_seconds", 0.0) + time.monotonic() - started
            record = replace(
                record,
                scores=(*record.scores, *scores),
                cost={**record.cost, "training_seconds": seconds},
            )
            save_record(self.results, record)
        return record

    def _on_record(self, empty: RunRecord) -> RunRecord:
        """What an earlier run left, with the seeds that are asked for now added to it."""
        path = record_path(self.results, empty)
        if not path.exists():
            return empty
        try:
            found = load_record(path)
        except ResultsError as error:
            raise ResultsError(f"{error}; to train it anew, delete that file") from error
        expected = tuple(dict.fromkeys([*found.expected, *empty.expected]))
        return replace(found, expected=expected)

    def _empty(self) -> RunRecord:
        task, spec = self.task, self.features.spec
        config = self._config()
        pairs = [(fold.name, s) for fold in task.plan.folds for s in range(self.options.seeds)]
        tested = {name for fold in task.plan.folds for name in fold.test}
        size = self.features.num_bytes
        return RunRecord(
            key=run_key(config),
            corpus=spec.corpus,
            upstream=spec.upstream,
            augmentation=spec.augmentation,
            head=self.head,
            protocol=self.options.protocol,
            labels=task.manifest.labels,
            truth={k: v for k, v in _truth(task.manifest).items() if k in tested},
            speakers={k: v for k, v in _speakers(task.manifest).items() if k in tested},
            expected=tuple(pairs),
            scores=(),
            config=config,
            provenance={"serfeat": __version__, "features": dict(spec.provenance)},
            num_rejects=task.num_rejects,
            notes=task.notes,
            audit=task.audit.to_json(),
            cost={"gigabytes": size / 1e9},
        )

    def _config(self) -> Mapping[str, Json]:
        """What decides the scores, seeds apart: features, audio, labels, folds, head, recipe."""
        task = self.task
        folds = [[f.name, f.train, f.dev, f.test] for f in task.plan.folds]
        audio = sorted(zip(self.features.ids, self.features.audio_sha256, strict=True))
        used = {u.id for u in task.manifest.utterances}
        return {
            "features": self.features.spec.key,
            "audio": fingerprint([pair for pair in audio if pair[0] in used]),
            "truth": fingerprint([list(task.manifest.labels), _truth(task.manifest)]),
            "folds": fingerprint(folds),
            "protocol": self.options.protocol,
            "fold_seed": self.options.fold_seed,
            "training": self.options.training.describe(self.head),
        }


def _parts(pairs: Sequence[tuple[str, int]]) -> list[tuple[list[int], set[str]]]:
    """Missing (fold, seed) pairs as blocks of seeds that lack the same folds."""
    lacking: dict[int, set[str]] = {}
    for fold, seed in pairs:
        lacking.setdefault(seed, set()).add(fold)
    parts: list[tuple[list[int], set[str]]] = []
    for seed, names in lacking.items():
        for seeds, same in parts:
            if same == names:
                seeds.append(seed)
                break
        else:
            parts.append(([seed], names))
    return parts
