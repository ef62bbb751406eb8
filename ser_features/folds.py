"""Protocols: how a manifest is divided into train, dev and test sides. No torch.

Every division is deterministic in the manifest, the protocol and the seed. Dev is what model
selection may look at; it shares no speaker with train wherever the protocol lets us choose it.
"""

import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold, StratifiedShuffleSplit

from ser_features.errors import ProtocolError
from ser_features.manifest import Manifest
from ser_features.records import Fold, Utterance
from ser_features.registry import by_name

DEV_FRACTION = 0.2
"""Part of the non-test data that becomes dev where a protocol leaves it open (SUPERB's 20 %)."""


@dataclass(frozen=True, slots=True)
class FoldPlan:
    """The folds of one protocol on one corpus, and what a reader of the scores should know.

    ``dev_shares_speakers`` is True where a speaker is on the train and the dev side of a fold, or
    where that cannot be excluded because speakers are unknown.
    """

    protocol: str
    folds: tuple[Fold, ...]
    notes: tuple[str, ...]
    dev_shares_speakers: bool


Draft = tuple[list[Fold], list[str]]
"""Folds whose dev side may still be empty, and notes."""


@dataclass(frozen=True, slots=True)
class Protocol:
    """One way to divide a corpus: ``form`` is how it is asked for, ``needs`` what it reads."""

    name: str
    form: str
    description: str
    dev: str
    needs: tuple[str, ...]
    make: Callable[[Manifest, int, int], Draft]


def make_folds(manifest: Manifest, protocol: str, seed: int = 0) -> FoldPlan:
    """Divide ``manifest`` by ``protocol`` (such as ``loso`` or ``kfold:5``).

    ``seed`` draws what the protocol leaves to chance (``kfold`` folds, carved dev sides).
    Raises UsageError for an unknown name, ProtocolError where the corpus cannot be divided so.
    """
    name, number = parse_protocol(protocol)
    chosen = PROTOCOLS[name]
    _check_needs(manifest, chosen)
    drafts, notes = chosen.make(manifest, number, seed)
    folds = [_with_dev(manifest, fold, seed, notes) for fold in drafts]
    index = {u.id: row for row, u in enumerate(manifest.utterances)}
    labels = _column(u.label for u in manifest.utterances)
    speakers = _column(u.speaker for u in manifest.utterances)
    shares = False
    for fold in folds:
        train, dev, _ = _check_fold(manifest.corpus, protocol, fold, index)
        for side, rows in (("train", train), ("dev", dev)):
            if missing := sorted(set(manifest.labels) - labels.present(rows)):
                notes.append(f"fold {fold.name}: no {side} utterance of {', '.join(missing)}")
        one, other = speakers.present(train), speakers.present(dev)
        shares = shares or "" in one | other or bool(one & other)
    return FoldPlan(protocol, tuple(folds), tuple(dict.fromkeys(notes)), shares)


def parse_protocol(text: str) -> tuple[str, int]:
    """The protocol's name and its number (0 where it takes none).

    >>> parse_protocol("kfold:5")
    ('kfold', 5)
    """
    name, colon, rest = text.partition(":")
    known = PROTOCOLS[name]
    takes_number = ":" in known.form
    if bool(colon) != takes_number or (colon and not re.fullmatch(r"[1-9]\d{0,5}", rest)):
        raise ProtocolError(f"protocol {text!r} is not well formed; expected {known.form!r}")
    return name, int(rest) if colon else 0


def _loso(manifest: Manifest, number: int, seed: int) -> Draft:
    speakers = sorted(_ids_by(manifest, "speaker"))
    if len(speakers) < 3:
        raise ProtocolError(
            f"loso needs at least 3 speakers (test, dev and train), {manifest.corpus!r} has "
            f"{len(speakers)}: {', '.join(speakers)}"
        )
    count = max(1, round(DEV_FRACTION * (len(speakers) - 1)))
    return _rotation(manifest, "speaker", min(count, len(speakers) - 2)), []


def _session(manifest: Manifest, number: int, seed: int) -> Draft:
    sessions = sorted(_ids_by(manifest, "session"))
    if len(sessions) < 3:
        raise ProtocolError(
            f"session needs at least 3 sessions (test, dev and train), {manifest.corpus!r} has "
            f"{len(sessions)}: {', '.join(sessions)}"
        )
    return _rotation(manifest, "session", 1), []


