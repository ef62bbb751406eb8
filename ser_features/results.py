"""Run records as files: one sealed JSON file a run, read back strictly, merged over folders."""

import json
import re
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from ser_features.errors import DamageError, ResultsError
from ser_features.files import read_sealed, read_whole, write_sealed
from ser_features.fingerprint import depth, fingerprint
from ser_features.records import Json, RunRecord

SCHEMA = 1
# A record from a stranger: what is squared (confusions) or walked (configurations) has an end.
MOST_LABELS, MOST_DEPTH = 1000, 50


@dataclass(frozen=True, slots=True)
class Loaded:
    """What lay in some result folders.

    ``paths`` is parallel to ``records``: the file or files (of several machines) behind each one.
    Two records with the same key disagree with each other; neither is to be averaged or preferred.
    ``problems`` are sentences about files that are not usable records, each naming its file.
    """

    records: tuple[RunRecord, ...] = ()
    paths: tuple[tuple[Path, ...], ...] = ()
    problems: tuple[str, ...] = ()


def run_key(config: Mapping[str, Json]) -> str:
    """The content key of a run: sha256 hex of its canonical configuration."""
    return fingerprint(dict(config))


def missing(record: RunRecord) -> list[tuple[str, int]]:
    """The ``(fold, seed)`` pairs that a complete run still needs, in their expected order."""
    done = {(score.fold, score.seed) for score in record.scores}
    return [pair for pair in record.expected if pair not in done]


def differences(first: RunRecord, second: RunRecord) -> tuple[int, int]:
    """How many predictions of ``first`` are other or absent in ``second``, and of how many."""
    theirs = {
        (score.fold, score.seed, name): label
        for score in second.scores
        for name, label in zip(score.test_ids, score.predictions, strict=True)
    }
    ours = [
        (label, theirs.get((score.fold, score.seed, name)))
        for score in first.scores
        for name, label in zip(score.test_ids, score.predictions, strict=True)
    ]
    return sum(label != other for label, other in ours), len(ours)


def record_path(folder: Path, record: RunRecord) -> Path:
    """Where a record lies: ``<corpus>/<upstream>--<head>--<protocol>--<key12>.json``."""
    names = (record.upstream, record.head, record.protocol, record.key[:12])
    return folder / _slug(record.corpus) / ("--".join(map(_slug, names)) + ".json")


def count_records(folder: Path) -> int:
    """Files that lie where ``record_path`` puts records; none is read."""
    return sum(1 for _ in folder.glob("*/*--*--*--*.json"))


def save_record(folder: Path, record: RunRecord) -> Path:
    """Write the record whole or not at all; the path.

    Raises ResultsError where the record contradicts itself or holds what JSON cannot (NaN),
    StoreError where the file cannot be written.
    """
    path = record_path(folder, record)
    try:
        _check(record)
        write_sealed(path, {"schema": SCHEMA, "kind": "run", "record": asdict(record)})
    except (TypeError, ValueError) as error:
        raise ResultsError(f"cannot write {path}: the record is not plain JSON: {error}") from error
    return path


def load_record(path: Path) -> RunRecord:
    """The record in a file; ResultsError naming the file where none can be trusted."""
    try:
        _refuse_foreign(path)
        body = read_sealed(path)
    except DamageError as error:
        raise ResultsError(
            f"{path} was changed after it was written: its checksum does not hold; "
            "restore the file, or delete it and run that bench again"
        ) from error
    except OSError as error:
        raise ResultsError(f"cannot read {path}: {error.strerror or error}") from error
    try:
        if not isinstance(body, dict):
            raise ResultsError("it holds no record")
        record: RunRecord = _decode(RunRecord, body.get("record"), "record")
        json.dumps(body, ensure_ascii=False).encode()
        _check(record)
    except UnicodeEncodeError:  # JSON can spell what no text is
        raise ResultsError(f"{path} is not a valid run record: half a character in it") from None
    except ResultsError as error:
        raise ResultsError(f"{path} is not a valid run record: {error}") from error
    return record


def load_records(folders: Sequence[Path]) -> Loaded:
    """Every record below the folders, records of the same run merged where they agree.

    Never raises for what it finds: a damaged, foreign, newer or unreadable file is a problem.
    """
    found: list[tuple[RunRecord, Path]] = []
    problems = [
        f"{folder} is not a folder; give the folder that 'serfeat bench --results' wrote"
        for folder in folders
        if not folder.is_dir()
    ]
    for path in _json_files(folders):
        try:
            found.append((load_record(path), path))
        except ResultsError as error:
            problems.append(str(error))
    return _merge(found, problems)


def _json_files(folders: Sequence[Path]) -> list[Path]:
    """JSON files in a stable order, each once even where folders overlap."""
    found = [path for folder in folders for path in sorted(folder.rglob("*.json"))]
    return list({path.resolve(): path for path in reversed(found)}.values())[::-1]


def _merge(found: Sequence[tuple[RunRecord, Path]], problems: Sequence[str]) -> Loaded:
    merged: list[tuple[RunRecord, tuple[Path, ...]]] = []
    for record, path in found:
        for i, (other, paths) in enumerate(merged):
            union = _union(other, record) if other.key == record.key else None
            if union is not None:
                merged[i] = (union, (*paths, path))
                break
        else:
            merged.append((record, (path,)))
    records, paths_of = [record for record, _ in merged], [paths for _, paths in merged]
    return Loaded(tuple(records), tuple(paths_of), tuple(problems))


