"""One run: a head on features over a task's folds and seeds, kept as run records."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ser_features import __version__
from ser_features.audit import Audit
from ser_features.extract.progress import Progress
from ser_features.fingerprint import fingerprint
from ser_features.folds import FoldPlan
from ser_features.manifest import Manifest
from ser_features.records import Fold, FoldScore, Json, RunRecord, Utterance
from ser_features.results import load_record, missing, record_path, run_key, save_record
from ser_features.train.run import RowFacts, Training, rows_of, train_head
from ser_features.views import Features, Joined, Part

CLEAN = "clean"
"""The test condition of recordings as they are."""


@dataclass(frozen=True, slots=True)
class Task:
    """One corpus, ready to train on: the same utterances and folds for every upstream.

    ``inputs`` is what the caller needs to do it again. ``others`` are the rows of further feature
    sets (copies, test conditions, other corpora) under their ids in ``views.Joined``; folds may
    name them. ``tests`` maps each test condition to its rows and the utterances that they are: all
    conditions are predicted by one training, and make a record each. ``facts`` say which rows are
    copies and which are the other data of a strategy; ``augmentation`` and ``strategy`` are what
    a leaderboard calls it.

    For example, training on everything and testing clean and noisy, by hand::

        joined = Joined([Part(clean), Part(noisy, "noise-10db")])
        both = {"clean": {"u1": "u1"}, "noise-10db": {"u1@noise-10db": "u1"}}
        fold = Fold("f", train=("u2", "u2@noise-10db"), dev=("u3",), test=("u1", "u1@noise-10db"))
    """

    manifest: Manifest
    plan: FoldPlan
    fold_seed: int
    audit: Audit
    num_rejects: int = 0
    inputs: Mapping[str, Json] = field(default_factory=dict)
    others: tuple[Utterance, ...] = ()
    tests: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    facts: RowFacts = field(default_factory=RowFacts)
    augmentation: str = ""
    strategy: str = ""

    @property
    def notes(self) -> tuple[str, ...]:
        """What the rows should say about the corpus and its folds."""
        return (*self.manifest.notes, *self.plan.notes)

    @property
    def truth(self) -> dict[str, int]:
        """Label index of every row."""
        index = {label: i for i, label in enumerate(self.manifest.labels)}
        return {u.id: index[u.label or ""] for u in self.rows}

    @property
    def speakers(self) -> dict[str, str | None]:
        """Speaker of every row."""
        return {u.id: u.speaker for u in self.rows}

    @property
    def rows(self) -> tuple[Utterance, ...]:
        """The corpus's utterances, then all others."""
        return (*self.manifest.utterances, *self.others)

    @property
    def conditions(self) -> tuple[str, ...]:
        """The test conditions; a record each."""
        return tuple(self.tests) or (CLEAN,)

    def folds_of(self, condition: str) -> tuple[Fold, ...]:
        """The folds as a record of one condition has them: test sides are utterances."""
        rows = self.tests.get(condition)
        if rows is None:
            return self.plan.folds
        return tuple(
            replace(fold, test=tuple(rows[name] for name in fold.test if name in rows))
            for fold in self.plan.folds
        )


