"""The manifest: who says what, how, and in which file. Immutable, and checked as a whole."""

import difflib
import math
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType

from msgspec import structs

from ser_features.errors import ManifestError
from ser_features.labels import LabelClass, canonical_label, parse_classes
from ser_features.records import Fold, Utterance

SPLITS = ("train", "dev", "test")
MAX_ID_BYTES = 255
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Manifest:
    """The utterances of one corpus.

    ``folds`` maps a protocol name ("emobox", "superb", "official") to the corpus's own folds.
    ``notes`` are sentences a user should see. ``label_order`` is the class order that was asked
    for. ``rows``, parallel to ``utterances``, says where each comes from ("line 7"), or is empty.
    ``fold_notes`` maps a protocol name to what a user of these folds should see.
    """

    corpus: str
    utterances: tuple[Utterance, ...]
    folds: Mapping[str, tuple[Fold, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    label_order: tuple[str, ...] = ()
    rows: tuple[str, ...] = field(default=(), repr=False, compare=False)
    fold_notes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.rows and len(self.rows) != len(self.utterances):
            raise ValueError("rows and utterances are not parallel")
        object.__setattr__(self, "folds", MappingProxyType(dict(self.folds)))
        object.__setattr__(self, "fold_notes", MappingProxyType(dict(self.fold_notes)))

    def __reduce__(self) -> tuple[object, ...]:
        # A mapping proxy cannot be pickled, and worker processes receive manifests.
        parts = (self.corpus, self.utterances, dict(self.folds), self.notes, self.label_order)
        return (Manifest, (*parts, self.rows, dict(self.fold_notes)))

    def __len__(self) -> int:
        return len(self.utterances)

    @cached_property
    def by_id(self) -> Mapping[str, Utterance]:
        """The utterances by id."""
        return MappingProxyType({utterance.id: utterance for utterance in self.utterances})

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes: in the asked order after ``select_labels``, sorted otherwise."""
        return self.label_order or tuple(sorted(self.label_counts))

    @cached_property
    def label_counts(self) -> Mapping[str, int]:
        """How many utterances each label has; those without a label are not counted."""
        return MappingProxyType(Counter(u.label for u in self.utterances if u.label))

    @cached_property
    def speakers(self) -> tuple[str, ...]:
        """The known speakers, sorted."""
        return tuple(sorted({u.speaker for u in self.utterances if u.speaker}))

    def problems(self) -> tuple[str, ...]:
        """Every reason why this manifest is not valid, as sentences; empty when it is."""
        if not self.utterances:
            return ("there are no utterances",)
        where = self.rows or [f"utterance {i + 1}" for i in range(len(self.utterances))]
        pairs = zip(where, self.utterances, strict=True)
        odd = [(row, utterance) for row, utterance in pairs if not _plain(utterance)]
        single = [f"{row}: {text}" for row, u in odd for text in _utterance_problems(u)]
        twice = () if self._ids_differ() else _duplicates(zip(where, self.utterances, strict=True))
        return (*_corpus_problems(self.corpus), *single, *twice, *self._bad_folds())

    def _ids_differ(self) -> bool:
        return len({utterance.id for utterance in self.utterances}) == len(self.utterances)

    def validate(self) -> "Manifest":
        """This manifest, if it is valid; ManifestError with all its problems otherwise."""
        if problems := self.problems():
            raise ManifestError(
                f"the manifest of {self.corpus!r} is not valid, {len(problems)} problem(s):",
                problems,
            )
        return self

    def with_folds(self, protocol: str, folds: Sequence[Fold], *notes: str) -> "Manifest":
        """The same manifest, with the corpus's own folds for a protocol, and notes on them."""
        fold_notes = {**self.fold_notes, protocol: notes}
        return replace(self, folds={**self.folds, protocol: tuple(folds)}, fold_notes=fold_notes)

    def with_notes(self, *notes: str) -> "Manifest":
        """The same manifest, with more notes."""
        return replace(self, notes=(*self.notes, *notes))

    def without(self, ids: Collection[str]) -> "Manifest":
        """The same manifest, folds too, without these utterances."""
        kept = [i for i, utterance in enumerate(self.utterances) if utterance.id not in ids]
        utterances = tuple(self.utterances[i] for i in kept)
        left = {utterance.id for utterance in utterances}
        folds = {name: tuple(restrict(f, left) for f in own) for name, own in self.folds.items()}
        rows = tuple(self.rows[i] for i in kept) if self.rows else ()
        return replace(self, utterances=utterances, folds=folds, rows=rows)

    def select_labels(self, request: Sequence[str] | None = None) -> "Manifest":
        """Pick, merge and order the classes; labels become canonical (see ``ser_features.labels``).

        ``request`` is for example ``["angry", "happy+excited", "neutral"]``: the class order is
        the asked order, ``+`` merges into the first word. None keeps every label. Utterances of
        other labels are left out, of the folds too, and counted in ``notes``.

        Raises ManifestError where a requested label has no utterance, UsageError where the
        request itself is wrong.
        """
        found = _canonical_counts(self.label_counts)
        everything = tuple(LabelClass(label, (label,)) for label in sorted(found))
        classes = everything if request is None else parse_classes(request)
        _require_labels(self.corpus, classes, found)
        to_class = {member: each.name for each in classes for member in each.members}
        kept = self._relabel(
            {label: to_class.get(canonical_label(label)) for label in self.label_counts}
        )
        order = tuple(each.name for each in classes)
        notes = (*self.notes, *_selection_notes(self, classes, found))
        return replace(kept, label_order=order, notes=notes)

    def _relabel(self, names: Mapping[str, str | None]) -> "Manifest":
        """Each utterance with its new label; without those that get none."""
        unnamed = {u.id for u in self.utterances if names.get(u.label or "") is None}
        kept = self.without(unnamed) if unnamed else self
        named = tuple(_with_label(u, names[u.label or ""]) for u in kept.utterances)
        return replace(kept, utterances=named)

    def _bad_folds(self) -> Iterator[str]:
        for protocol, folds in self.folds.items():
            for fold in folds:
                for text in _fold_problems(fold, self.by_id):
                    yield f"fold {fold.name!r} of {protocol!r}: {text}"


def _with_label(utterance: Utterance, label: str | None) -> Utterance:
    return utterance if utterance.label == label else structs.replace(utterance, label=label)


def _canonical_counts(label_counts: Mapping[str, int]) -> Counter[str]:
    found: Counter[str] = Counter()
    for label, count in label_counts.items():
        found[canonical_label(label)] += count
    return found


def restrict(fold: Fold, ids: set[str]) -> Fold:
    """The fold with only these utterances."""
    sides = [tuple(i for i in side if i in ids) for side in (fold.train, fold.dev, fold.test)]
    return Fold(fold.name, *sides)


def _plain(utterance: Utterance) -> bool:
    """Whether ``_utterance_problems`` has certainly nothing to say; ten times as quick."""
    name, label, end = utterance.id, utterance.label, utterance.end
    return (
        0 < len(name) * 4 <= MAX_ID_BYTES
        and name.isprintable()
        and not name.isspace()
        and label is not None
        and label.isprintable()
        and not (not label or label.isspace())
        and (utterance.split is None or utterance.split in SPLITS)
        and (end is None or (utterance.start or 0) < end < math.inf)
        and 0 <= (utterance.start or 0) < math.inf
        and "\0" not in utterance.file
    )


def _utterance_problems(utterance: Utterance) -> Iterator[str]:
    yield from _id_problems(utterance.id)
    if "\0" in utterance.file:
        yield f"path {utterance.file!r} holds a NUL character"
    if utterance.label is None or not utterance.label.strip():
        yield f"{utterance.id!r} has no label"
    if utterance.split is not None and utterance.split not in SPLITS:
        yield f"split {utterance.split!r} is not known; expected one of {', '.join(SPLITS)}"
    yield from _time_problems(utterance.start, utterance.end)


def _id_problems(name: str) -> Iterator[str]:
    if not name.strip():
        yield "the id is empty"
        return
    size = len(name.encode(errors="surrogatepass"))
    if size > MAX_ID_BYTES:
        yield f"id {name[:24]!r}… is {size} bytes long; at most {MAX_ID_BYTES} are allowed"
    if _CONTROL.search(name):
        yield f"id {name!r} holds a control character"
    if _SURROGATE.search(name):
        yield f"id {name!r} is not valid Unicode"


def _time_problems(start: float | None, end: float | None) -> Iterator[str]:
    for name, value in (("start", start), ("end", end)):
        if value is not None and not math.isfinite(value):
            yield f"{name} is {value}; expected seconds"
    if start is not None and start < 0:
        yield f"start is {start} s; it cannot be negative"
    if end is not None and end <= (start or 0):
        yield f"end ({end} s) is not after start ({start or 0} s)"


def _corpus_problems(corpus: str) -> Iterator[str]:
    # The name becomes a folder of the store.
    odd = any(c in "/\\" or ord(c) < 32 for c in corpus) or _SURROGATE.search(corpus)
    if odd or not corpus.strip() or corpus.startswith("."):
        yield f"the corpus name {corpus!r} cannot name a folder"


def _duplicates(pairs: Iterable[tuple[str, Utterance]]) -> Iterator[str]:
    rows: dict[str, list[str]] = defaultdict(list)
    for row, utterance in pairs:
        rows[utterance.id].append(row)
    for name, where in rows.items():
        if len(where) > 1 and name.strip():
            yield f"id {name!r} is there {len(where)} times: {', '.join(where[:5])}"


def _fold_problems(fold: Fold, known: Mapping[str, Utterance]) -> Iterator[str]:
    sides = {"train": set(fold.train), "dev": set(fold.dev), "test": set(fold.test)}
    for name, ids in sides.items():
        if strange := sorted(ids - known.keys()):
            yield f"{len(strange)} {name} id(s) are not in the manifest, such as {strange[0]!r}"
    for one, other in (("train", "dev"), ("train", "test"), ("dev", "test")):
        if both := sorted(sides[one] & sides[other]):
            yield f"{len(both)} id(s) are in {one} and in {other}, such as {both[0]!r}"


def _require_labels(corpus: str, classes: Sequence[LabelClass], found: Mapping[str, int]) -> None:
    wanted = [member for each in classes for member in each.members]
    missing = [member for member in wanted if not found.get(member)]
    if classes and not missing:
        return
    there = ", ".join(f"{label} ({found[label]})" for label in sorted(found)) or "none"
    raise ManifestError(
        f"{corpus!r} has no utterance of {len(missing)} requested label(s); it has: {there}"
        if classes
        else f"no utterance of {corpus!r} has a label",
        [_missing_label(label, found) for label in missing],
    )


def _missing_label(label: str, found: Mapping[str, int]) -> str:
    near = difflib.get_close_matches(label, sorted(found), n=1, cutoff=0.6)
    return f"no {label!r}" + (f"; did you mean {near[0]!r}?" if near else "")


def _selection_notes(
    manifest: Manifest, classes: Sequence[LabelClass], found: Mapping[str, int]
) -> Iterator[str]:
    wanted = {member for each in classes for member in each.members}
    left = {label: n for label, n in sorted(found.items()) if label not in wanted}
    unlabelled = sum(1 for u in manifest.utterances if not u.label)
    if unlabelled:
        left["without a label"] = unlabelled
    if left:
        listed = ", ".join(f"{label} {n}" for label, n in left.items())
        total = f"{sum(left.values())} of {len(manifest)} utterances"
        yield f"{total} are left out by the selection of labels: {listed}"
    for each in classes:
        if len(each.members) > 1:
            listed = ", ".join(f"{member} {found[member]}" for member in each.members)
            yield f"class {each.name!r} is merged from {listed}"
