"""EmoBox metadata: a corpus as one folder of the EmoBox repository, with its official folds.

The folder (``data/<corpus>`` of the clone) holds ``<corpus>.jsonl`` and
``fold_N/<corpus>_{train,valid,test}_fold_N.jsonl``, N from 1; ``valid`` only for some corpora. An
older schema of the same folds (``…_foldN.jsonl``; keys ``audio`` and ``label`` for ``wav`` and
``emo``) is read where the newer is absent. Speakers stand in ``data.seg.wrd.stm`` only, words for
label codes in ``label_map.json``.
"""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from ser_features.corpora.iemocap import speaker_of
from ser_features.corpora.tree import list_folder, some
from ser_features.errors import ManifestError
from ser_features.manifest import Manifest
from ser_features.records import Fold, Json, Utterance


class _Row(NamedTuple):
    key: str
    wav: str
    label: str

    @property
    def stem(self) -> str:
        return PurePosixPath(self.wav).stem


def read_emobox(metadata: Path, audio_root: Path) -> Manifest:
    """The corpus of one EmoBox metadata folder, with ``folds["emobox"]``.

    ``audio_root`` is where the recordings lie: the folder that holds EmoBox's ``downloads``, or
    any folder below it whose inner layout is EmoBox's. Raises ManifestError with all problems.
    """
    name = _corpus_name(metadata)
    rows = _read_rows(metadata / f"{name}.jsonl")
    words = _label_words(metadata / "label_map.json")
    speakers = _read_speakers(metadata / "data.seg.wrd.stm")
    depth = _audio_depth(rows, audio_root)
    utterances = tuple(
        Utterance(
            id=row.key,
            file=str(audio_root.joinpath(*PurePosixPath(row.wav).parts[depth:])),
            label=words.get(row.label, words.get(row.label.casefold(), row.label)),
            speaker=speakers.get(row.key),
        )
        for row in rows
    )
    notes = () if speakers else (f"{metadata} names no speakers (no data.seg.wrd.stm)",)
    folds = _read_folds(metadata, name, {row.key: row.key for row in rows}, partial=False)
    return Manifest(name, utterances, {"emobox": folds}, notes).validate()


def emobox_folds(
    metadata: Path, manifest: Manifest, *, allow_partial: bool = False
) -> tuple[Fold, ...]:
    """EmoBox's folds for a corpus that was read in another way, matched by file stem.

    Attach them with ``manifest.with_folds("emobox", folds)`` before labels are selected. Raises
    ManifestError where the two do not hold the same utterances; with ``allow_partial`` the
    manifest may hold fewer.
    """
    name = _corpus_name(metadata)
    by_stem = _ids_by_stem(manifest)
    stems = {row.key: row.stem for row in _read_rows(metadata / f"{name}.jsonl")}
    known = set(stems.values())
    strange = sorted(by_stem.keys() - known)
    lacking = [] if allow_partial else sorted(known - by_stem.keys())
    problems = [f"{len(strange)} utterance(s) are not in EmoBox: {some(strange)}"] * bool(strange)
    problems += [f"{len(lacking)} are in EmoBox only: {some(lacking)}"] * bool(lacking)
    if problems:
        raise ManifestError(
            f"corpus {manifest.corpus!r} does not match the EmoBox metadata {metadata}", problems
        )
    ids = {key: by_stem[stem] for key, stem in stems.items() if stem in by_stem}
    return _read_folds(metadata, name, ids, partial=allow_partial)


def _ids_by_stem(manifest: Manifest) -> dict[str, str]:
    by_stem = {utterance.path.stem: utterance.id for utterance in manifest.utterances}
    if len(by_stem) < len(manifest):
        raise ManifestError(
            f"{manifest.corpus!r} has several utterances with one file name; "
            "EmoBox folds match by file name"
        )
    return by_stem