@dataclass(frozen=True, slots=True)
class Run:
    """A head on features; every test condition makes a record, head ``layers`` several."""

    task: Task
    features: Features
    head: str
    seeds: int
    training: Training
    results: Path

    def go(self, progress: Progress, nth: str = "") -> list[RunRecord]:
        """Train the folds and seeds that are not on record; write the records after each part.

        ``nth`` tells whoever watches which run it is of how many.
        """
        records = self._records()
        for seeds, names in _parts(_lacking(records.values())):
            started = time.monotonic()
            scores = self._train(seeds, names, progress, nth)
            seconds = (time.monotonic() - started) / len(records)
            for row in records:
                own = [self._of_condition(score, row[1]) for score in scores[row[0]]]
                records[row] = _with(records[row], own, seconds)
                save_record(self.results, records[row])
        for record in records.values():
            save_record(self.results, record)
        return list(records.values())

    def lacking(self) -> list[tuple[str, int]]:
        """Folds and seeds that ``go`` would train."""
        return _lacking(self._records().values())

    def _records(self) -> dict[tuple[str, str], RunRecord]:
        """By row and condition, as far as they are there."""
        heads = rows_of(self.head, self.training, self.features.spec.num_layers)
        rows = [(row, condition) for row in heads for condition in self.task.conditions]
        return {row: self._on_record(self._empty(*row)) for row in rows}

    def _train(
        self, seeds: Sequence[int], names: set[str], progress: Progress, nth: str
    ) -> dict[str, list[FoldScore]]:
        folds = [fold for fold in self.task.plan.folds if fold.name in names]
        ids = self._ids()
        truth, done = self.task.truth, 0.0
        labels = np.array([truth[name] for name in ids], np.int64)
        progress.start(f"training {self.head} on {self.features.spec.upstream}{nth}", 100, "%")

        def tick(step: int, total: int) -> None:
            nonlocal done
            progress.advance(100 * step / total - done)
            done = 100 * step / total

        classes = self.task.manifest.labels
        neutral = classes.index("neutral") if "neutral" in classes else None
        how = (self.training, tick, replace(self.task.facts, neutral=neutral))
        return train_head(self.head, self.features, ids, labels, folds, seeds, *how)

    def _ids(self) -> list[str]:
        """The corpus's utterances, and the other rows that a fold names."""
        used = {
            name
            for fold in self.task.plan.folds
            for name in (*fold.train, *fold.dev, *fold.test, *fold.copies)
        }
        return [u.id for u in self.task.manifest.utterances] + [
            u.id for u in self.task.others if u.id in used
        ]

    def _of_condition(self, score: FoldScore, condition: str) -> FoldScore:
        """The part of a score that was tested under one condition, its rows as utterances."""
        rows = self.task.tests.get(condition)
        if rows is None:
            return score
        at = [i for i, name in enumerate(score.test_ids) if name in rows]
        return replace(
            score,
            test_ids=tuple(rows[score.test_ids[i]] for i in at),
            predictions=tuple(score.predictions[i] for i in at),
            late=tuple((step, tuple(each[i] for i in at)) for step, each in score.late),
        )

    def _on_record(self, empty: RunRecord) -> RunRecord:
        """What an earlier run left, with the seeds that are asked for now added to it."""
        path = record_path(self.results, empty)
        if not path.exists():
            return empty
        found = load_record(path)
        return replace(found, expected=tuple(dict.fromkeys([*found.expected, *empty.expected])))

    def _empty(self, row: str, condition: str) -> RunRecord:
        task, spec, config = self.task, self.features.spec, self._config(row, condition)
        tested = {name for fold in task.folds_of(condition) for name in fold.test}
        return RunRecord(
            key=run_key(config),
            corpus=spec.corpus,
            upstream=spec.upstream,
            augmentation=task.augmentation or spec.augmentation,
            head=row.partition(":")[0],  # points of one curve share its name
            protocol=task.plan.protocol,
            labels=task.manifest.labels,
            truth={name: label for name, label in task.truth.items() if name in tested},
            speakers={name: who for name, who in task.speakers.items() if name in tested},
            expected=tuple((f.name, seed) for f in task.plan.folds for seed in range(self.seeds)),
            scores=(),
            config=config,
            provenance=self._provenance(config),
            num_rejects=task.num_rejects,
            notes=task.notes,
            audit=task.audit.to_json(),
            cost={"gigabytes": self.features.num_bytes / 1e9},
            condition=condition,
            strategy=task.strategy,
        )

    def _provenance(self, config: Mapping[str, Json]) -> dict[str, Json]:
        used = config.get("others", {}).get("features", {})
        augmented = {
            name: part.features.provenance["augmentation"]
            for name, part in self._named_parts()
            if name in used and "augmentation" in part.features.provenance
        }
        return {
            "serfeat": __version__,
            "device": self.training.device,
            "features": dict(self.features.provenance),
            "inputs": dict(self.task.inputs),
            **({"augmented": augmented} if augmented else {}),
        }

    def _named_parts(self) -> Iterator[tuple[str, Part]]:
        for part in self.features.parts if isinstance(self.features, Joined) else ():
            yield f"{part.corpus}@{part.augmentation}", part

    def _config(self, row: str, condition: str) -> dict[str, Json]:
        """What decides the scores, seeds apart: features, audio, labels, folds, head, recipe.

        The other conditions that are tested along do not enter. Of a copy that was joined with
        audio that no row of the main corpus has, that audio does.
        """
        task = self.task
        folds = task.folds_of(condition)
        hashes = dict(zip(self.features.ids, self.features.audio_sha256, strict=True))
        audio = {u.id: hashes[u.id] for u in task.manifest.utterances}
        main = {name: task.truth[name] for name in audio}
        used = {name for fold in folds for name in (*fold.train, *fold.copies)}
        used |= {row for row in task.tests.get(condition, {}) if row not in audio}
        others = self._other_rows(used, hashes)
        return {
            "features": self.features.spec.key,
            "audio": fingerprint(audio),
            "truth": fingerprint([list(task.manifest.labels), main]),
            "folds": fingerprint([_sides(fold) for fold in folds]),
            "protocol": task.plan.protocol,
            "fold_seed": task.fold_seed,
            "row": row,
            "training": self.training.describe(self.head),
            **({} if condition == CLEAN else {"condition": condition}),
            **({} if not others else {"others": self._others(others)}),
        }

    def _other_rows(self, used: set[str], hashes: Mapping[str, str]) -> dict[str, Json]:
        """Audio and label of the rows beside the main corpus's."""
        partners = self.features.partners if isinstance(self.features, Joined) else {}

        def joined(row: str) -> list[str]:
            partner, heard = partners.get(row, ("", ""))
            return [] if hashes.get(partner, "") == heard else [heard]

        return {
            u.id: [hashes[u.id], self.task.truth[u.id], *joined(u.id)]
            for u in self.task.others
            if u.id in used
        }

    def _others(self, rows: Mapping[str, Json]) -> Json:
        """The further feature sets that a record rests on, and what it takes from them."""
        keys = {
            name: part.features.spec.key
            for name, part in self._named_parts()
            if any(part.row_id(utterance) in rows for utterance in part.kept)
        }
        return {"features": keys, "rows": fingerprint(dict(rows))}


def _lacking(records: Iterable[RunRecord]) -> list[tuple[str, int]]:
    return list(dict.fromkeys(pair for record in records for pair in missing(record)))


def _sides(fold: Fold) -> list[Json]:
    """A fold as the key knows it; folds without copies as they always were."""
    sides = [fold.name, fold.train, fold.dev, fold.test]
    return [*sides, fold.copies] if fold.copies else sides


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
