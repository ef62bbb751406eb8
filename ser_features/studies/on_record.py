"""Which trainings of a plan are on record already; nothing is extracted, trained or written."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ser_features.augment.augmented import augmented_sets
from ser_features.augment.parse import CLEAN
from ser_features.bench import make_task, plan_runs, prepare
from ser_features.extract.progress import Silent
from ser_features.manifest import Manifest
from ser_features.mixture import Mixture, map_labels
from ser_features.runs import Run
from ser_features.store.place import Place
from ser_features.store.reader import FeatureSet
from ser_features.studies.run import Runner, bench_options
from ser_features.studies.spec import Crossing, Request, Trial, unscrambled
from ser_features.train.run import needs_frames

Sets = Mapping[tuple[str, str], Mapping[str, FeatureSet]]
"""(corpus, upstream) -> feature sets of which nothing is left to extract, by name."""


def reads(trial: Trial | Crossing) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The feature sets of a training: corpus and names."""
    if isinstance(trial, Crossing):
        for name in dict.fromkeys((*trial.train, *trial.tests)):
            copies = trial.augment if trial.training.rate and name in trial.train else ()
            yield unscrambled(name), names_of((CLEAN, *copies), trial.copies)
        return
    yield trial.corpus, names_of((CLEAN, *trial.augment), trial.copies)
    yield trial.corpus, names_of(trial.conditions, 1)
    if trial.added:
        yield trial.added, (CLEAN,)


def names_of(texts: Sequence[str], copies: int) -> tuple[str, ...]:
    """The names of the feature sets of some augmentations."""
    made = augmented_sets(tuple(texts), copies)
    return tuple(dict.fromkeys(CLEAN if one is None else one.name for one in made))


@dataclass(frozen=True, slots=True)
class OnRecord:
    """Asks the records of a folder; ``sets`` are what the trainings read."""

    request: Request
    store: Place
    results: Path
    sets: Sets

    def lacking(self, trial: Trial | Crossing) -> int | None:
        """Folds and runs that would be trained; None where features are to be extracted first."""
        for corpus, names in reads(trial):
            if not set(names) <= self.sets.get((corpus, trial.upstream), {}).keys():
                return None
        runs = [self._crossed(trial)] if isinstance(trial, Crossing) else self._benched(trial)
        return sum(len(run.lacking()) for run in runs)

    def _benched(self, trial: Trial) -> Iterator[Run]:
        """The runs that ``bench`` would make of a trial."""
        options = bench_options(trial, self.request)
        others = [self.request.manifest(trial.added)] if trial.added else []
        manifest = self.request.manifest(trial.corpus)
        selected = prepare(manifest, [trial.upstream], options, others)
        own = self.sets[trial.corpus, trial.upstream]
        copies, tests = names_of(trial.augment, trial.copies), names_of(trial.conditions, 1)
        kept = _in_all(selected, [own[name] for name in (CLEAN, *copies, *tests)])
        mixture = Mixture(
            own[CLEAN],
            {name: own[name] for name in copies},
            {name: own[name] for name in tests if name != CLEAN},
            tuple(self._added(trial, other, selected) for other in others),
        )
        task = make_task(kept, len(selected) - len(kept), mixture, options)
        yield from plan_runs(task, mixture, trial.upstream, tests, options, self.results)

    def _added(
        self, trial: Trial, other: Manifest, selected: Manifest
    ) -> tuple[Manifest, FeatureSet]:
        features = self.sets[other.corpus, trial.upstream][CLEAN]
        mapped = map_labels(other, trial.labels or selected.labels)
        return _in_all(mapped, [features]), features

    def _crossed(self, crossing: Crossing) -> Run:
        frames = self.request.extraction.frames or needs_frames([crossing.head])
        opened = {(c, u, frames): dict(sets) for (c, u), sets in self.sets.items()}
        runner = Runner(self.request, self.store, self.results, Silent(), opened)
        return runner.crossing_run(crossing)


def _in_all(manifest: Manifest, sets: Sequence[FeatureSet]) -> Manifest:
    """Without what was rejected by an extraction."""
    there = frozenset.intersection(*(frozenset(each.ids) for each in sets))
    gone = manifest.by_id.keys() - there
    return manifest.without(gone) if gone else manifest