def _union(first: RunRecord, second: RunRecord) -> RunRecord | None:
    """One record with the folds of both; None where they contradict each other."""
    ours = {(score.fold, score.seed): score for score in first.scores}
    theirs = {(score.fold, score.seed): score for score in second.scores}
    agree = all(
        (ours[pair].test_ids, ours[pair].predictions)
        == (theirs[pair].test_ids, theirs[pair].predictions)
        for pair in ours.keys() & theirs.keys()
    )
    free = {"scores", "cost", "provenance", "notes"}
    names = [field.name for field in fields(RunRecord) if field.name not in free]
    if not agree or any(getattr(first, name) != getattr(second, name) for name in names):
        return None
    both = {**theirs, **ours}
    return replace(first, scores=tuple(both[pair] for pair in first.expected if pair in both))


def _refuse_foreign(path: Path) -> None:
    """Files of other programs and of newer versions, told apart from damage."""
    try:
        text = json.loads(read_whole(path))
    except (ValueError, RecursionError) as error:
        raise ResultsError(f"{path} is damaged or not a run record: it is not JSON") from error
    body = text.get("body") if isinstance(text, dict) else None
    if not isinstance(body, dict) or body.get("kind") != "run":
        raise ResultsError(f"{path} is not a run record of serfeat; keep other files elsewhere")
    if type(body.get("schema")) is not int or not 1 <= body["schema"] <= SCHEMA:
        raise ResultsError(
            f"{path} has schema {body.get('schema')!r}, this serfeat reads up to {SCHEMA}: "
            "update serfeat to read it"
        )


def _check(record: RunRecord) -> None:
    """Raise ResultsError where the parts of a record do not agree with each other."""
    pairs, expected = [(s.fold, s.seed) for s in record.scores], record.expected
    folds, seeds = {fold for fold, _ in expected}, {seed for _, seed in expected}
    rules = [
        (len(set(record.labels)) == len(record.labels), "a label is there twice"),
        (len(record.labels) <= MOST_LABELS, f"there are more than {MOST_LABELS} labels"),
        (len(set(expected)) == len(expected), "an expected fold and seed is there twice"),
        (len(expected) == len(folds) * len(seeds), "expected is not every fold with every seed"),
        (len(set(pairs)) == len(pairs), "a fold and seed is scored twice"),
        (set(pairs) <= set(expected), "a scored fold and seed is not among the expected"),
        (_are_labels(record, record.truth.values()), "a truth is not the index of a label"),
    ]
    tested: dict[str, set[str]] = {}
    for score in record.scores:
        ids, where = score.test_ids, f"fold {score.fold!r}, seed {score.seed}"
        same = tested.setdefault(score.fold, set(ids)) == set(ids)
        rules += [
            (len(ids) == len(score.predictions) > 0, f"{where}: not one prediction an utterance"),
            (len(set(ids)) == len(ids), f"{where}: an utterance is tested twice"),
            (same, f"{where}: other test utterances than with another seed"),
            (set(ids) <= record.truth.keys(), f"{where}: an utterance without truth"),
            (_are_labels(record, score.predictions), f"{where}: a prediction is no label's index"),
        ]
    if broken := [sentence for holds, sentence in rules if not holds]:
        raise ResultsError("; ".join(broken))


def _are_labels(record: RunRecord, indices: Iterable[int]) -> bool:
    return all(0 <= i < len(record.labels) for i in indices)


def _decode(kind: Any, value: Json, where: str) -> Any:
    """A JSON value as the annotated type; strict: a foreign file must not pass as a record."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any and depth(value) > MOST_DEPTH:
        raise ResultsError(f"{where} is nested more than {MOST_DEPTH} levels deep")
    if type(value) in (int, float) and not abs(value) < 2**63:
        raise ResultsError(f"{where} is {str(value)[:40]}, no number that a record can hold")
    if kind is Any or type(value) is kind:
        return value
    if kind is float and type(value) is int and abs(value) < 2**53:
        return float(value)
    if origin is types.UnionType:
        return None if value is None else _decode(args[0], value, where)
    if isinstance(value, dict) and (is_dataclass(kind) or origin is Mapping):
        return _decode_fields(kind, value, where)
    if isinstance(value, list) and origin is tuple:
        return _decode_items(args, value, where)
    name = getattr(kind, "__name__", kind)
    raise ResultsError(f"{where} is {type(value).__name__}, expected {name}")


def _decode_items(kinds: tuple[Any, ...], value: list[Json], where: str) -> tuple[Any, ...]:
    if kinds[-1] is Ellipsis:
        kinds = (kinds[0],) * len(value)
    if len(kinds) != len(value):
        raise ResultsError(f"{where} has {len(value)} items, expected {len(kinds)}")
    pairs = enumerate(zip(kinds, value, strict=True))
    return tuple(_decode(kind, item, f"{where}[{i}]") for i, (kind, item) in pairs)


def _decode_fields(kind: Any, value: dict[str, Json], where: str) -> Any:
    if typing.get_origin(kind) is Mapping:
        of = typing.get_args(kind)[1]
        return {name: _decode(of, item, f"{where}.{name}") for name, item in value.items()}
    hints = typing.get_type_hints(kind)
    optional = {
        field.name
        for field in fields(kind)
        if field.default is not MISSING or field.default_factory is not MISSING
    }
    wrong = (value.keys() - hints.keys()) | (hints.keys() - value.keys() - optional)
    if wrong:
        raise ResultsError(f"{where}: unknown or missing fields: {', '.join(sorted(wrong))}")
    return kind(**{name: _decode(hints[name], value[name], f"{where}.{name}") for name in value})


def _slug(name: str) -> str:
    """A harmless, readable file name; the key in the name keeps different runs apart."""
    return re.sub(r"[^A-Za-z0-9_+@=.-]+", "-", name).strip(".-")[:60] or "unnamed"
