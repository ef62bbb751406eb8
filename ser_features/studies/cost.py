"""What a study would extract and train, and what that costs: ``serfeat study --dry-run``."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ser_features.audio import num_samples_at, probe
from ser_features.augment.augmented import Augmented, augmented_sets
from ser_features.augment.parse import CLEAN
from ser_features.errors import AudioError
from ser_features.extract.estimate import Estimate, estimate
from ser_features.extract.plan import PlanItem
from ser_features.extract.spec import feature_spec
from ser_features.folds import make_folds
from ser_features.manifest import Manifest
from ser_features.mixture import map_labels
from ser_features.report.document import Block, Document, Grid, Words
from ser_features.results import load_records
from ser_features.store.place import Place
from ser_features.store.reader import open_feature_set
from ser_features.store.schema import locate, name_of
from ser_features.studies.spec import Crossing, Plan, Request, Study, Trial, unscrambled
from ser_features.train.run import needs_frames
from ser_features.upstreams.load import load_upstream
from ser_features.upstreams.protocol import Upstream

PROBE_SECONDS = 10.0


@dataclass(slots=True)
class Need:
    """The feature sets of one corpus and upstream that a plan reads."""

    corpus: str
    upstream: str
    labels: tuple[str, ...]
    added: bool = False
    frames: bool = False
    sets: dict[str, Augmented | None] = field(default_factory=dict)

    def take(self, texts: tuple[str, ...], copies: int) -> None:
        """Read these augmentations too."""
        for one in augmented_sets(texts, copies):
            self.sets[CLEAN if one is None else one.name] = one


def dry_run(study: Study, request: Request, store: Place, results: Path) -> Document:
    """The plan as a report; nothing is extracted, trained or written.

    Each upstream with something to extract encodes 10 s of noise once, for its speed here;
    training speed is that of records of the same head in ``results``.
    """
    plan = study.plan(request)
    rows = [row for need in needs(plan, request) for row in _extraction(need, request, store)]
    columns = ("corpus", "upstream", "feature set", "stored", "to extract", "about")
    extraction = Grid("To extract", columns, tuple(rows), names=3)
    trainings = Grid(
        "To train (what is on record is not trained again)",
        ("training", "folds x runs", "about"),
        tuple(_trainings(plan, request, results)),
    )
    blocks: list[Block] = [Words((f"protocol by default: {study.protocol}",))]
    if plan.deviations:
        blocks.append(Words(tuple(f"deviation: {each}" for each in plan.deviations), listed=True))
    return Document(f"Dry run of study {study.name}", (*blocks, extraction, trainings))


def needs(plan: Plan, request: Request) -> list[Need]:
    """What the trials of a plan read, by corpus and upstream."""
    found: dict[tuple[str, str], Need] = {}

    def need(corpus: str, trial: Trial | Crossing, *, added: bool = False) -> Need:
        fresh = Need(corpus, trial.upstream, trial.labels, added)
        one = found.setdefault((corpus, trial.upstream), fresh)
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
    manifest = request.manifest(need.corpus)
    chosen = (
        map_labels(manifest, need.labels) if need.added else manifest.select_labels(need.labels)
    )
    how = request.extraction
    upstream = load_upstream(need.upstream, device=how.device, precision=how.precision)
    speed: float | None = None
    for name, augmented in need.sets.items():
        stored, size = _size(chosen, need, augmented, upstream, store)
        if size.utterances and speed is None:
            speed = measured_speed(upstream)
        seconds = 3600 * size.hours / speed if speed else 0.0
        about = f"{size.hours:.2f} h, {size.num_bytes / 1e9:.2f} GB, {_time(seconds)}"
        yield (
            need.corpus, upstream.info.name, name, str(stored), str(size.utterances),
            about if size.utterances else "nothing to do",
        )  # fmt: skip


def _size(
    manifest: Manifest, need: Need, augmented: Augmented | None, upstream: Upstream, store: Place
) -> tuple[int, Estimate]:
    """Stored utterances, and what the missing ones would take (before stretching or pasting)."""
    spec = feature_spec(manifest.corpus, upstream, need.upstream, store, need.frames, augmented)
    there: set[str] = set()
    if locate(store, name_of(spec)).metadata.exists():
        there = set(open_feature_set(store, spec).ids)
    missing = [u for u in manifest.utterances if u.id not in there]
    rate, items = upstream.info.sample_rate, []
    for utterance in missing:
        try:
            count = num_samples_at(probe(utterance), rate)
        except AudioError:
            continue  # extraction reports it
        items.append(PlanItem(utterance.id, count, upstream.num_frames(count)))
    return len(manifest) - len(missing), estimate(items, spec, rate)


def measured_speed(upstream: Upstream) -> float:
    """Seconds of audio a second, from one forward pass after a first one that warms up."""
    rate = upstream.info.sample_rate
    wave = np.random.default_rng(0).standard_normal(int(PROBE_SECONDS * rate)).astype(np.float32)
    upstream.encode([0.1 * wave])
    started = time.perf_counter()
    upstream.encode([0.1 * wave])
    return PROBE_SECONDS / max(time.perf_counter() - started, 1e-6)


def _trainings(plan: Plan, request: Request, results: Path) -> Iterator[tuple[str, ...]]:
    seconds = _seconds_of(results)
    total = 0
    for trial in plan.trials:
        corpus = trial.corpus if isinstance(trial, Trial) else unscrambled(trial.train[0])
        selected = request.manifest(corpus).select_labels(trial.labels)
        folds = len(make_folds(selected, trial.protocol).folds)
        known = seconds.get(trial.head)
        count = folds * trial.seeds
        total += count
        about = "no record of this head yet" if known is None else _time(known * count)
        yield trial.about, f"{folds} x {trial.seeds}", about
    yield f"{len(plan.trials)} trainings", str(total), ""


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
