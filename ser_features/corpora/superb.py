"""SUPERB's five folds of IEMOCAP, as s3prl draws them (0.4.18, ``downstream/emotion/expert.py``).

A session is the test side and a random 20 % of the other turns is dev, which shares its speakers
with train. Which 20 % depends on the order of the turns before the draw: s3prl's is the order of
the metadata files in its repository, which its pip package does not ship.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from ser_features.corpora.tree import first_folder, some
from ser_features.errors import ManifestError
from ser_features.labels import canonical_label
from ser_features.manifest import Manifest
from ser_features.records import Fold, Json, Utterance

SESSIONS = tuple(f"Session{number}" for number in range(1, 6))
TEST_SIZES = (1085, 1023, 1151, 1031, 1241)
"""Turns of the four classes in each session."""

METADATA = "s3prl/downstream/emotion/meta_data"
"""Where the metadata lies in a clone of s3prl's repository."""

SORTED_NOTE = (
    "superb: test sides are SUPERB's; dev is a random 20 % of the others as in SUPERB, but not its "
    "very turns, as they were drawn in the order of their names; for SUPERB's own dev give "
    f"{METADATA} of a clone of github.com/s3prl/s3prl as --superb-metadata"
)
"""What to know about folds that were made without s3prl's metadata."""


def is_superb(manifest: Manifest) -> bool:
    """Whether the manifest has as many turns in each session as SUPERB's IEMOCAP."""
    return _session_sizes(manifest) == TEST_SIZES


def superb_folds(manifest: Manifest, metadata: Path | None = None) -> tuple[Fold, ...]:
    """SUPERB's folds of IEMOCAP; a manifest's ids are turn names, such as Ses01F_impro01_F000.

    ``metadata`` is the folder ``s3prl/downstream/emotion/meta_data`` of s3prl's repository (or a
    clone of the whole): with it every side is s3prl's, turn by turn. Without it the turns are
    drawn in the order of their names: the same test sides, another dev (see ``SORTED_NOTE``).

    Attach them with ``manifest.with_folds("superb", folds)`` before labels are selected. Raises
    ManifestError where the 5 531 turns of SUPERB are not all there, since then the split would be
    another one, and where the metadata has other turns or labels.
    """
    if not is_superb(manifest):
        raise ManifestError(
            f"SUPERB's folds need its {sum(TEST_SIZES)} turns of IEMOCAP, by session "
            f"{TEST_SIZES}; {manifest.corpus!r} has {_session_sizes(manifest)}"
        )
    sides = _sorted_sides(manifest) if metadata is None else _metadata_sides(manifest, metadata)
    return tuple(
        _fold(session, train, test) for session, (train, test) in zip(SESSIONS, sides, strict=True)
    )


def _session_sizes(manifest: Manifest) -> tuple[int, ...]:
    sizes = Counter(utterance.session for utterance in manifest.utterances)
    return tuple(sizes[session] for session in SESSIONS)


def _fold(session: str, others: Sequence[str], test: Sequence[str]) -> Fold:
    num_train = int((1 - 0.2) * len(others))
    drawn = [others[i] for i in torch_permutation(len(others))]
    return Fold(session, tuple(drawn[:num_train]), tuple(drawn[num_train:]), tuple(test))


def torch_permutation(n: int) -> list[int]:
    """``torch.randperm(n)`` after ``torch.manual_seed(0)`` on a CPU, without torch."""
    # Both seed the same Mersenne twister; a full-range draw is its raw 32-bit output.
    draws = np.random.RandomState(0).randint(0, 2**32, size=n, dtype=np.uint32).tolist()
    order = list(range(n))
    for i in range(n - 1):
        j = i + draws[i] % (n - i)
        order[i], order[j] = order[j], order[i]
    return order


def _split(manifest: Manifest, session: str) -> tuple[list[Utterance], list[Utterance]]:
    """The turns of the other sessions, and those of this one."""
    others = [u for u in manifest.utterances if u.session != session]
    return others, [u for u in manifest.utterances if u.session == session]


def _sorted_sides(manifest: Manifest) -> list[tuple[list[str], list[str]]]:
    splits = [_split(manifest, session) for session in SESSIONS]
    return [(sorted(u.id for u in others), sorted(u.id for u in own)) for others, own in splits]


def _metadata_sides(manifest: Manifest, metadata: Path) -> list[tuple[list[str], list[str]]]:
    """Train with dev, and test, of every session, in the order of the metadata."""
    root = first_folder(metadata, METADATA)
    sides = []
    problems: list[str] = []
    for session in SESSIONS:
        others, own = _split(manifest, session)
        train = _checked(root / session / "train_meta_data.json", others, problems)
        test = _checked(root / session / "test_meta_data.json", own, problems)
        sides.append((train, test))
    if problems:
        raise ManifestError(
            f"corpus {manifest.corpus!r} does not match SUPERB's metadata in {root}", problems
        )
    return sides


def _checked(path: Path, turns: Iterable[Utterance], problems: list[str]) -> list[str]:
    """The turn names of one metadata file; where they are not ``turns``, ``problems`` says so."""
    rows = _read_rows(path)
    problems += [f"{path.parent.name}/{path.name}: {text}" for text in _differences(rows, turns)]
    return [turn for turn, _ in rows]


def _differences(rows: Sequence[tuple[str, str]], turns: Iterable[Utterance]) -> Iterator[str]:
    """How one metadata file differs from the corpus, as sentences."""
    found = dict(rows)
    expected = {turn.id: canonical_label(turn.label or "") for turn in turns}
    if strange := sorted(found.keys() - expected.keys()):
        yield f"{len(strange)} turn(s) are not in the corpus: {some(strange)}"
    if lacking := sorted(expected.keys() - found.keys()):
        yield f"{len(lacking)} turn(s) of the corpus are not there: {some(lacking)}"
    if len(found) < len(rows):
        yield f"{len(rows) - len(found)} turn(s) are there twice"
    both = sorted(found.keys() & expected.keys())
    if other := [turn for turn in both if canonical_label(found[turn]) != expected[turn]]:
        yield (
            f"{len(other)} turn(s) have another label: {some(other)} (the first is "
            f"{found[other[0]]!r} there, {expected[other[0]]!r} in the corpus)"
        )


def _read_rows(path: Path) -> list[tuple[str, str]]:
    """Turn names and label codes of one metadata file, in its order."""
    try:
        rows: Json = json.loads(path.read_text("utf-8"))["meta_data"]
        return [(PurePosixPath(row["path"]).stem, canonical_label(row["label"])) for row in rows]
    except FileNotFoundError:
        raise ManifestError(
            f"there is no {path}; expected the folder {METADATA} of s3prl's repository"
        ) from None
    except OSError as error:
        raise ManifestError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ManifestError(
            f"{path} is not s3prl's metadata: expected JSON with meta_data, a list of objects "
            "with path and label"
        ) from None
