"""What joins a corpus in training and testing: copies, test conditions, other corpora.

Folds alone decide which row is on which side. A copy of an utterance is on its training side
exactly where the utterance is, and with it every other utterance that went into the copy. Dev stays
as it is, test too but for the conditions that were asked for. Rows of another corpus are on the
training side of every fold.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from msgspec import structs

from ser_features.augment.augmented import partner_of as drawn_partner
from ser_features.errors import AudioError, StoreError, UsageError
from ser_features.labels import canonical_label, parse_classes
from ser_features.manifest import Manifest
from ser_features.records import Fold, Source, Utterance
from ser_features.runs import CLEAN, Task
from ser_features.store.reader import FeatureSet
from ser_features.train.cache_augment import parse_cache
from ser_features.train.run import RowFacts, Training
from ser_features.train.strategies import take_ratio
from ser_features.views import Joined, Part, row_id


@dataclass(frozen=True, slots=True)
class Mixture:
    """The feature sets of one upstream that join its clean set.

    ``copies`` are for training and ``conditions`` for testing, both over the same utterances and
    by the name of their augmentation; ``added`` are other corpora with their labels mapped
    (``map_labels``).
    """

    clean: FeatureSet
    copies: Mapping[str, FeatureSet] = field(default_factory=dict)
    conditions: Mapping[str, FeatureSet] = field(default_factory=dict)
    added: tuple[tuple[Manifest, FeatureSet], ...] = ()

    def join(self, task: Task, training: Training, conditions: Sequence[str]) -> "Mixed":
        """The task with all that joins it, and the features of all rows.

        ``conditions`` are the names to test under, in order; ``clean`` is one of them where the
        recordings as they are are to be tested. Copies stand in for training rows where
        ``training.rate`` is set, and are the added data of ``training.strategy`` where there is no
        other corpus; otherwise they are further training rows. Raises UsageError where a ratio asks
        for more than there is.
        """
        others = (*self._copied(task.manifest), *self._added_rows())
        added = frozenset(u.id for u in self._added_rows())
        left = Counter[str]()
        known = {name: _partners(each) for name, each in self.copies.items()}
        folds = [
            replace(
                self._fold(fold, training, _copies(fold, known, left)),
                test=tuple(row for one in conditions for row in self._test_rows([fold], one)),
            )
            for fold in task.plan.folds
        ]
        if training.strategy is not None and not added:
            added = frozenset(name for fold in folds for name in fold.train) & {
                u.id for u in others
            }
        plan = replace(task.plan, folds=tuple(folds), notes=(*task.plan.notes, *_left_out(left)))
        mixed = replace(
            task,
            plan=plan,
            others=others,
            tests={one: self._test_rows(task.plan.folds, one) for one in conditions},
            facts=RowFacts(added, self._copy_of(task.manifest)),
            augmentation=self._augmentation(training),
            strategy=self._strategy(training),
        )
        return Mixed(mixed, Joined(self._parts(task.manifest)))

    def _sets(self) -> dict[str, FeatureSet]:
        """Every augmented set once, whatever it is for."""
        return {**self.copies, **self.conditions}

    def _parts(self, manifest: Manifest) -> Iterator[Part]:
        kept = frozenset(manifest.by_id)
        yield Part(self.clean, only=kept)
        yield from (Part(each, name, only=kept) for name, each in self._sets().items())
        for other, each in self.added:
            yield Part(each, corpus=other.corpus, only=frozenset(other.by_id))

    def _copied(self, manifest: Manifest) -> Iterator[Utterance]:
        for name, each in self._sets().items():
            there = set(each.ids)
            rows = (u for u in manifest.utterances if u.id in there)
            yield from (structs.replace(u, id=row_id(u.id, name)) for u in rows)

    def _added_rows(self) -> Iterator[Utterance]:
        for manifest, _ in self.added:
            yield from foreign_rows(manifest)

    def _copy_of(self, manifest: Manifest) -> dict[str, str]:
        return {row_id(u, name): u for name in self.copies for u in manifest.by_id}

    def _fold(self, fold: Fold, training: Training, copies: tuple[str, ...]) -> Fold:
        """The fold with its copies and its added rows."""
        added = tuple(u.id for u in self._added_rows())
        if training.rate:
            return replace(fold, copies=copies, train=(*fold.train, *added))
        taken = take_ratio(training.strategy, added or copies, len(fold.train), fold.name)
        return replace(fold, train=(*fold.train, *(copies if added else ()), *taken))

    def _test_rows(self, folds: Sequence[Fold], condition: str) -> dict[str, str]:
        """Row -> utterance of the test sides under one condition."""
        tested = dict.fromkeys(name for fold in folds for name in fold.test)
        if condition == CLEAN:
            return {name: name for name in tested}
        return {row_id(name, condition): name for name in tested}

    def _augmentation(self, training: Training) -> str:
        """What was done to the training side, as a leaderboard's cell."""
        names = Counter(
            name.rpartition("+")[0] if _numbered(name) else name for name in self.copies
        )
        texts = [name if count == 1 else f"{name} x{count}" for name, count in names.items()]
        rate = f" {training.rate:.0%}" if training.rate and texts else ""
        cached = [step.text for step in parse_cache(training.cache, frames=True)]
        return " & ".join(filter(None, [" & ".join(texts) + rate, *cached]))

    def _strategy(self, training: Training) -> str:
        """How other data entered, as a leaderboard's cell."""
        strategy = training.strategy
        if strategy is None:
            return ""
        corpora = "+".join(manifest.corpus for manifest, _ in self.added) or "copies"
        ratio = "" if strategy.ratio is None else f" {strategy.ratio:g}"
        return f"{strategy.text} {corpora}{ratio}"


