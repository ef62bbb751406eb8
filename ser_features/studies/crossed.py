"""Training on several corpora together, testing on each: folds, rows and features of a crossing.

Every corpus has as many folds as the others. Fold i trains on the training sides i of the corpora
of the crossing, selects on their dev sides, and is tested on the test side i of every corpus: so
each corpus is tested on the same utterances, whatever was trained on.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from msgspec import structs

from ser_features.audit import audit
from ser_features.errors import RejectsError
from ser_features.folds import FoldPlan, make_folds
from ser_features.manifest import Manifest
from ser_features.mixture import Mixed, foreign_rows, partner_of
from ser_features.records import Fold, Json, Utterance
from ser_features.runs import Task
from ser_features.store.reader import FeatureSet
from ser_features.studies.spec import SCRAMBLED, Crossing
from ser_features.train.run import RowFacts
from ser_features.views import Joined, Part, row_id


@dataclass(frozen=True, slots=True)
class Prepared:
    """A corpus with its labels chosen, its folds, and its feature sets of one upstream."""

    manifest: Manifest
    plan: FoldPlan
    clean: FeatureSet
    copies: Mapping[str, FeatureSet] = field(default_factory=dict)
    num_rejects: int = 0


def prepare(
    manifest: Manifest,
    name: str,
    crossing: Crossing,
    clean: FeatureSet,
    copies: Mapping[str, FeatureSet],
    allow_rejects: bool,
) -> Prepared:
    """The corpus ``name`` of a crossing without what was rejected.

    Folds are made before labels are exchanged: both versions of a corpus have the same. Raises
    RejectsError where utterances were rejected and that is not allowed.
    """
    selected = manifest.select_labels(crossing.labels)
    gone = selected.by_id.keys() - set(clean.ids)
    if gone and not allow_rejects:
        raise RejectsError(
            f"{manifest.corpus}: {len(gone)} of {len(selected)} utterances were rejected (first: "
            f"{min(gone)!r}), so there is no comparison; mend the files, or pass --allow-rejects"
        )
    kept = selected.without(gone) if gone else selected
    plan = make_folds(kept, crossing.protocol)
    asked = kept if name == manifest.corpus else scramble(kept, crossing.swap)
    return Prepared(asked, plan, clean, copies, len(gone))


def scramble(manifest: Manifest, swap: Sequence[tuple[str, str]]) -> Manifest:
    """The corpus with these pairs of labels exchanged, under the name ``CORPUS-scrambled``."""
    other = {a: b for pair in swap for a, b in (pair, pair[::-1])}
    swapped = tuple(
        structs.replace(u, label=other.get(u.label or "", u.label)) for u in manifest.utterances
    )
    return replace(manifest, corpus=manifest.corpus + SCRAMBLED, utterances=swapped)


def cross(crossing: Crossing, corpora: Mapping[str, Prepared], inputs: Mapping[str, Json]) -> Mixed:
    """The task and features of a crossing; ``corpora`` by name, as ``crossing`` names them."""
    every = dict.fromkeys((*crossing.train, *crossing.tests))
    named = {name: _named(corpora[name].manifest) for name in every}
    first = crossing.train[0]
    folds = tuple(_folds(crossing, corpora))
    notes = tuple(n for each in named.values() for n in each.notes)
    main = replace(named[first], notes=notes, folds={}, fold_notes={})
    others = tuple(_others(crossing, corpora, named, first))
    rows = (*main.utterances, *others)
    plan = FoldPlan(crossing.protocol, folds, (), any(
        corpora[c].plan.dev_shares_speakers for c in crossing.train))  # fmt: skip
    task = Task(
        main,
        plan,
        0,
        audit(folds, rows, _hashes(named, corpora)),
        sum(corpora[name].num_rejects for name in named),
        inputs,
        others=others,
        tests={name: _tested(name, corpora[name]) for name in crossing.tests},
        facts=RowFacts(copy_of=_copy_of(crossing, corpora)),
        augmentation=_augmentation(crossing),
    )
    return Mixed(task, Joined(_parts(crossing, corpora)))


def _named(manifest: Manifest) -> Manifest:
    """The corpus with its rows called ``corpus:id``."""
    return replace(manifest, utterances=tuple(foreign_rows(manifest)), rows=())


def _folds(crossing: Crossing, corpora: Mapping[str, Prepared]) -> Iterator[Fold]:
    count = len(corpora[crossing.train[0]].plan.folds)
    for i in range(count):
        own = {name: corpora[name].plan.folds[i] for name in corpora}
        train = [row for c in crossing.train for row in _rows(c, own[c].train)]
        yield Fold(
            f"fold{i + 1}",
            tuple(train),
            tuple(row for c in crossing.train for row in _rows(c, own[c].dev)),
            tuple(row for c in crossing.tests for row in _rows(c, own[c].test)),
            tuple(row for c in crossing.train for row in _copies(c, own[c], corpora[c]))
            if crossing.training.rate
            else (),
        )


def _rows(corpus: str, ids: Sequence[str]) -> list[str]:
    return [row_id(name, corpus=corpus) for name in ids]


def _copies(corpus: str, fold: Fold, prepared: Prepared) -> Iterator[str]:
    """Copies of training rows whose partner, where they have one, is a training row too."""
    train = set(fold.train)
    for name, features in prepared.copies.items():
        for utterance, source in features.sources.items():
            if utterance in train and (partner_of(source) or utterance) in train:
                yield row_id(utterance, name, corpus)


def _others(
    crossing: Crossing, corpora: Mapping[str, Prepared], named: Mapping[str, Manifest], first: str
) -> Iterator[Utterance]:
    """Rows of the other corpora, then of all copies."""
    for name, manifest in named.items():
        if name != first:
            yield from manifest.utterances
    for name in crossing.train:
        labelled = dict(zip(corpora[name].manifest.by_id, named[name].utterances, strict=True))
        for copy, features in corpora[name].copies.items():
            there = (u for u in features.ids if u in labelled)
            yield from (structs.replace(labelled[u], id=row_id(u, copy, name)) for u in there)


def _copy_of(crossing: Crossing, corpora: Mapping[str, Prepared]) -> dict[str, str]:
    return {
        row_id(u, copy, name): row_id(u, corpus=name)
        for name in crossing.train
        for copy in corpora[name].copies
        for u in corpora[name].manifest.by_id
    }


def _tested(name: str, corpus: Prepared) -> dict[str, str]:
    rows = [row for fold in corpus.plan.folds for row in _rows(name, fold.test)]
    return {row: row for row in rows}


def _parts(crossing: Crossing, corpora: Mapping[str, Prepared]) -> Iterator[Part]:
    for name in dict.fromkeys((*crossing.train, *crossing.tests)):
        kept = frozenset(corpora[name].manifest.by_id)
        yield Part(corpora[name].clean, corpus=name, only=kept)
    for name in crossing.train if crossing.training.rate else ():
        kept = frozenset(corpora[name].manifest.by_id)
        for copy, features in corpora[name].copies.items():
            yield Part(features, copy, name, kept)


def _hashes(named: Mapping[str, Manifest], corpora: Mapping[str, Prepared]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in named:
        clean = corpora[name].clean
        pairs = zip(clean.ids, clean.audio_sha256, strict=True)
        # both versions of a corpus have one audio and two labels: no finding of an audit
        mark = SCRAMBLED if name.endswith(SCRAMBLED) else ""
        found |= {row_id(key, corpus=name): value + mark for key, value in pairs}
    return found


def _augmentation(crossing: Crossing) -> str:
    """What a leaderboard calls the training side."""
    names = " + ".join(crossing.train)
    if not crossing.training.rate:
        return f"trained on {names}"
    return f"trained on {names}, {crossing.training.rate:.0%} {' & '.join(crossing.augment)}"
