"""Protocols: how a manifest is divided into train, dev and test sides. No torch.

Every division is deterministic in the manifest, the protocol and the seed. Dev is what model
selection may look at; it shares no speaker with train wherever the protocol lets us choose it.
"""

import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
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
    for fold in folds:
        _check_fold(manifest, protocol, fold)
    notes += _missing_classes(manifest, folds)
    shares = any(_shares_speakers(manifest, fold) for fold in folds)
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
        raise ProtocolError(
            f"kfold:{number}: the number of folds must be from 2 to the number of speakers, "
            f"{manifest.corpus!r} has {speakers}"
        )
    utterances = list(manifest.utterances)
    tests, balanced = _group_folds(utterances, number, seed)
    notes = [] if balanced else ["kfold: folds are balanced by size only, not by label"]
    folds = []
    for i, test in enumerate(tests):
        rest = tuple(u.id for u in utterances if u.id not in test)
        folds.append(
            Fold(f"fold{i + 1}", rest, (), tuple(u.id for u in utterances if u.id in test))
        )
    return folds, notes


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
        dev = _group_folds(utterances, min(round(1 / DEV_FRACTION), len(known)), seed)[0][0]
    else:
        dev = _random_dev(utterances, seed)
        notes.append(
            f"fold {fold.name}: dev is a random {DEV_FRACTION:.0%} of train, as the training "
            "side has one speaker or unknown ones"
        )
    train = tuple(i for i in fold.train if i not in dev)
    return replace(fold, train=train, dev=tuple(i for i in fold.train if i in dev))


def _group_folds(
    utterances: Sequence[Utterance], count: int, seed: int
) -> tuple[list[set[str]], bool]:
    """Speaker-disjoint parts, balanced by label; by size alone where that leaves one empty."""
    labels = [u.label for u in utterances]
    speakers = [u.speaker for u in utterances]
    ids = np.array([u.id for u in utterances], dtype=object)
    splitters = (
        StratifiedGroupKFold(count, shuffle=True, random_state=seed),
        GroupKFold(count),
    )
    for splitter in splitters:
        with warnings.catch_warnings():
            # a class with fewer utterances than folds; missing classes become notes of our own
            warnings.simplefilter("ignore", UserWarning)
            try:
                parts = [set(ids[test]) for _, test in splitter.split(labels, labels, speakers)]
            except ValueError:  # every class has fewer utterances than folds
                continue
        if all(parts):
            break
    return parts, isinstance(splitter, StratifiedGroupKFold)


def _random_dev(utterances: Sequence[Utterance], seed: int) -> set[str]:
    """A random fifth, stratified by label where every class has two utterances."""
    ids = np.array([u.id for u in utterances], dtype=object)
    labels = [u.label for u in utterances]
    size = max(1, round(DEV_FRACTION * len(ids)))
    classes = Counter(labels)
    if min(classes.values()) >= 2 and len(classes) <= min(size, len(ids) - size):
        splitter = StratifiedShuffleSplit(1, test_size=size, random_state=seed)
        _, dev = next(splitter.split(labels, labels))
        return set(ids[dev])
    return set(np.random.RandomState(seed).permutation(ids)[:size])


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


def _check_fold(manifest: Manifest, protocol: str, fold: Fold) -> None:
    sides = {"train": fold.train, "dev": fold.dev, "test": fold.test}
    for side, ids in sides.items():
        if not ids:
            raise ProtocolError(
                f"{protocol}: fold {fold.name!r} has no {side} utterances in {manifest.corpus!r}"
            )
    counts = Counter(i for ids in sides.values() for i in ids)
    for name, count in counts.items():
        if count > 1:
            raise ProtocolError(f"{protocol}: {name!r} is {count} times in fold {fold.name!r}")
        if name not in manifest.by_id:
            raise ProtocolError(f"{protocol}: fold {fold.name!r} names {name!r}, no such utterance")


def _missing_classes(manifest: Manifest, folds: Sequence[Fold]) -> Iterator[str]:
    for fold in folds:
        for side, ids in (("train", fold.train), ("dev", fold.dev)):
            there = {manifest.by_id[i].label for i in ids}
            if missing := [label for label in manifest.labels if label not in there]:
                yield f"fold {fold.name}: no {side} utterance of {', '.join(missing)}"


def _shares_speakers(manifest: Manifest, fold: Fold) -> bool:
    train = {manifest.by_id[i].speaker for i in fold.train}
    dev = {manifest.by_id[i].speaker for i in fold.dev}
    return None in train | dev or bool(train & dev)


def _ids_by(manifest: Manifest, field: str) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for utterance in manifest.utterances:
        groups.setdefault(getattr(utterance, field), []).append(utterance.id)
    return groups


def _join(groups: dict[str, list[str]], names: Sequence[str]) -> tuple[str, ...]:
    return tuple(i for name in names for i in groups[name])


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