def _rotation(manifest: Manifest, by: str, num_dev: int) -> list[Fold]:
    """One fold per group: it is test, the next ``num_dev`` groups in sorted order are dev."""
    groups = _ids_by(manifest, by)
    names = sorted(groups)
    folds = []
    for i, name in enumerate(names):
        dev = {names[(i + 1 + j) % len(names)] for j in range(num_dev)}
        train = [n for n in names if n != name and n not in dev]
        folds.append(
            Fold(name, _join(groups, train), _join(groups, sorted(dev)), tuple(groups[name]))
        )
    return folds


def _kfold(manifest: Manifest, number: int, seed: int) -> Draft:
    speakers = len(_ids_by(manifest, "speaker"))
    if not 2 <= number <= speakers:
        hint = f"; say kfold:{speakers}" if speakers > 1 else ""
        raise ProtocolError(
            f"kfold:{number}: the number of folds must be from 2 to the number of speakers, "
            f"{manifest.corpus!r} has {speakers}{hint}"
        )
    parts, balanced = _group_folds(manifest.utterances, number, seed)
    notes = [] if balanced else ["kfold: folds are balanced by size only, not by label"]
    ids = np.array([u.id for u in manifest.utterances], dtype=object)
    return [
        Fold(f"fold{i + 1}", tuple(ids[parts != i]), (), tuple(ids[parts == i]))
        for i in range(number)
    ], notes


def _official(manifest: Manifest, number: int, seed: int) -> Draft:
    if "official" in manifest.folds:
        return _own("official")(manifest, number, seed)
    without = [u for u in manifest.utterances if u.split is None]
    if without:
        raise ProtocolError(
            f"official needs a split for every utterance: {len(without)} of "
            f"{len(manifest.utterances)} have none (first: {without[0].id!r}); give a 'split' "
            "column with train, dev, test"
        )
    sides = _ids_by(manifest, "split")
    train, dev, test = (tuple(sides.get(name, ())) for name in ("train", "dev", "test"))
    return [Fold("official", train, dev, test)], []


def _own(name: str) -> Callable[[Manifest, int, int], Draft]:
    """The corpus's own folds called ``name``."""

    def make(manifest: Manifest, number: int, seed: int) -> Draft:
        if name not in manifest.folds:
            there = ", ".join(sorted(manifest.folds)) or "none"
            raise ProtocolError(
                f"corpus {manifest.corpus!r} carries no {name!r} folds (its own folds: {there}); "
                "use one of: loso, session, kfold:K, official"
            )
        return list(manifest.folds[name]), list(manifest.fold_notes.get(name, ()))

    return make


def _with_dev(manifest: Manifest, fold: Fold, seed: int, notes: list[str]) -> Fold:
    """The fold with a dev side: its own, else speaker-disjoint from train, else random."""
    if fold.dev or len(fold.train) < 2:
        return fold
    utterances = [manifest.by_id[i] for i in fold.train]
    known = {u.speaker for u in utterances}
    if None not in known and len(known) > 1:
        dev = _group_folds(utterances, min(round(1 / DEV_FRACTION), len(known)), seed)[0] == 0
    else:
        dev = _random_dev(utterances, seed)
        notes.append(
            f"fold {fold.name}: dev is a random {DEV_FRACTION:.0%} of train, as the training "
            "side has one speaker or unknown ones"
        )
    ids = np.array(fold.train, dtype=object)
    return replace(fold, train=tuple(ids[~dev]), dev=tuple(ids[dev]))


def _group_folds(
    utterances: Sequence[Utterance], count: int, seed: int
) -> tuple[NDArray[np.intp], bool]:
    """The part of each utterance, from 0, and whether parts are balanced by label.

    Parts share no speaker; they are balanced by size alone where labels would leave one empty.
    """
    # numbers, as the splitters are slow on strings
    labels = _column(u.label for u in utterances).codes
    speakers = _column(u.speaker for u in utterances).codes
    splitters = (
        StratifiedGroupKFold(count, shuffle=True, random_state=seed),
        GroupKFold(count),
    )
    for splitter in splitters:
        with warnings.catch_warnings():
            # a class with fewer utterances than folds; missing classes become notes of our own
            warnings.simplefilter("ignore", UserWarning)
            try:
                tests = [test for _, test in splitter.split(labels, labels, speakers)]
            except ValueError:  # every class has fewer utterances than folds
                continue
        if all(map(len, tests)):
            break
    parts = np.empty(len(utterances), np.intp)
    for part, test in enumerate(tests):
        parts[test] = part
    return parts, isinstance(splitter, StratifiedGroupKFold)


