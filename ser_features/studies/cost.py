"""What a study would extract and train, and what that costs: ``serfeat study --dry-run``."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ser_features import files
from ser_features.augment.augmented import Augmented, Drawing, augmented_sets
from ser_features.augment.parse import CLEAN
from ser_features.augment.partners import Partners
from ser_features.extract.engine import placement
from ser_features.extract.estimate import Estimate, estimate
from ser_features.extract.pipeline import Options
from ser_features.extract.progress import Silent
from ser_features.extract.rejects import known_rejects
from ser_features.extract.spec import feature_spec, rejects_report
from ser_features.extract.speed import measured_speed, probe_device
from ser_features.extract.survey import stored_in, survey
from ser_features.folds import make_folds
from ser_features.manifest import Manifest
from ser_features.mixture import map_labels
from ser_features.report.document import Block, Document, Grid, Words
from ser_features.results import load_records
from ser_features.store.moved import find_moved
from ser_features.store.place import Place
from ser_features.store.reader import FeatureSet, open_feature_set
from ser_features.store.schema import locate, name_of
from ser_features.studies.on_record import OnRecord
from ser_features.studies.spec import (
    Crossing,
    Plan,
    Request,
    Study,
    Trial,
    make_plan,
    unscrambled,
)
from ser_features.train.run import needs_frames
from ser_features.upstreams.load import load_upstream
from ser_features.upstreams.protocol import Upstream


@dataclass(slots=True)
class Need:
    """The feature sets of one corpus and upstream that a plan reads.

    ``labels`` are the selections that are made of the corpus, ``True`` where they are mapped as
    an added corpus's are. ``stored`` holds the sets of which nothing is left to extract.
    """

    corpus: str
    upstream: str
    labels: dict[tuple[tuple[str, ...], bool], None] = field(default_factory=dict)
    frames: bool = False
    sets: dict[str, Augmented | None] = field(default_factory=dict)
    stored: dict[str, FeatureSet] = field(default_factory=dict)

    def take(self, texts: tuple[str, ...], copies: int) -> None:
        """Read these augmentations too."""
        for one in augmented_sets(texts, copies):
            self.sets[CLEAN if one is None else one.name] = one

    def chosen(self, manifest: Manifest) -> Manifest:
        """The utterances of any of the selections."""
        found = [
            map_labels(manifest, labels) if mapped else manifest.select_labels(labels)
            for labels, mapped in self.labels
        ]
        wanted = {utterance.id for one in found for utterance in one.utterances}
        return manifest.without(manifest.by_id.keys() - wanted)


def dry_run(study: Study, request: Request, store: Place, results: Path) -> Document:
    """The plan as a report; nothing is extracted, trained or written.

    Each upstream with something to extract encodes a little noise, for its speed here; training
    speed is that of records of the same head in ``results``.
    """
    plan, how = make_plan(study, request), request.extraction
    placement(how.engine, how.device, how.devices, how.ray_address)  # refuses what a run would
    every = needs(plan, request)
    rows = [row for need in every for row in _extraction(need, request, store)]
    columns = ("corpus", "upstream", "feature set", "stored", "to extract", "about")
    extraction = Grid("To extract", columns, tuple(rows), names=3)
    sets = {(need.corpus, need.upstream): need.stored for need in every}
    records = OnRecord(request, store, results, sets)
    trainings = Grid(
        "To train (what is on record is not trained again)",
        ("training", "folds x runs", "on record", "about"),
        tuple(_trainings(plan, request, records)),
    )
    blocks: list[Block] = [Words((f"protocol by default: {study.protocol}",))]
    if plan.deviations:
        blocks.append(Words(tuple(f"deviation: {each}" for each in plan.deviations), listed=True))
    return Document(f"Dry run of study {study.name}", (*blocks, extraction, trainings))


def needs(plan: Plan, request: Request) -> list[Need]:
    """What the trials of a plan read, by corpus and upstream."""
    found: dict[tuple[str, str], Need] = {}

    def need(corpus: str, trial: Trial | Crossing, *, added: bool = False) -> Need:
        one = found.setdefault((corpus, trial.upstream), Need(corpus, trial.upstream))
        one.labels[trial.labels, added] = None
        one.frames |= request.extraction.frames or needs_frames([trial.head])
        one.take((CLEAN,), 1)
        return one

    for trial in plan.trials:
        if isinstance(trial, Crossing):
            for name in (*trial.train, *trial.tests):
                one = need(unscrambled(name), trial)
                if trial.training.rate and name in trial.train:
                    one.take(trial.augment, trial.copies)
            continue
        own = need(trial.corpus, trial)
        own.take(trial.augment, trial.copies)
        own.take(trial.conditions, 1)
        if trial.added:
            need(trial.added, trial, added=True)
    return list(found.values())


def _extraction(need: Need, request: Request, store: Place) -> Iterator[tuple[str, ...]]:
    chosen = need.chosen(request.manifest(need.corpus))
    how = request.extraction
    device = probe_device(how.placement)
    upstream = load_upstream(need.upstream, device=device, precision=how.precision)
    speed: float | None = None
    for name, augmented in need.sets.items():
        stored, size = _size(chosen, need, augmented, upstream, store, how)
        if size.utterances and speed is None:
            each = (3600 * size.hours / size.utterances, how.batch_seconds)
            speed = measured_speed(upstream, how.placement, *each, frames=need.frames)
        seconds = 3600 * size.hours / speed if speed else 0.0
        about = f"{size.hours:.2f} h, {files.size(size.num_bytes)}, {_time(seconds)}"
        yield (
            need.corpus, upstream.info.name, name, str(stored), str(size.utterances),
            about if size.utterances else "nothing to do",
        )  # fmt: skip


def _size(
    manifest: Manifest,
    need: Need,
    augmented: Augmented | None,
    upstream: Upstream,
    store: Place,
    how: Options,
) -> tuple[int, Estimate]:
    """Stored utterances, and what the missing ones would take; keeps a set that lacks none."""
    spec = feature_spec(manifest.corpus, upstream, need.upstream, store, need.frames, augmented)
    there = locate(store, name_of(spec)).metadata.exists()
    features = open_feature_set(store, spec) if there else None
    generations = [] if features is None else features.generations()
    stored = stored_in(generations, find_moved(locate(store, name_of(spec))) if generations else ())
    left = [u for u in manifest.utterances if u.id not in stored.sources]
    known = known_rejects(rejects_report(store, spec), left)
    drawing = None if augmented is None else Drawing(augmented, Partners(manifest.utterances))
    limit = how.max_seconds
    with ThreadPoolExecutor(how.workers) as pool:
        found = survey(manifest.utterances, stored, known, upstream, limit, pool, Silent(), drawing)
    if features is not None and not found.wanted:
        need.stored[CLEAN if augmented is None else augmented.name] = features
    return len(found.present), estimate(found.wanted.values(), spec, upstream.info.sample_rate)


def _trainings(plan: Plan, request: Request, records: OnRecord) -> Iterator[tuple[str, ...]]:
    seconds = _seconds_of(records.results)
    total = done = 0
    for trial, name in zip(plan.trials, names_of_trials(plan.trials), strict=True):
        corpus = trial.corpus if isinstance(trial, Trial) else unscrambled(trial.train[0])
        selected = request.manifest(corpus).select_labels(trial.labels)
        folds = len(make_folds(selected, trial.protocol).folds)
        known, count = seconds.get(trial.head), folds * trial.seeds
        lacking = records.lacking(trial)
        left = count if lacking is None else lacking
        total, done = total + count, done + count - left
        about = "no record of this head yet" if known is None else _time(known * left)
        said = "features first" if lacking is None else f"{count - left} of {count}"
        yield name, f"{folds} x {trial.seeds}", said, about if left else "nothing to do"
    count = len(plan.trials)
    yield f"{count} training{'s' if count > 1 else ''}", str(total), f"{done} of {total}", ""


def names_of_trials(trials: Sequence[Trial | Crossing]) -> list[str]:
    """``about`` of each, with its labels where two would be called the same."""
    names = [trial.about for trial in trials]
    return [
        f"{name} · {', '.join(trial.labels)}" if names.count(name) > 1 else name
        for name, trial in zip(names, trials, strict=True)
    ]


def _seconds_of(results: Path) -> dict[str, float]:
    """Median seconds of one fold and run, by head, from the records of a folder."""
    found: dict[str, list[float]] = {}
    for record in load_records([results]).records if results.is_dir() else ():
        if record.scores and "training_seconds" in record.cost:
            each = record.cost["training_seconds"] / len(record.scores)
            found.setdefault(record.head, []).append(each)
    return {head: float(np.median(values)) for head, values in found.items()}


def _time(seconds: float) -> str:
    """A rough duration.

    >>> _time(0.4), _time(90), _time(9000)
    ('1 s', '2 min', '2.5 h')
    """
    if seconds < 60:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"
