"""Run a plan: extract what is missing once, train what is not on record, fill the tables."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ser_features.acoustics.augmented import by_condition, listen_to
from ser_features.acoustics.conditions import Conditions
from ser_features.augment.parse import parse_augmentation
from ser_features.bench import BenchOptions, bench
from ser_features.extract.pipeline import Options, extract_sets
from ser_features.extract.progress import Progress, Silent
from ser_features.leaderboard import domain_remarks
from ser_features.records import Json, RunRecord
from ser_features.report.document import Block
from ser_features.runs import CLEAN, Run
from ser_features.store.place import Place, address
from ser_features.store.reader import FeatureSet, open_feature_set
from ser_features.studies.crossed import Prepared, cross, prepare
from ser_features.studies.scores import Filled, fill
from ser_features.studies.spec import (
    SAMPLE,
    Crossing,
    Evidence,
    Plan,
    Request,
    Study,
    Trial,
    make_plan,
    unscrambled,
)
from ser_features.train.run import needs_frames


@dataclass(frozen=True, slots=True)
class Outcome:
    """A study that was run: its plan, its filled tables, every record behind them.

    ``remarks`` say what else single trainings showed.
    """

    study: Study
    request: Request
    plan: Plan
    tables: tuple[Filled, ...]
    records: tuple[RunRecord, ...]
    confusions: Mapping[str, RunRecord] = field(default_factory=dict)
    conditions: tuple[Conditions, ...] = ()
    more: tuple[Block, ...] = ()
    remarks: tuple[str, ...] = ()


def run_study(
    study: Study, request: Request, store: Place, results: Path, progress: Progress | None = None
) -> Outcome:
    """Run what is not on record yet and fill the tables.

    Raises what ``bench`` raises, and UsageError where the request does not fit the study.
    """
    plan = make_plan(study, request)
    runner = Runner(request, store, results, progress or Silent())
    found: dict[tuple[Trial | Crossing, str], RunRecord] = {}
    for trial in plan.trials:
        for test, record in runner.run(trial).items():
            found[trial, test] = record
    tables = tuple(fill(table, found) for table in plan.tables)
    confusions = {name: found[e.trial, e.test] for name, e in plan.confusions.items()}
    heard = _listen(request, plan.conditions, runner.progress)
    records = tuple({record.key: record for record in found.values()}.values())
    more = () if plan.more is None else tuple(plan.more(Evidence(found, runner.copies_of)))
    remarks = {
        f"{t.about}: {each}": None for (t, _), r in found.items() for each in domain_remarks(r)
    }
    return Outcome(study, request, plan, tables, records, confusions, heard, more, tuple(remarks))


def _listen(request: Request, augment: Sequence[str], progress: Progress) -> tuple[Conditions, ...]:
    """The acoustic conditions of every corpus, where the plan asks for them."""
    how = {"sample": SAMPLE, "start": progress.start, "tick": progress.advance}
    corpora = request.manifests if augment else ()
    found = [each for one in corpora for each in listen_to(one, augment, **how)]  # type: ignore[arg-type]
    return tuple(by_condition(found))


def bench_options(trial: Trial, request: Request) -> BenchOptions:
    """A trial as ``bench`` takes it."""
    return BenchOptions(
        protocol=trial.protocol,
        heads=(trial.head,),
        labels=trial.labels,
        seeds=trial.seeds,
        allow_rejects=request.allow_rejects,
        training=trial.training,
        extraction=request.extraction,
        augment=trial.augment,
        copies=trial.copies,
        conditions=trial.conditions,
    )


@dataclass(slots=True)
class Runner:
    """Runs trials; feature sets that were extracted in this run are opened once."""

    request: Request
    store: Place
    results: Path
    progress: Progress
    opened: dict[tuple[str, str, bool], dict[str, FeatureSet]] = field(default_factory=dict)

    def run(self, trial: Trial | Crossing) -> dict[str, RunRecord]:
        """The records by the name of the test."""
        self.progress.say(trial.about)
        found = self._bench(trial) if isinstance(trial, Trial) else self._cross(trial)
        return {test: _of_runs(record, trial.seeds) for test, record in found.items()}

    def copies_of(self, trial: Trial) -> dict[str, FeatureSet]:
        """The clean set of a trial and its copies, by name."""
        return self._sets(trial.corpus, trial, trial.augment)

    def _bench(self, trial: Trial) -> dict[str, RunRecord]:
        options = replace(bench_options(trial, self.request), inputs=self._inputs(trial))
        added = [self.request.manifest(trial.added)] if trial.added else []
        manifest = self.request.manifest(trial.corpus)
        where = (self.store, self.results)
        records = bench(manifest, [trial.upstream], *where, options, self.progress, added)
        return {r.condition: r for r in records if r.head == trial.head}

    def _inputs(self, trial: Trial) -> dict[str, Json]:
        sources = self.request.inputs.get("sources", {})
        found: dict[str, Json] = {"store": address(self.store)}
        if trial.corpus in sources:
            found["source"] = sources[trial.corpus]
        if trial.added in sources:
            found["added"] = [sources[trial.added]]
        return found

    def _cross(self, crossing: Crossing) -> dict[str, RunRecord]:
        records = self.crossing_run(crossing).go(self.progress)
        return {record.condition: record for record in records}

    def crossing_run(self, crossing: Crossing) -> Run:
        """What trains and tests a crossing; its feature sets are made where they are missing."""
        names = dict.fromkeys((*crossing.train, *crossing.tests))
        corpora = {name: self._prepared(name, crossing) for name in names}
        mixed = cross(crossing, corpora, {"study": crossing.about, **self.request.inputs})
        how = (crossing.head, crossing.seeds, crossing.training, self.results)
        return Run(mixed.task, mixed.features, *how)

    def _prepared(self, corpus: str, crossing: Crossing) -> Prepared:
        manifest = self.request.manifest(unscrambled(corpus))
        rates = bool(crossing.training.rate)
        augment = crossing.augment if rates and corpus in crossing.train else ()
        sets = self._sets(manifest.corpus, crossing, augment)
        copies = {name: each for name, each in sets.items() if name != CLEAN}
        allow = self.request.allow_rejects
        return prepare(manifest, corpus, crossing, sets[CLEAN], copies, allow)

    def _sets(
        self, corpus: str, trial: Trial | Crossing, augment: Sequence[str]
    ) -> dict[str, FeatureSet]:
        """The clean set and the copies by name; made where they are missing."""
        frames = self.request.extraction.frames or needs_frames([trial.head])
        known = self.opened.setdefault((corpus, trial.upstream, frames), {})
        wanted = {CLEAN} | {parse_augmentation(text).name for text in augment}
        if not wanted <= known.keys():
            how = replace(
                self.request.extraction, frames=frames, augment=(CLEAN, *augment),
                copies=trial.copies,
            )  # fmt: skip
            known |= self._extract(corpus, trial, how)
        bases = {parse_augmentation(text).name for text in augment} | {CLEAN}
        return {name: each for name, each in known.items() if _base(name, bases)}

    def _extract(self, corpus: str, trial: Trial | Crossing, how: Options) -> dict[str, FeatureSet]:
        selected = self.request.manifest(corpus).select_labels(trial.labels)
        reports = extract_sets(selected, trial.upstream, self.store, how, self.progress)
        return {r.spec.augmentation: open_feature_set(self.store, r.spec) for r in reports}


def _of_runs(record: RunRecord, seeds: int) -> RunRecord:
    """The record as the study asks for it; another command may have added runs to it."""
    expected = tuple(pair for pair in record.expected if pair[1] < seeds)
    scores = tuple(score for score in record.scores if score.seed < seeds)
    return replace(record, expected=expected, scores=scores)


def _base(name: str, wanted: set[str]) -> bool:
    """Whether a set is one of the wanted augmentations or a copy of one (``NAME+2``)."""
    stem, plus, number = name.rpartition("+")
    return name in wanted or (bool(plus) and number.isdecimal() and stem in wanted)
