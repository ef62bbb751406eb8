"""Run records to leaderboard rows: scores, intervals, and marks that say what to distrust."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ser_features import intervals, metrics, significance
from ser_features.fingerprint import fingerprint
from ser_features.records import FoldScore, Json, RunRecord
from ser_features.results import missing
from ser_features.rows import Row
from ser_features.significance import Outcomes

ALPHA = 0.05


def build_rows(
    records: Sequence[RunRecord],
    paths: Sequence[Sequence[Path]] = (),
    *,
    num_resamples: int = 2000,
    seed: int = 0,
) -> list[Row]:
    """Rows of all records, by group, best first, incomplete last, curve points (layers) after.

    ``paths`` is parallel to ``records`` (as in ``results.Loaded``). Two records with the same key
    are a conflict. Deterministic in ``seed``.
    """
    paths = paths or [()] * len(records)
    keys = [record.key for record in records]
    rows: list[Row] = []
    known: list[Outcomes | None] = []
    for record, files in zip(records, paths, strict=True):
        outcomes = None if missing(record) else outcomes_of(record)
        row = _row(record, outcomes, files, keys.count(record.key) > 1)
        if outcomes is not None:
            row = _scored(row, record, outcomes, num_resamples, seed)
        rows.append(row)
        known.append(outcomes)
    return sorted(_ranked(rows, known, seed), key=_order)


def outcomes_of(record: RunRecord) -> Outcomes:
    """The predictions of a complete record as arrays; items ordered by fold, then utterance."""
    folds = list(dict.fromkeys(fold for fold, _ in record.expected))
    seeds = list(dict.fromkeys(seed for _, seed in record.expected))
    of = {
        (s.fold, s.seed): dict(zip(s.test_ids, s.predictions, strict=True)) for s in record.scores
    }
    items = [(i, name) for i, fold in enumerate(folds) for name in sorted(of[fold, seeds[0]])]
    known = sorted({speaker for speaker in record.speakers.values() if speaker is not None})
    index = {speaker: i for i, speaker in enumerate(known)}
    return Outcomes(
        truth=np.array([record.truth[name] for _, name in items], np.int64),
        fold=np.array([i for i, _ in items], np.int64),
        speaker=np.array([index.get(record.speakers.get(n) or "", -1) for _, n in items], np.int64),
        predictions=np.array(
            [[of[folds[i], seed][name] for i, name in items] for seed in seeds], np.int64
        ),
        num_labels=len(record.labels),
    )


def _row(
    record: RunRecord, outcomes: Outcomes | None, paths: Sequence[Path], conflict: bool
) -> Row:
    """The row without scores: what ran, what is missing, what to distrust."""
    absent = missing(record)
    layers = {score.setting.get("layer") for score in record.scores}
    layer = layers.pop() if record.head.startswith("layers") and len(layers) == 1 else None
    marks = [name for name, there in _warnings(record, conflict).items() if there]
    weights = [score.layer_weights for score in record.scores if len(score.layer_weights) > 1]
    one_shape = not absent and len({len(each) for each in weights}) == 1
    return Row(
        **{n: getattr(record, n) for n in _COPIED},
        data=_data(record),
        num_utterances=len(record.truth),
        num_speakers=len({speaker for speaker in record.speakers.values() if speaker is not None}),
        num_folds=len({fold for fold, _ in record.expected}),
        num_seeds=len({seed for _, seed in record.expected}),
        complete=not absent,
        missing=tuple(absent),
        layer=layer if type(layer) is int else None,
        layer_weights=tuple(np.mean(weights, axis=0).tolist()) if one_shape else (),
        fold_scores=tuple(_fold_score(record, score) for score in record.scores),
        marks=tuple(marks),
        remarks=tuple(_remarks(record, absent)),
        cost={**record.cost, "train_seconds": sum(score.seconds for score in record.scores)},
        paths=tuple(str(path) for path in paths),
    )


_COPIED = (
    "key", "corpus", "upstream", "augmentation", "head", "protocol", "labels", "num_rejects",
    "notes", "audit", "config", "provenance", "condition", "strategy",
)  # fmt: skip


def _warnings(record: RunRecord, conflict: bool) -> dict[str, bool]:
    audit = record.audit
    return {
        "leak": bool(audit.get("leaks")),
        "names": bool(audit.get("similar_names")),
        "dev": bool(audit.get("dev_shares_speakers")),
        "rejects": record.num_rejects > 0,
        "incomplete": bool(missing(record)),
        "conflict": conflict,
    }


def _remarks(record: RunRecord, absent: Sequence[tuple[str, int]]) -> list[str]:
    """Sentences of this row: the audit's, then what was heard of domains and what is missing."""
    sentences = record.audit.get("sentences")
    remarks = [str(each) for each in sentences] if isinstance(sentences, list | tuple) else []
    if record.num_rejects:
        remarks.append(f"{record.num_rejects} utterances were rejected and are not scored")
    remarks += domain_remarks(record)
    if absent:
        shown = ", ".join(f"{fold} (seed {seed})" for fold, seed in absent[:4])
        more = f" and {len(absent) - 4} more" if len(absent) > 4 else ""
        remarks.append(f"{len(absent)} of {len(record.expected)} folds missing: {shown}{more}")
    return remarks