def _corpus_name(metadata: Path) -> str:
    names = [p.stem for p in list_folder(metadata) if p.suffix == ".jsonl"]
    if len(names) != 1:
        raise ManifestError(
            f"{metadata} is not EmoBox metadata of a corpus: found {len(names)} .jsonl file(s), "
            "expected one, such as data/emodb/emodb.jsonl in a clone of EmoBox"
        )
    return names[0]


def _read_rows(path: Path) -> list[_Row]:
    """The rows of one jsonl file in either schema. Raises ManifestError with all bad lines."""
    rows, problems = [], []
    for number, text in enumerate(_read_text(path).split("\n"), 1):
        if not text.strip():
            continue
        row = _parse_row(text)
        if row is None:
            problems.append(f"line {number}: {text[:60]!r}")
        else:
            rows.append(row)
    if problems or not rows:
        raise ManifestError(
            f"{path} is not EmoBox metadata: expected JSON objects with key, wav and emo", problems
        )
    return rows


def _parse_row(text: str) -> _Row | None:
    try:
        row: Json = json.loads(text)
        found = _Row(row["key"], row.get("wav", row.get("audio")), row.get("emo", row.get("label")))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return found if all(isinstance(value, str) and value for value in found) else None


def _read_text(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"cannot read {path}: {error}") from error


def _label_words(path: Path) -> Mapping[str, str]:
    """Label code → word, also by the code in lower case: EMO-DB's map says "Neutral"."""
    if not path.exists():
        return {}
    try:
        words: Json = json.loads(_read_text(path))
        exact = {key: str(word) for key, word in words.items()}
    except (ValueError, AttributeError, RecursionError) as error:
        raise ManifestError(f"{path} is not a label map: {error}") from error
    return {key.casefold(): word for key, word in exact.items()} | exact


def _read_speakers(path: Path) -> dict[str, str]:
    """Utterance key → speaker, from lines such as ``KEY 1 … <id=KEY,lang=en,spk=male_03,…>``."""
    if not path.exists():
        return {}
    pattern = re.compile(r"^(\S+)\s.*<[^>]*\bspk=([^,>]+)", re.MULTILINE)
    speakers = dict(pattern.findall(_read_text(path)))
    # EmoBox gives IEMOCAP's dialogue as the speaker; the turn's name says who really speaks.
    return {key: speaker_of(key) or speaker for key, speaker in speakers.items()}


def _audio_depth(rows: Iterable[_Row], audio_root: Path) -> int:
    """How many leading folders of the metadata's paths lie above ``audio_root``."""
    for row in rows:
        parts = PurePosixPath(row.wav).parts
        for depth in range(len(parts)):
            if audio_root.joinpath(*parts[depth:]).exists():
                return depth
    return 0


def _read_folds(
    metadata: Path, name: str, ids: Mapping[str, str], *, partial: bool
) -> tuple[Fold, ...]:
    """The folds in their order, with keys translated by ``ids``."""
    numbers = [re.fullmatch(r"fold_(\d+)", p.name) for p in list_folder(metadata) if p.is_dir()]
    folds = []
    for number in sorted(int(match[1]) for match in numbers if match):
        sides = {}
        for side in ("train", "valid", "test"):
            keys = _fold_keys(metadata / f"fold_{number}", name, side, number)
            strange = [key for key in keys if key not in ids]
            if strange and not partial:
                raise ManifestError(f"{metadata}: fold {number} has unknown keys: {some(strange)}")
            sides[side] = tuple(ids[key] for key in keys if key in ids)
        folds.append(Fold(f"fold_{number}", sides["train"], sides["valid"], sides["test"]))
    if not folds:
        raise ManifestError(f"{metadata} has no folds; expected folders fold_1, fold_2, …")
    return tuple(folds)


def _fold_keys(folder: Path, name: str, side: str, number: int) -> list[str]:
    """The keys of one side; none for a ``valid`` side that the corpus does not have."""
    paths = [folder / f"{name}_{side}_fold{sep}{number}.jsonl" for sep in ("_", "")]
    path = next((p for p in paths if p.exists()), None)
    if path is None and side == "valid":
        return []
    return [row.key for row in _read_rows(path or paths[0])]
