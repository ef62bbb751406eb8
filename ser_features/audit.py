"""Leak audit: what lies on both sides of a split that should not."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ser_features.records import Fold, Json, Utterance

SIDES = (("train", "test"), ("dev", "test"), ("train", "dev"))
KINDS = {
    "speakers": "{count} of {total} {second} speakers are in {first}",
    "sessions": "{count} of {total} {second} sessions are in {first}",
    "audio": "{count} of {total} {second} recordings are in {first} with identical audio",
    "names": "{count} of {total} {second} files are named like one in {first}",
}
"""What is looked for, and the sentence for it."""
_LEAKS = ("speakers", "sessions", "audio")
_EXAMPLES = 5


@dataclass(frozen=True, slots=True)
class Shared:
    """What two sides of one fold share.

    ``count`` of the ``total`` speakers or sessions (for audio and names: utterances) of side
    ``second`` are in side ``first`` too. ``examples`` are a few of them; for utterances, pairs of
    ids such as ``a = b``.
    """

    fold: str
    first: str
    second: str
    kind: str
    count: int
    total: int
    examples: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Audit:
    """All that was found. ``two_labels`` holds groups of ids with one audio and several labels."""

    num_folds: int
    shared: tuple[Shared, ...]
    two_labels: tuple[tuple[str, ...], ...]
    without_speaker: int

    @property
    def leaks(self) -> tuple[str, ...]:
        """The kinds that make test scores doubtful: shared with the test side."""
        found = {each.kind for each in self.shared if each.second == "test"}
        return tuple(kind for kind in _LEAKS if kind in found)

    @property
    def similar_names(self) -> bool:
        """Whether a test file is named like one of another side."""
        return any(each.kind == "names" and each.second == "test" for each in self.shared)

    @property
    def dev_shares_speakers(self) -> bool:
        """Whether model selection saw speakers of the training side."""
        return any(each.kind == "speakers" and each.second == "dev" for each in self.shared)

    def sentences(self) -> tuple[str, ...]:
        """What a row should say, the worst fold of each finding standing for all."""
        worst: dict[tuple[str, ...], list[Shared]] = defaultdict(list)
        for each in self.shared:
            if each.second == "dev" and each.kind in ("sessions", "names"):
                continue  # usual and harmless; it stays in the JSON
            worst[each.first, each.second, each.kind].append(each)
        found = [_sentence(group, self.num_folds) for group in worst.values()]
        if self.two_labels:
            one = ", ".join(self.two_labels[0])
            found.append(f"{len(self.two_labels)} recordings carry several labels (such as {one})")
        if self.without_speaker:
            found.append(f"{self.without_speaker} utterances have no speaker: not audited for them")
        return tuple(found)

    def to_json(self) -> dict[str, Json]:
        """The audit as a record and a report carry it."""
        return {
            "leaks": list(self.leaks),
            "similar_names": self.similar_names,
            "dev_shares_speakers": self.dev_shares_speakers,
            "sentences": list(self.sentences()),
            "num_folds": self.num_folds,
            "shared": [{**asdict(each), "examples": list(each.examples)} for each in self.shared],
            "two_labels": [list(group) for group in self.two_labels],
            "without_speaker": self.without_speaker,
        }


def audit(
    folds: Sequence[Fold],
    utterances: Iterable[Utterance],
    audio_sha256: Mapping[str, str] | None = None,
) -> Audit:
    """Compare the sides of every fold by speaker, session, audio hash and file name.

    ``audio_sha256`` maps ids to the hash of the decoded audio; what is not in it is not compared
    by audio. Raises KeyError where a fold names an utterance that is not given.
    """
    by_id = {utterance.id: utterance for utterance in utterances}
    used = {name for fold in folds for name in (*fold.train, *fold.dev, *fold.test)}
    hashes = {name: sha for name, sha in (audio_sha256 or {}).items() if name in used}
    traits = {name: _traits(by_id[name], hashes.get(name)) for name in sorted(used)}
    return Audit(
        num_folds=len(folds),
        shared=tuple(each for fold in folds for each in _shared(fold, traits)),
        two_labels=tuple(_two_labels(hashes, by_id)),
        without_speaker=sum(by_id[name].speaker is None for name in used),
    )


def _traits(utterance: Utterance, sha256: str | None) -> dict[str, str | None]:
    """What an utterance may share with another, by kind."""
    return {
        "speakers": utterance.speaker,
        "sessions": utterance.session,
        "audio": sha256,
        "names": f"{utterance.speaker or ''}/{plain_name(utterance.path)}",
    }


def plain_name(path: Path) -> str:
    """A file name without what tells copies apart: case, separators, "copy", "(2)".

    A name without a letter is only telling together with its folder.

    >>> plain_name(Path("a/Anger_07 - Copy (2).wav")), plain_name(Path("sad/07.wav"))
    ('anger-07', 'sad-07')
    """
    name = path.stem if re.search(r"[^\W\d_]", path.stem) else f"{path.parent.name}-{path.stem}"
    plain = unicodedata.normalize("NFKC", name).casefold()
    plain = re.sub(r"^copy of |(\s*\(\d+\)|[\s_-]+copy[\s_-]?\d*|[\s_-]+dup\d*)+$", "", plain)
    return re.sub(r"[\s_-]+", "-", plain).strip("-")


def _shared(fold: Fold, traits: Mapping[str, Mapping[str, str | None]]) -> Iterator[Shared]:
    sides = {"train": fold.train, "dev": fold.dev, "test": fold.test}
    for first, second in SIDES:
        for kind in KINDS:
            ours, theirs = (_by_value(sides[side], traits, kind) for side in (first, second))
            both = [value for value in theirs if value in ours]
            if not both:
                continue
            if kind in ("speakers", "sessions"):
                found, total = both, len(theirs)
            else:
                found = [f"{name} = {ours[v][0]}" for v in both for name in theirs[v]]
                total = len(sides[second])
            yield Shared(
                fold.name, first, second, kind, len(found), total, tuple(found[:_EXAMPLES])
            )


def _by_value(
    ids: Sequence[str], traits: Mapping[str, Mapping[str, str | None]], kind: str
) -> dict[str, list[str]]:
    """Value of the trait -> ids that have it; those without one are left out."""
    found: dict[str, list[str]] = defaultdict(list)
    for name in ids:
        value = traits[name][kind]
        if value is not None:
            found[value].append(name)
    return dict(found)


def _two_labels(
    hashes: Mapping[str, str], by_id: Mapping[str, Utterance]
) -> Iterator[tuple[str, ...]]:
    groups = defaultdict(list)
    for name in sorted(hashes):
        groups[hashes[name]].append(name)
    for names in groups.values():
        if len({by_id[name].label for name in names}) > 1:
            yield tuple(names)


def _sentence(found: Sequence[Shared], num_folds: int) -> str:
    worst = max(found, key=lambda each: each.count / each.total)
    text = KINDS[worst.kind].format(**asdict(worst))
    others = f", the worst of {len(found)} such folds out of {num_folds}" if num_folds > 1 else ""
    return f"{text} (fold {worst.fold}{others})"
