import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from record_factory import make_record
from ser_features import metrics
from ser_features.leaderboard import build_rows, outcomes_of
from ser_features.rows import MARKS, Row, to_json
from ser_features.significance import compare, holm

CONTRACT = {
    "corpus", "upstream", "augmentation", "head", "protocol", "labels", "num_utterances",
    "num_folds", "num_seeds", "complete", "uar", "uar_std", "wa", "macro_f1", "weighted_f1",
}  # fmt: skip


def rows_of(*records, **settings):
    return build_rows(records, num_resamples=settings.pop("num_resamples", 200), **settings)


def by_upstream(*records, **settings):
    return {row.upstream: row for row in rows_of(*records, **settings)}


def test_scores_of_a_row():
    record = make_record(accuracy=0.7, seeds=(0, 1, 2))
    (row,) = rows_of(record)
    scores = np.zeros((10, 3))
    for i, score in enumerate(record.scores):
        truth = [record.truth[name] for name in score.test_ids]
        scores[i // 3, i % 3] = metrics.score(truth, score.predictions, 4).uar
    assert row.estimator == "folds"
    assert row.uar == pytest.approx(scores.mean())
    assert row.uar_std == pytest.approx(scores.std(ddof=1))
    assert row.uar_std_folds == pytest.approx(scores.mean(axis=1).std(ddof=1))
    assert row.uar_std_seeds == pytest.approx(scores.mean(axis=0).std(ddof=1))
    assert row.uar_ci[0] < row.uar < row.uar_ci[1]
    assert (row.ci_unit, row.ci_num_units) == ("speakers", 10)
    assert np.sum(row.confusion) == 240 * 3
    assert (row.num_utterances, row.num_speakers, row.num_folds, row.num_seeds) == (240, 10, 10, 3)
    assert row.layer_weights == pytest.approx(
        np.mean([score.layer_weights for score in record.scores], axis=0)
    )
    assert row.cost["train_seconds"] == pytest.approx(45)


def without_label(record, fold, label):
    """The record with one label gone from one test fold."""
    gone = {
        n for s in record.scores if s.fold == fold for n in s.test_ids if record.truth[n] == label
    }
    scores = []
    for score in record.scores:
        kept = [
            (n, p) for n, p in zip(score.test_ids, score.predictions, strict=True) if n not in gone
        ]
        ids, predictions = zip(*kept, strict=True)
        scores.append(replace(score, test_ids=ids, predictions=predictions))
    truth = {name: i for name, i in record.truth.items() if name not in gone}
    return replace(record, truth=truth, scores=tuple(scores))


def test_pooled_where_a_fold_lacks_a_label():
    record = without_label(make_record(accuracy=0.6, seeds=(0, 1)), "fold03", 2)
    (row,) = rows_of(record)
    outcomes = outcomes_of(record)
    pooled = [metrics.score(outcomes.truth, p, 4).uar for p in outcomes.predictions]
    assert row.estimator == "pooled"
    assert row.uar == row.uar_pooled == pytest.approx(np.mean(pooled))
    assert row.uar_ci[0] < row.uar < row.uar_ci[1]


def test_one_fold_and_one_seed_have_no_deviation():
    (row,) = rows_of(make_record(num_folds=1))
    assert (row.uar_std, row.uar_std_folds, row.uar_std_seeds) == (None, None, None)


def test_an_incomplete_row_has_no_score_but_says_what_is_missing():
    record = make_record(seeds=(0, 1))
    (row,) = rows_of(replace(record, scores=record.scores[:-1]))
    numbers = [name for name in Row.__dataclass_fields__ if name.startswith(("uar", "wa", "macro"))]
    assert {name: getattr(row, name) for name in numbers} == dict.fromkeys(numbers)
    assert (row.weighted_f1, row.confusion, row.per_class_recall) == (None, None, None)
    assert row.layer_weights == ()
    assert row.missing == (("fold09", 1),)
    assert row.marks == ("incomplete",)
    assert row.remarks == ("1 of 20 folds missing: fold09 (seed 1)",)


def test_a_row_says_what_the_domain_classifier_heard():
    record = make_record()
    first, *rest = record.scores
    heard = [replace(first, domain_curve=((10, 0.9), (20, 0.5)))]
    heard += [replace(one, domain_curve=((10, 0.7), (20, 0.6))) for one in rest]
    (row,) = rows_of(replace(record, scores=tuple(heard)))
    (remark,) = (one for one in row.remarks if "domain" in one)
    assert "of 72.0 % at its best and 59.0 % at the end" in remark
    assert not any("domain" in one for one in rows_of(record)[0].remarks)


def test_late_scores_are_of_the_evaluations_that_every_run_has():
    """The mean over runs at each step, then mean and deviation over steps."""
    record = make_record(per_label=2, num_speakers=2)
    scores = []
    for number, one in enumerate(record.scores):
        truth = tuple(record.truth[name] for name in one.test_ids)
        wrong = tuple((label + 1) % 4 for label in truth)
        late = ((90, truth if number else wrong), (100, truth), (110, wrong))
        scores.append(replace(one, late=late[: 3 - number]))  # the last one has no third
    (row,) = rows_of(replace(record, scores=tuple(scores)))
    assert row.late["evaluations"] == 2
    assert row.late["uar"] == pytest.approx((0.5 + 1) / 2)
    assert row.late["uar_std"] == pytest.approx(np.std([0.5, 1], ddof=1))


def test_late_scores_are_pooled_where_folds_lack_labels():
    """A mean over folds would count a fold of one label as much as one of all."""
    record = make_record(accuracy=0.6, num_speakers=4)
    one_label = min(record.scores, key=lambda score: score.seed).fold
    scores, gone = [], set()
    for score in record.scores:
        kept = [n for n in score.test_ids if score.fold != one_label or record.truth[n] == 0]
        gone |= set(score.test_ids) - set(kept)
        of = dict(zip(score.test_ids, score.predictions, strict=True))
        said = tuple(of[name] for name in kept)
        scores.append(
            replace(score, test_ids=tuple(kept), predictions=said, late=((9, said), (10, said)))
        )
    truth = {name: label for name, label in record.truth.items() if name not in gone}
    speakers = {name: one for name, one in record.speakers.items() if name not in gone}
    (row,) = rows_of(replace(record, scores=tuple(scores), truth=truth, speakers=speakers))
    assert row.estimator == "pooled"
    assert row.late["uar"] == pytest.approx(row.uar)
    assert row.late["uar_std"] == pytest.approx(0)


def test_planted_tie_shares_the_mark_and_planted_difference_does_not():
    rows = by_upstream(
        make_record("best", 0.9, draw=1),
        make_record("tie", 0.9, draw=2),
        make_record("worse", 0.5, draw=3),
    )
    assert {name for name, row in rows.items() if "best" in row.marks} == {"best", "tie"}
    assert rows["worse"].p_best < 0.01


def test_differences_from_the_best_are_corrected_as_holm_says():
    skills = {"best": 0.9, "a": 0.88, "b": 0.84, "c": 0.8}
    records = [make_record(name, skill, draw=i) for i, (name, skill) in enumerate(skills.items())]
    rows = by_upstream(*records)
    best = max(rows, key=lambda name: rows[name].uar)
    known = {record.upstream: outcomes_of(record) for record in records}
    others = [name for name in skills if name != best]
    plain = [compare(known[best], known[name], "folds").p for name in others]
    assert [rows[name].p_best for name in others] == pytest.approx(holm(plain))
    assert holm(plain) != plain


def test_many_rows_with_ten_speakers_are_still_told_apart():
    """A swap test within ten speakers could not, once corrected for forty rows."""
    records = [make_record(f"u{i}", 0.5, draw=i) for i in range(40)]
    rows = by_upstream(make_record("good", 0.9, draw=99), *records)
    assert [name for name, row in rows.items() if "best" in row.marks] == ["good"]


def test_rows_that_beat_no_baseline_are_marked():
    rows = by_upstream(
        make_record("good", 0.9, draw=1),
        make_record("poor", 0.52, draw=2),
        make_record("good@random:0", 0.5, draw=3),
        make_record("majority", 0.25, draw=4, head="baseline", num_layers=0),
    )
    assert {name for name, row in rows.items() if "baseline" in row.marks} == {"poor"}
    assert rows["poor"].remarks[0].startswith("not significantly above good@random:0 (superb, UAR")


def test_groups_are_ranked_apart():
    rows = rows_of(
        make_record("a", 0.9), make_record("b", 0.5, corpus="urdu"),
        make_record("c", 0.5, protocol="kfold:5"), make_record("d", 0.6, labels=("x", "y")),
    )  # fmt: skip
    assert all("best" in row.marks for row in rows)
    assert [row.corpus for row in rows] == ["emodb", "emodb", "emodb", "urdu"]


def test_other_utterances_are_not_compared():
    rows = by_upstream(
        make_record("a", 0.9), make_record("b", 0.8, draw=1),
        make_record("c", 0.95, draw=2, per_label=5),
    )  # fmt: skip
    assert "data" in rows["c"].marks
    assert "data" not in rows["a"].marks
    assert "best" in rows["a"].marks


@pytest.mark.parametrize("known", [True, False])
def test_conditions_of_one_name_with_other_noises_are_not_compared(known):
    """A row of which it is not known, as of an older record or a baseline, is with the most."""

    def heard(noise: str) -> dict[str, object]:
        return {"augmented": {"@noise-10db": {"identity": {"seed": 0, "folder": noise}}}}

    same, other = heard("one"), heard("two")
    provenances = [same, same, other, {}] if known else [{}, {}, {}, {}]
    how = {"condition": "noise-10db"}
    records = [
        make_record(name, 0.9 - 0.1 * i, draw=i, provenance=provenance, **how)
        for i, (name, provenance) in enumerate(zip("abcd", provenances, strict=True))
    ]
    for order in (records, records[::-1]):
        rows = by_upstream(*order)
        assert [name for name in "abcd" if "data" in rows[name].marks] == (["c"] if known else [])
        assert (rows["c"].p_best is None) == known
        assert rows["d"].p_best is not None
    if known:
        assert (
            "tested with other recordings or parameters of its condition" in rows["c"].remarks[-1]
        )
    clean = by_upstream(*(replace(one, condition="clean") for one in records))
    assert not any("data" in row.marks for row in clean.values())


def test_order_is_best_first_incomplete_then_curves_last():
    part = make_record("part", 0.99)
    rows = rows_of(
        make_record("low", 0.4), replace(part, scores=part.scores[:1]), make_record("high", 0.9),
        *(make_record("high", 0.9, head="layers", layer=i, num_layers=0) for i in (2, 10, 1)),
    )  # fmt: skip
    assert [row.upstream for row in rows[:3]] == ["high", "low", "part"]
    assert [row.layer for row in rows[3:]] == [1, 2, 10]
    assert all("best" not in row.marks for row in rows[3:])


def test_conflicts_are_shown_not_ranked():
    rows = rows_of(make_record(draw=1), make_record(draw=2), make_record("other", 0.3, draw=3))
    twins = [row for row in rows if row.upstream == "whisper-base"]
    assert len(twins) == 2
    assert all(row.marks == ("conflict",) for row in twins)
    assert twins[0].uar != twins[1].uar


def test_marks_of_a_doubtful_record():
    audit = {"leaks": ["speakers"], "similar_names": True, "dev_shares_speakers": True}
    audit["sentences"] = ["10 of 10 test speakers are in train (fold 1)"]
    (row,) = rows_of(make_record(audit=audit, num_rejects=3, notes=("a note",)))
    assert set(row.marks) == {"leak", "names", "dev", "rejects", "best"}
    assert row.remarks[0] == "10 of 10 test speakers are in train (fold 1)"
    assert "3 utterances were rejected" in row.remarks[1]
    assert set(row.marks) <= MARKS.keys()


@pytest.mark.parametrize("audit", [{"sentences": 5}, {"leaks": None}, {"shared": "x"}])
def test_a_strange_audit_is_no_crash(audit):
    assert rows_of(make_record(audit=audit))


def test_unknown_speakers_say_so():
    (row,) = rows_of(make_record(known_speakers=False))
    assert (row.ci_unit, row.ci_num_units, row.num_speakers) == ("utterances", 240, 0)


def test_json_contract():
    found = to_json(rows_of(make_record(), make_record("b", draw=1)))
    assert found["schema"] == 1
    assert found.keys() == {"schema", "rows"}
    assert found["rows"][0].keys() >= CONTRACT
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert 0 <= found["rows"][0]["uar"] <= 1


def test_same_rows_again_whatever_the_order():
    records = [make_record(f"u{i}", 0.6, draw=i) for i in range(4)]
    assert rows_of(*records) == rows_of(*records[::-1])


def test_paths_follow_their_rows():
    records = [make_record("low", 0.4), make_record("high", 0.9)]
    rows = rows_of(*records, paths=[(Path("low.json"),), (Path("high.json"),)])
    assert [row.paths for row in rows] == [("high.json",), ("low.json",)]


def test_nothing_is_no_rows():
    assert build_rows([]) == []
    assert to_json([]) == {"schema": 1, "rows": []}


@pytest.mark.parametrize("difference", ["speakers", "order of folds"])
def test_rows_that_cannot_be_paired_are_not_compared(difference: str) -> None:
    first = make_record("a", num_speakers=4, per_label=2)
    known = difference != "speakers"
    second = make_record("b", num_speakers=4, per_label=2, known_speakers=known)
    if known:
        second = replace(second, expected=second.expected[::-1])
    rows = build_rows([first, second], num_resamples=20)
    assert len({row.data for row in rows}) == 2
    assert sum("data" in row.marks for row in rows) == 1
