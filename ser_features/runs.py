"""One run: a head on a feature set over a task's folds and seeds, kept as run records."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ser_features import __version__
from ser_features.audit import Audit
from ser_features.extract.progress import Progress
from ser_features.fingerprint import fingerprint
from ser_features.folds import FoldPlan
from ser_features.manifest import Manifest
from ser_features.records import FoldScore, Json, RunRecord
from ser_features.results import load_record, missing, record_path, run_key, save_record
from ser_features.store.reader import FeatureSet
from ser_features.train.run import Training, rows_of, train_head


@dataclass(frozen=True, slots=True)
class Task:
    """One corpus, ready to train on: the same utterances and folds for every upstream.

    ``inputs`` is what the caller needs to do it again.
    """

    manifest: Manifest
    plan: FoldPlan
    fold_seed: int
    audit: Audit
    num_rejects: int = 0
    inputs: Mapping[str, Json] = field(default_factory=dict)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the rows should say about the corpus and its folds."""
        return (*self.manifest.notes, *self.plan.notes)

    @property
    def truth(self) -> dict[str, int]:
        """Label index of every utterance."""
        index = {label: i for i, label in enumerate(self.manifest.labels)}
        return {u.id: index[u.label or ""] for u in self.manifest.utterances}

    @property
    def speakers(self) -> dict[str, str | None]:
        """Speaker of every utterance."""
        return {u.id: u.speaker for u in self.manifest.utterances}


@dataclass(frozen=True, slots=True)
class Run:
    """A head on a feature set; ``layers`` makes several rows, every other head one."""

    task: Task
    features: FeatureSet
    head: str
    seeds: int
    training: Training
    results: Path

    def go(self, progress: Progress) -> list[RunRecord]:
        """Train the folds and seeds that are not on record; write the records after each part."""
        rows = rows_of(self.head, self.training, self.features.spec.num_layers)
        records = {row: self._on_record(self._empty(row)) for row in rows}
        lacking = dict.fromkeys(pair for record in records.values() for pair in missing(record))
        for seeds, names in _parts(list(lacking)):
            started = time.monotonic()
            scores = self._train(seeds, names, progress)
            seconds = (time.monotonic() - started) / len(rows)
            for row in rows:
                records[row] = _with(records[row], scores[row], seconds)
                save_record(self.results, records[row])
        for record in records.values():
            save_record(self.results, record)
        return list(records.values())

    def _train(
        self, seeds: Sequence[int], names: set[str], progress: Progress
    ) -> dict[str, list[FoldScore]]:
        folds = [fold for fold in self.task.plan.folds if fold.name in names]
        ids = [utterance.id for utterance in self.task.manifest.utterances]
        truth, done = self.task.truth, 0.0
        labels = np.array([truth[name] for name in ids], np.int64)
        progress.start(f"training {self.head} on {self.features.spec.upstream}", 100, "%")

        def tick(step: int, total: int) -> None:
            nonlocal done
            progress.advance(100 * step / total - done)
            done = 100 * step / total

        return train_head(self.head, self.features, ids, labels, folds, seeds, self.training, tick)

    def _on_record(self, empty: RunRecord) -> RunRecord:
        """What an earlier run left, with the seeds that are asked for now added to it."""
        path = record_path(self.results, empty)
        if not path.exists():
            return empty
        found = load_record(path)
        return replace(found, expected=tuple(dict.fromkeys([*found.expected, *empty.expected])))

    def _empty(self, row: str) -> RunRecord:
        task, spec, config = self.task, self.features.spec, self._config(row)
        tested = {name for fold in task.plan.folds for name in fold.test}
        return RunRecord(
            key=run_key(config),
            corpus=spec.corpus,
            upstream=spec.upstream,
            augmentation=spec.augmentation,
            head=row.partition(":")[0],  # points of one curve share its name
            protocol=task.plan.protocol,
            labels=task.manifest.labels,
            truth={name: label for name, label in task.truth.items() if name in tested},
            speakers={name: who for name, who in task.speakers.items() if name in tested},
            expected=tuple((f.name, seed) for f in task.plan.folds for seed in range(self.seeds)),
            scores=(),
            config=config,
            provenance=self._provenance(),
            num_rejects=task.num_rejects,
            notes=task.notes,
            audit=task.audit.to_json(),
            cost={"gigabytes": self.features.num_bytes / 1e9},
        )

    def _provenance(self) -> dict[str, Json]:
        return {
            "serfeat": __version__,
            "device": self.training.device,
            "features": dict(self.features.provenance),
            "inputs": dict(self.task.inputs),
        }

    def _config(self, row: str) -> dict[str, Json]:
        """What decides the scores, seeds apart: features, audio, labels, folds, head, recipe."""
        task = self.task
        folds = [[fold.name, fold.train, fold.dev, fold.test] for fold in task.plan.folds]
        hashes = dict(zip(self.features.ids, self.features.audio_sha256, strict=True))
        audio = {u.id: hashes[u.id] for u in task.manifest.utterances}
        return {
            "features": self.features.spec.key,
            "audio": fingerprint(audio),
            "truth": fingerprint([list(task.manifest.labels), task.truth]),
            "folds": fingerprint(folds),
            "protocol": task.plan.protocol,
            "fold_seed": task.fold_seed,
            "row": row,
            "training": self.training.describe(self.head),
        }


def _with(record: RunRecord, scores: Sequence[FoldScore], seconds: float) -> RunRecord:
    """The record with what it still lacked of these scores."""
    lacking = set(missing(record))
    new = tuple(score for score in scores if (score.fold, score.seed) in lacking)
    spent = record.cost.get("training_seconds", 0.0) + seconds
    cost = {**record.cost, "training_seconds": spent}
    return replace(record, scores=(*record.scores, *new), cost=cost)


def _parts(pairs: Sequence[tuple[str, int]]) -> list[tuple[list[int], set[str]]]:
    """(fold, seed) pairs as blocks: seeds that lack the same folds train together."""
    lacking: dict[int, set[str]] = {}
    for fold, seed in pairs:
        lacking.setdefault(seed, set()).add(fold)
    parts: dict[frozenset[str], list[int]] = {}
    for seed, names in lacking.items():
        parts.setdefault(frozenset(names), []).append(seed)
    return [(seeds, set(names)) for names, seeds in parts.items()]