def domain_remarks(record: RunRecord) -> list[str]:
    """How well adversarial training's classifier told added from real data; else nothing."""
    curves = [[heard for _, heard in s.domain_curve] for s in record.scores if s.domain_curve]
    if not curves:
        return []
    best = np.mean([max(curve) for curve in curves])
    last = np.mean([curve[-1] for curve in curves])
    return [
        "the domain classifier tells added from real data with a balanced accuracy of "
        f"{100 * best:.1f} % at its best and {100 * last:.1f} % at the end (mean over folds and "
        "seeds; chance is 50 %)"
    ]


def _data(record: RunRecord) -> str:
    """A short name of what was tested; rows of one name are paired (``significance.paired``)."""
    ids = {score.fold: sorted(score.test_ids) for score in record.scores}
    order = dict.fromkeys(fold for fold, _ in record.expected)
    folds = [[fold, ids[fold]] for fold in order if fold in ids]
    truth = {name: record.labels[i] for name, i in record.truth.items()}
    return fingerprint([list(record.labels), truth, folds, dict(record.speakers)])[:12]


def _fold_score(record: RunRecord, score: FoldScore) -> dict[str, Json]:
    truth = [record.truth[name] for name in score.test_ids]
    result = metrics.score(truth, score.predictions, len(record.labels))
    return {
        "fold": score.fold,
        "seed": score.seed,
        "num_test": len(truth),
        "uar": result.uar,
        "wa": result.wa,
        "dev_score": score.dev_score,
        "best_step": score.best_step,
        "setting": dict(score.setting),
        "seconds": score.seconds,
        **({"schedule": [dict(each) for each in score.schedule]} if score.schedule else {}),
        **({"domain_accuracy": score.domain_curve[-1][1]} if score.domain_curve else {}),
    }


def _scored(row: Row, record: RunRecord, outcomes: Outcomes, num_resamples: int, seed: int) -> Row:
    """The row with its scores; ``record`` is complete."""
    estimator = significance.estimator_of(outcomes)
    by_fold: dict[str, list[float]] = {}
    by_seed: dict[int, list[float]] = {}
    for score in row.fold_scores:
        by_fold.setdefault(score["fold"], []).append(score["uar"])
        by_seed.setdefault(score["seed"], []).append(score["uar"])
    truth = np.tile(outcomes.truth, len(outcomes.predictions))
    pooled = metrics.score(truth, outcomes.predictions.ravel(), outcomes.num_labels)
    uar_ci, wa_ci = (
        intervals.interval(outcomes, name, estimator, num_resamples=num_resamples, seed=seed)
        for name in ("uar", "wa")
    )
    scores: dict[str, Any] = {
        name: significance.point(outcomes, name, estimator) for name in significance.METRICS
    }
    return replace(
        row,
        **scores,
        estimator=estimator,
        uar_std=_std([score["uar"] for score in row.fold_scores]),
        uar_std_folds=_std([float(np.mean(values)) for values in by_fold.values()]),
        uar_std_seeds=_std([float(np.mean(values)) for values in by_seed.values()]),
        uar_pooled=significance.point(outcomes, "uar", "pooled"),
        uar_ci=(uar_ci.low, uar_ci.high),
        wa_ci=(wa_ci.low, wa_ci.high),
        ci_unit=uar_ci.unit,
        ci_num_units=uar_ci.num_units,
        per_class_recall=pooled.recall,
        confusion=pooled.confusion,
        late=late_scores(record),
    )


def late_outcomes(record: RunRecord) -> list[Outcomes]:
    """The predictions of each late evaluation that every fold and seed has, in order."""
    known = [dict(score.late) for score in record.scores]
    return [
        outcomes_of(replace(record, scores=tuple(
            replace(score, predictions=late[step])
            for score, late in zip(record.scores, known, strict=True)
        )))
        for step in sorted(set.intersection(*map(set, known)))
    ]  # fmt: skip


