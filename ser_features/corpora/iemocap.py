"""IEMOCAP: English, acted dialogues of 10 speakers in 5 sessions, labels from EmoEvaluation files.

Five names for its label sets: ``iemocap`` is SUPERB's four classes (excited counts as happy),
``iemocap-exp1``, ``-exp2`` and ``-exp3`` are those of the ResNet transfer paper (paper 4, Table 2),
``iemocap-all`` is every turn on which the annotators agreed.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

from ser_features.corpora.spec import CorpusSpec, Published
from ser_features.corpora.superb import SESSIONS, SORTED_NOTE, is_superb, superb_folds
from ser_features.corpora.tree import first_folder, list_folder
from ser_features.errors import ManifestError
from ser_features.manifest import Manifest
from ser_features.records import Utterance

TURN = re.compile(r"(Ses0[1-5])[FM]_(?:impro|script)\w+_([FM])[A-Z\d]{3}")
# [6.2901 - 8.2357]<tab>Ses01F_impro01_F000<tab>neu<tab>[2.5000, 2.5000, 2.5000]
_LINE = re.compile(r"\[[\d.]+ - [\d.]+\]\t(\S+)\t(\w+)\t\[.*\]\s*")

WORDS = {
    "ang": "anger",
    "hap": "happiness",
    "exc": "excited",
    "neu": "neutral",
    "sad": "sadness",
    "fru": "frustration",
    "fea": "fear",
    "sur": "surprise",
    "dis": "disgust",
    "oth": "other",
}
"""The annotators' categories; the code ``xxx`` marks turns on which they did not agree."""

_FOUR = {code: WORDS[code] for code in ("ang", "hap", "neu", "sad")}
_MERGED = _FOUR | {"exc": "happiness"}


class _Turn(NamedTuple):
    name: str
    session: str
    code: str


def speaker_of(turn: str) -> str | None:
    """Who speaks in a turn, such as ``Ses01M`` for ``Ses01F_impro04_M003``; None for other names.

    The first letter of a turn's name only says which actor wore the motion-capture markers in
    that dialogue; s3prl's and EmoBox's metadata give that as the speaker.
    """
    match = TURN.search(turn)
    return match[1] + match[2] if match else None


def read_iemocap(name: str, words: Mapping[str, str], path: Path) -> Manifest:
    """IEMOCAP from the folder that holds ``Session1`` … ``Session5``, or the one above it.

    ``words`` maps the codes to keep to labels; other turns are counted in a note. Folds as
    SUPERB draws them are in ``folds["superb"]`` where all of its 5 531 turns are there. Raises
    ManifestError.
    """
    root = first_folder(path, "IEMOCAP_full_release")
    turns: list[_Turn] = []
    problems: list[str] = []
    for session in SESSIONS:
        if (root / session).is_dir():
            turns += _session_turns(root, session, problems)
    if problems:
        raise ManifestError(f"{root} has EmoEvaluation lines that are not understood", problems)
    kept = tuple(_utterance(root, turn, words) for turn in turns if turn.code in words)
    manifest = Manifest(name, kept, notes=tuple(_left_out(turns, words)))
    if not is_superb(manifest):
        return manifest
    return manifest.with_folds("superb", superb_folds(manifest), SORTED_NOTE)


def _session_turns(root: Path, session: str, problems: list[str]) -> list[_Turn]:
    """A session's turns sorted by name; lines that are not understood go to ``problems``."""
    turns = []
    for file in list_folder(root / session / "dialog" / "EmoEvaluation"):
        if file.suffix != ".txt":
            continue
        for number, line in enumerate(_lines(file), 1):
            match = _LINE.fullmatch(line)
            if match and TURN.fullmatch(match[1]) and match[2] in {*WORDS, "xxx"}:
                turns.append(_Turn(match[1], session, match[2]))
            elif line.startswith("["):
                problems.append(f"{session}, {file.name}, line {number}: {line[:60]!r}")
    return sorted(turns)


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text("utf-8", "replace").splitlines()
    except OSError as error:
        raise ManifestError(f"cannot read {file}: {error.strerror}") from error


def _utterance(root: Path, turn: _Turn, words: Mapping[str, str]) -> Utterance:
    folder = root / turn.session / "sentences" / "wav" / turn.name.rsplit("_", 1)[0]
    path = folder / f"{turn.name}.wav"
    return Utterance(turn.name, str(path), words[turn.code], speaker_of(turn.name), turn.session)


def _left_out(turns: list[_Turn], words: Mapping[str, str]) -> Iterator[str]:
    other = Counter(turn.code for turn in turns if turn.code not in words)
    if other:
        named = [f"{WORDS.get(code, 'no agreement')} {n}" for code, n in other.most_common()]
        yield f"{other.total()} of {len(turns)} turns have other labels: {', '.join(named)}"


def _variant(
    name: str, what: str, words: Mapping[str, str], published: Published, source: str
) -> CorpusSpec:
    return CorpusSpec(
        name=name,
        description=f"IEMOCAP: 10 speakers in 5 sessions; {what}",
        languages=("English",),
        layout="Session{1..5}/{dialog/EmoEvaluation/*.txt,sentences/wav/DIALOGUE/TURN.wav}",
        published=published,
        source=source,
        read=partial(read_iemocap, name, words),
    )


_EXP2 = {code: WORDS[code] for code in ("ang", "exc", "neu", "sad")}
_EXP1_COUNTS = {"angry": 1103, "happy": 595, "neutral": 1708, "sad": 1084}
_EXP2_COUNTS = {"angry": 1103, "excited": 1041, "neutral": 1708, "sad": 1084}
_MERGED_COUNTS = Published(5531, 10, _EXP1_COUNTS | {"happy": 1636})
_TABLE2 = "ResNet transfer paper, Table 2"

IEMOCAP = (
    _variant(
        "iemocap",
        "SUPERB's classes: angry, happy (with excited), neutral, sad",
        _MERGED,
        _MERGED_COUNTS,
        "SUPERB's metadata in s3prl",
    ),
    _variant(
        "iemocap-exp1",
        "angry, happy, neutral, sad",
        _FOUR,
        Published(4490, 10, _EXP1_COUNTS),
        _TABLE2,
    ),
    _variant(
        "iemocap-exp2",
        "angry, excited, neutral, sad",
        _EXP2,
        Published(4936, 10, _EXP2_COUNTS),
        _TABLE2,
    ),
    _variant(
        "iemocap-exp3",
        "angry, happy (with excited), neutral, sad",
        _MERGED,
        _MERGED_COUNTS,
        _TABLE2,
    ),
    _variant(
        "iemocap-all",
        "every label that the annotators agreed on",
        WORDS,
        Published(None, 10, _EXP1_COUNTS | _EXP2_COUNTS),
        f"{_TABLE2}, for the five labels in it",
    ),
)
