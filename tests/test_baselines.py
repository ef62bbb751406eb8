import json

import numpy as np
import pytest

from ser_features import metrics
from ser_features.baselines import BASELINES, Facts, baseline_records, baseline_scores
from ser_features.errors import UsageError
from ser_features.leaderboard import build_rows
from ser_features.records import Fold
from ser_features.results import load_records, save_record


def make(truth, speakers, durations=None):
    names = [f"u{i}" for i in range(len(truth))]
    durations = durations or [1.0] * len(names)
    tables = (dict(zip(names, column, strict=True)) for column in (truth, speakers, durations))
    return names, Facts(("angry", "sad", "neutral"), *tables)


def test_majority_and_its_tie():
    names, facts = make([1, 1, 0, 0, 2], "abcde")
    fold = Fold("f", tuple(names[:2]), tuple(names[2:4]), tuple(names[4:]))
    (score,) = baseline_scores("majority", [fold], facts)
    assert score.predictions == (0,)  # two of each in train and dev: the first in label order
    assert (score.num_train, score.num_dev, score.seed) == (4, 0, 0)


def test_speaker_majority_knows_speakers_and_falls_back():
    names, facts = make([1, 1, 0, 2, 2, 2, 0, 1, 2], [*"aaabbb", "a", "x", None])
    fold = Fold("f", tuple(names[:6]), (), tuple(names[6:]))
    (score,) = baseline_scores("speaker-majority", [fold], facts)
    assert score.predictions == (1, 2, 2)  # a says 1 mostly; unseen and unknown: 2 overall


def test_unknown_speakers_are_not_one_speaker():
    names, facts = make([1, 1, 1, 0, 0, 0, 0, 2], [None, None, None, *"abcd", None])
    fold = Fold("f", tuple(names[:7]), (), tuple(names[7:]))
    assert baseline_scores("speaker-majority", [fold], facts)[0].predictions == (0,)


def test_duration_learns_length_only():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 200).tolist()
    names, facts = make(truth, ["s"] * 200, [t * 2.0 + rng.random() for t in truth])
    fold = Fold("f", tuple(names[:150]), (), tuple(names[150:]))
    assert baseline_scores("duration", [fold], facts)[0].predictions == tuple(truth[150:])
    _, noise = make(truth, ["s"] * 200, rng.random(200).tolist())
    predictions = baseline_scores("duration", [fold], noise)[0].predictions
    assert metrics.score(truth[150:], predictions, 3).uar < 0.55


def test_records_become_rows_and_files(tmp_path):
    names, facts = make([0, 1, 2] * 8, [s for s in "abcd" for _ in range(6)])
    folds = [
        Fold(s, tuple(n for n in names if facts.speakers[n] != s), (),
             tuple(n for n in names if facts.speakers[n] == s))
        for s in "abcd"
    ]  # fmt: skip
    records = baseline_records("toy", "loso", folds, facts, config={"labels": 1}, num_rejects=2)
    for record in records:
        save_record(tmp_path, record)
    assert not load_records([tmp_path]).problems
    rows = build_rows(records, num_resamples=50)
    assert {row.upstream for row in rows} == set(BASELINES)
    assert {row.head for row in rows} == {"baseline"}
    assert all(row.is_baseline and row.complete and "baseline" not in row.marks for row in rows)
    assert next(r for r in rows if r.upstream == "majority").uar == pytest.approx(1 / 3)


def test_keys_follow_the_data():
    names, facts = make([0, 1, 2] * 4, ["a", "b"] * 6)
    fold = Fold("f", tuple(names[:6]), (), tuple(names[6:]))
    _, other = make([0, 1, 2] * 4, ["b", "a"] * 6)
    keys = [r.key for f in (facts, facts, other) for r in baseline_records("t", "x", [fold], f)]
    assert keys[:3] == keys[3:6]
    assert len(set(keys)) == 6


def test_unknown_baseline():
    with pytest.raises(UsageError, match="did you mean 'majority'"):
        baseline_scores("majorty", [], Facts((), {}, {}, {}))


def test_urdu_official_fold_is_95_without_listening(shared):
    folder = shared / "reference" / "emobox" / "urdu" / "fold_1"
    sides = {
        side: [
            json.loads(line)
            for line in (folder / f"urdu_{side}_fold_1.jsonl").read_text().splitlines()
        ]
        for side in ("train", "test")
    }
    labels = ("A", "H", "N", "S")
    every = [*sides["train"], *sides["test"]]
    facts = Facts(
        labels,
        {u["key"]: labels.index(u["emo"]) for u in every},
        {u["key"]: u["key"].split("-")[1].split("_")[0] for u in every},
        {u["key"]: u["length"] for u in every},
    )
    fold = Fold(
        "1", *(tuple(u["key"] for u in each) for each in (sides["train"], [], sides["test"]))
    )
    uar = {
        row.upstream: row.uar
        for row in build_rows(baseline_records("urdu", "emobox", [fold], facts))
    }
    assert uar["speaker-majority"] == pytest.approx(0.950, abs=0.0005)
    assert uar["majority"] == pytest.approx(0.25)
    assert uar["duration"] < 0.6