def late_scores(record: RunRecord) -> dict[str, float]:
    """Each metric over the late evaluations, as the row's estimator has it: mean and deviation."""
    found = late_outcomes(record)
    late: dict[str, float] = {"evaluations": float(len(found))} if found else {}
    for name in significance.METRICS if found else ():
        values = [significance.point(each, name, significance.estimator_of(each)) for each in found]
        late |= {name: float(np.mean(values)), f"{name}_std": _std(values) or 0.0}
    return late


def _std(values: Sequence[float]) -> float | None:
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def _ranked(rows: Sequence[Row], outcomes: Sequence[Outcomes | None], seed: int) -> list[Row]:
    """The rows with the marks that need the other rows."""
    ranked = list(rows)
    comparable: dict[Any, list[int]] = {}
    for i, row in enumerate(rows):
        if row.complete and "conflict" not in row.marks and row.layer is None:
            comparable.setdefault((row.group, row.data), []).append(i)
    alike = [(key[0], part) for key, all_ in comparable.items() for part in _alike(rows, all_)]
    for group, members in alike:
        largest = max((m for g, m in alike if g == group), key=len)
        if members is not largest:
            same = rows[members[0]].data == rows[largest[0]].data
            other = "with other recordings or parameters of" if same else "on other utterances or"
            what = f"{other} {'its condition' if same else 'folds'}"
            _mark(ranked, members, "data", f"tested {what} than most rows")
        _rank(ranked, outcomes, members, seed)
    return ranked


def _alike(rows: Sequence[Row], members: Sequence[int]) -> list[list[int]]:
    """Rows on the same items by what their test condition was made with (noises, seed).

    Where that is not on record (baselines hear nothing), a row is with the most others.
    """
    parts: dict[str, list[int]] = {}
    for i in members:
        parts.setdefault(_made_with(rows[i]), []).append(i)
    unknown = parts.pop("", [])
    if not parts:
        return [unknown]
    most = max(parts, key=lambda made: (len(parts[made]), made))
    parts[most] = sorted([*parts[most], *unknown])
    return list(parts.values())


def _made_with(row: Row) -> str:
    """The identity of the augmentation under which a row was tested; "" where it is not known."""
    known = row.provenance.get("augmented")
    one = known.get(f"@{row.condition}") if isinstance(known, Mapping) else None
    identity = one.get("identity") if isinstance(one, Mapping) else None
    return "" if identity is None else fingerprint(identity)


def _rank(
    rows: list[Row], outcomes: Sequence[Outcomes | None], members: Sequence[int], seed: int
) -> None:
    """Mark, among rows on the same items, the best and its ties, and what beats no baseline."""
    score = _score_of(rows)
    best = max(members, key=score)
    p_best = _corrected(rows, outcomes, best, [i for i in members if i != best], seed)
    for i, p in p_best.items():
        rows[i] = replace(rows[i], p_best=p)
    _mark(rows, [best, *(i for i, p in p_best.items() if p > ALPHA)], "best")
    baselines = [i for i in members if rows[i].is_baseline]
    if not baselines:
        return
    strongest = max(baselines, key=score)
    tried = [i for i in members if not rows[i].is_baseline]
    p_above = _corrected(rows, outcomes, strongest, tried, seed)
    beaten = [i for i in tried if p_above[i] > ALPHA or score(i) <= score(strongest)]
    name = f"{rows[strongest].upstream} ({rows[strongest].head}, UAR {100 * score(strongest):.1f})"
    _mark(rows, beaten, "baseline", f"not significantly above {name}")


def _corrected(
    rows: Sequence[Row],
    outcomes: Sequence[Outcomes | None],
    reference: int,
    others: Sequence[int],
    seed: int,
) -> dict[int, float]:
    """Holm-corrected p of each of ``others`` against ``reference``; all are complete."""
    estimator = rows[reference].estimator or "pooled"
    known = {i: each for i, each in enumerate(outcomes) if each is not None}
    p = [significance.compare(known[reference], known[i], estimator, seed=seed).p for i in others]
    return dict(zip(others, significance.holm(p), strict=True))


def _score_of(rows: Sequence[Row]) -> Callable[[int], float]:
    return lambda i: rows[i].uar or 0.0


def _mark(rows: list[Row], members: Sequence[int], mark: str, remark: str | None = None) -> None:
    for i in members:
        remarks = (*rows[i].remarks, remark) if remark else rows[i].remarks
        rows[i] = replace(rows[i], marks=(*rows[i].marks, mark), remarks=remarks)


def _order(row: Row) -> tuple[Any, ...]:
    curve = row.layer is not None
    names = (row.upstream, row.augmentation, row.strategy, row.head)
    first = (*names, row.layer) if curve else (not row.complete, -(row.uar or 0.0), *names)
    return (*row.group, curve, first, row.key)