def _random_dev(utterances: Sequence[Utterance], seed: int) -> NDArray[np.bool_]:
    """Which utterances are in a random fifth, stratified where every class has two of them."""
    labels = _column(u.label for u in utterances).codes
    size = max(1, round(DEV_FRACTION * len(labels)))
    counts = np.bincount(labels)
    if counts.min() >= 2 and len(counts) <= min(size, len(labels) - size):
        splitter = StratifiedShuffleSplit(1, test_size=size, random_state=seed)
        _, rows = next(splitter.split(labels, labels))
    else:
        rows = np.random.RandomState(seed).permutation(len(labels))[:size]
    dev = np.zeros(len(labels), bool)
    dev[rows] = True
    return dev


def _check_needs(manifest: Manifest, protocol: Protocol) -> None:
    for field in (*protocol.needs, "label"):
        missing = [u for u in manifest.utterances if not getattr(u, field)]
        if missing:
            others = [p.form for p in PROTOCOLS.values() if field not in p.needs]
            hint = f"; protocols that need none: {', '.join(others)}" if field != "label" else ""
            raise ProtocolError(
                f"{protocol.form} needs the {field} of every utterance, {len(missing)} of "
                f"{len(manifest.utterances)} have none (first: {missing[0].id!r}){hint}"
            )


def _check_fold(
    corpus: str, protocol: str, fold: Fold, index: Mapping[str, int]
) -> list[NDArray[np.intp]]:
    """The manifest's rows of the train, dev and test sides, which must be there and disjoint."""
    sides = {"train": fold.train, "dev": fold.dev, "test": fold.test}
    for side, ids in sides.items():
        if not ids:
            raise ProtocolError(
                f"{protocol}: fold {fold.name!r} has no {side} utterances in {corpus!r}"
            )
    together = (*fold.train, *fold.dev, *fold.test)
    try:
        rows = np.array([index[i] for i in together], np.intp)
    except KeyError as error:
        raise ProtocolError(
            f"{protocol}: fold {fold.name!r} names {error.args[0]!r}, no such utterance"
        ) from None
    if np.bincount(rows).max() > 1:
        name, count = Counter(together).most_common(1)[0]
        raise ProtocolError(f"{protocol}: {name!r} is {count} times in fold {fold.name!r}")
    return np.split(rows, np.cumsum([len(fold.train), len(fold.dev)]))


@dataclass(frozen=True, slots=True)
class _Column:
    """One value per utterance: the distinct ones, sorted, and their places. Unknown is empty."""

    values: tuple[str, ...]
    codes: NDArray[np.intp]

    def present(self, rows: NDArray[np.intp]) -> set[str]:
        """The values that these rows have."""
        return {self.values[code] for code in np.flatnonzero(np.bincount(self.codes[rows]))}


def _column(values: Iterable[str | None]) -> _Column:
    known = [value or "" for value in values]
    rank = {value: code for code, value in enumerate(sorted(set(known)))}
    return _Column(tuple(rank), np.array([rank[value] for value in known], np.intp))


def _ids_by(manifest: Manifest, field: str) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for utterance in manifest.utterances:
        groups.setdefault(getattr(utterance, field), []).append(utterance.id)
    return groups


def _join(groups: dict[str, list[str]], names: Sequence[str]) -> tuple[str, ...]:
    return tuple(chain.from_iterable(groups[name] for name in names))


_DISJOINT = "speaker-disjoint fifth of the training side, balanced by label"

PROTOCOLS = by_name(
    "protocol",
    (
        Protocol(
            "loso", "loso", "leave one speaker out: each speaker is the test side once",
            "the next fifth of the other speakers, in sorted rotation", ("speaker",), _loso,
        ),
        Protocol(
            "session", "session", "leave one session out: each session is the test side once",
            "the next session, in sorted rotation", ("session",), _session,
        ),
        Protocol(
            "kfold", "kfold:K", "K folds that share no speaker, balanced by label",
            _DISJOINT, ("speaker",), _kfold,
        ),
        Protocol(
            "official", "official", "the corpus's own split into train, dev and test",
            f"the corpus's own; without one a {_DISJOINT}, or a random fifth", (), _official,
        ),
        Protocol(
            "emobox", "emobox", "EmoBox's official folds",
            f"EmoBox's own; without one a {_DISJOINT}, or a random fifth", (), _own("emobox"),
        ),
        Protocol(
            "superb", "superb", "IEMOCAP as SUPERB divides it: one session is the test side",
            "s3prl's random fifth of the training side, which shares its speakers", (),
            _own("superb"),
        ),
    ),
    lambda protocol: protocol.name,
)  # fmt: skip
"""Every protocol, by name."""