@dataclass(frozen=True, slots=True)
class Mixed:
    """A task and the features of all its rows: what ``runs.Run`` takes."""

    task: Task
    features: Joined


def foreign_rows(manifest: Manifest) -> Iterator[Utterance]:
    """Another corpus's utterances as rows: ``corpus:id``, speakers and sessions likewise."""

    def named(text: str | None) -> str | None:
        return None if text is None else f"{manifest.corpus}:{text}"

    for one in manifest.utterances:
        name = row_id(one.id, corpus=manifest.corpus)
        yield structs.replace(one, id=name, speaker=named(one.speaker), session=named(one.session))


def map_labels(manifest: Manifest, classes: Sequence[str]) -> Manifest:
    """Another corpus with its labels mapped to the classes of the first.

    ``classes`` are label requests such as ``happy+excited``, or plain class names. What is of no
    class is left out and counted in ``notes``, as are classes that the corpus lacks. Raises
    UsageError where nothing is left.
    """
    parsed = parse_classes(list(classes))
    to_class = {member: each.name for each in parsed for member in each.members}
    named = {label: to_class.get(canonical_label(label)) for label in manifest.label_counts}
    there = {name for name in named.values() if name is not None}
    if not there:
        raise UsageError(
            f"{manifest.corpus!r} has no utterance of {', '.join(classes)} to add; it has: "
            + ", ".join(sorted(manifest.label_counts))
        )
    request = [
        "+".join(m for m in each.members if m in {canonical_label(x) for x in named})
        for each in parsed
        if each.name in there
    ]
    chosen = manifest.select_labels(request)
    renamed = tuple(structs.replace(u, label=to_class[u.label or ""]) for u in chosen.utterances)
    order = tuple(each.name for each in parsed)
    lacking = [name for name in order if name not in there]
    notes = [f"{manifest.corpus}: {note}" for note in chosen.notes]
    if lacking:
        notes.append(f"{manifest.corpus} has no {', '.join(lacking)} to add")
    return replace(chosen, utterances=renamed, label_order=order, notes=tuple(notes))


def partner_of(source: Source) -> str | None:
    """The utterance that a copy was joined with (CopyPaste), from what was drawn for it.

    StoreError naming the utterance where that cannot be read.
    """
    try:
        return drawn_partner(getattr(source, "draw", ""))
    except AudioError as error:
        found = f"the recorded draw of {source.id!r} cannot be used ({error})"
        way_out = "extract its augmented feature set anew into another store"
        raise StoreError(f"{found}; {way_out}") from error


Partners = Mapping[str, str]
"""Utterance -> the other utterance in its copy; itself where there is none."""


def _partners(copies: FeatureSet) -> Partners:
    return {name: partner_of(source) or name for name, source in copies.sources.items()}


def _copies(fold: Fold, known: Mapping[str, Partners], left: Counter[str]) -> tuple[str, ...]:
    """Copies whose utterance and partner are on the training side; the others are counted."""
    train, found = set(fold.train), []
    for name, partners in known.items():
        for utterance in fold.train:
            if utterance not in partners:
                left[f"{name}: not in the store"] += 1
            elif partners[utterance] not in train:
                left[f"{name}: the other utterance in them is not on the training side"] += 1
            else:
                found.append(row_id(utterance, name))
    return tuple(found)


def _numbered(name: str) -> bool:
    return name.rpartition("+")[2].isdecimal()


def _left_out(left: Mapping[str, int]) -> list[str]:
    return [f"{count} copies are left out, over all folds: {why}" for why, count in left.items()]
