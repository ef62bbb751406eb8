"""Crossings of corpora: who is on which side, what a swap does, and that nothing is done twice."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fake_upstream import use_fake
from ser_features.errors import UsageError
from ser_features.intervals import difference_interval
from ser_features.leaderboard import outcomes_of
from ser_features.results import load_records
from ser_features.significance import compare, paired, point
from ser_features.studies.crossed import scramble
from ser_features.studies.crossings import subsets, what_swapping_means
from ser_features.studies.outputs import study_document
from ser_features.studies.run import Runner, run_study
from ser_features.studies.spec import Crossing, Evidence, Request, Score, training_of
from ser_features.studies.table import STUDIES
from ser_features.studies.unseen import unseen_blocks
from study_factory import EMOTIONS, four_emotions, manifest_of

SWAP = (("neutral", "sad"), ("happy", "angry"))


@pytest.fixture
def request_(tmp_path: Path) -> Request:
    one = manifest_of(four_emotions(tmp_path / "one"), "one")
    two = manifest_of(four_emotions(tmp_path / "two", seed=7, emotions=EMOTIONS[::-1]), "two")
    return Request((one, two), ("fake",), protocol="kfold:2", steps=3, lrs=(0.01,))


def crossing(request: Request, train: tuple[str, ...], **changes: Any) -> Crossing:
    tests = (*request.corpora, "two-scrambled")
    base = Crossing(
        train, tests, "fake", "superb", training_of(request), "kfold:2", EMOTIONS, 1, swap=SWAP
    )
    return replace(base, **changes)


def run(request: Request, tmp_path: Path, *crossings: Crossing) -> list[dict[str, Any]]:
    from ser_features.extract.progress import Silent

    runner = Runner(request, tmp_path / "store", tmp_path / "results", Silent())
    return [runner.run(each) for each in crossings]


def test_every_corpus_is_tested_on_the_same_whatever_was_trained(
    request_: Request, tmp_path: Path, monkeypatch: Any
) -> None:
    use_fake(monkeypatch)
    trains = [("one",), ("two",), ("one", "two"), ("one", "two-scrambled")]
    found = run(request_, tmp_path, *(crossing(request_, train) for train in trains))
    for test in ("one", "two", "two-scrambled"):
        first = outcomes_of(found[0][test])
        for other in found[1:]:
            assert paired(first, outcomes_of(other[test])), test
    plain, swapped = found[0]["two"], found[0]["two-scrambled"]
    names = dict(zip(range(4), plain.labels, strict=True))
    turned = {"neutral": "sad", "sad": "neutral", "happy": "angry", "angry": "happy"}
    for name, label in plain.truth.items():
        other = swapped.truth[name.replace("two:", "two-scrambled:")]
        assert turned[names[label]] == names[other]
    # the same network heard the same audio, so it said the same
    for a, b in zip(plain.scores, swapped.scores, strict=True):
        assert a.predictions == b.predictions
        assert (
            a.num_train == sum(len(s.test_ids) for s in plain.scores) - len(a.test_ids) - a.num_dev
        )


def test_training_and_dev_sides_are_those_of_the_trained_corpora(
    request_: Request, tmp_path: Path, monkeypatch: Any
) -> None:
    from ser_features.studies.crossed import cross

    use_fake(monkeypatch)
    joint = crossing(request_, ("one", "two-scrambled"))
    runner = Runner(request_, tmp_path / "store", tmp_path / "results", Any)  # type: ignore[arg-type]
    from ser_features.extract.progress import Silent

    runner.progress = Silent()
    corpora = {name: runner._prepared(name, joint) for name in (*joint.train, *joint.tests)}
    mixed = cross(joint, corpora, {})
    assert set(mixed.features.ids) >= {u.id for u in mixed.task.rows}
    for fold in mixed.task.plan.folds:
        trained = {name.partition(":")[0] for name in fold.train}
        assert trained == {"one", "two-scrambled"}
        sides = [set(fold.train), set(fold.dev), set(fold.test)]
        assert sum(map(len, sides)) == len(set.union(*sides))
        # no test utterance of a corpus is heard in training under its other name
        heard = {name.partition(":")[2] for name in (*fold.train, *fold.dev)
                 if not name.startswith("one")}  # fmt: skip
        assert not heard & {n.partition(":")[2] for n in fold.test if n.startswith("two")}


def test_a_second_run_neither_encodes_nor_trains(
    request_: Request, tmp_path: Path, monkeypatch: Any
) -> None:
    loader = use_fake(monkeypatch)
    where = (tmp_path / "store", tmp_path / "results")
    first = run_study(STUDIES["cross-corpus"], request_, *where)
    encoded = sum(sum(fake.batches) for fake in loader.made)  # type: ignore[attr-defined]
    assert encoded == sum(len(m) for m in request_.manifests), "each recording once"
    written = {p: p.stat().st_mtime_ns for p in where[1].rglob("*.json")}
    scores = {r.key: r.scores for r in first.records}
    again = run_study(STUDIES["cross-corpus"], request_, *where)
    assert sum(sum(fake.batches) for fake in loader.made) == encoded  # type: ignore[attr-defined]
    assert {r.key: r.scores for r in again.records} == scores
    assert set(written) == set(where[1].rglob("*.json"))
    # another study over the same audio finds everything too
    outcome = run_study(STUDIES["upstreams"], replace(request_, recipe="quick"), *where)
    lines = study_document(outcome).blocks[-1].lines  # type: ignore[union-attr]
    (last,) = (i for i, line in enumerate(lines) if line.startswith("in brackets"))
    remarks = lines[last + 1 :]  # behind the legend
    assert remarks
    assert all(each.startswith(("one: ", "two: ")) for each in remarks), remarks
    assert sum(sum(fake.batches) for fake in loader.made) == encoded  # type: ignore[attr-defined]
    assert not load_records([where[1]]).problems


def test_the_matrix_is_what_the_records_say(
    request_: Request, tmp_path: Path, monkeypatch: Any
) -> None:
    use_fake(monkeypatch)
    outcome = run_study(STUDIES["cross-corpus"], request_, tmp_path / "s", tmp_path / "r")
    tables = {table.spec.name: table for table in outcome.tables}
    absolute, relative = tables["cross-fake-uar"], tables["cross-fake-relative"]
    assert absolute.spec.rows == ("one", "two", "one + two")
    for test in ("one", "two"):
        base = absolute(test, test)
        assert base is not None
        assert base.low is not None
        assert base.high is not None
        assert base.low <= base.value <= base.high
        for row in absolute.spec.rows:
            cell = relative(row, test)
            assert cell is not None
            assert cell.difference == pytest.approx(cell.value - base.value)
    assert len(outcome.plan.meanings) == 2
    (summary,) = outcome.more
    rows = {row[1]: row for row in summary.rows}
    assert set(rows) == {"one", "two"}, "a training on every corpus has nothing left out"
    cell = absolute("one", "two")
    assert cell is not None
    assert cell.low is not None
    assert cell.high is not None
    of_one = f"{100 * cell.value:.1f} ({100 * cell.low:.1f} to {100 * cell.high:.1f})"
    assert rows["one"][:4] == ("fake", "one", "two", of_one)
    assert any("not EmoBox's cross-corpus accuracy" in note for note in outcome.plan.notes)


def test_a_mean_counts_every_unseen_corpus_once(
    request_: Request, tmp_path: Path, monkeypatch: Any
) -> None:
    use_fake(monkeypatch)
    one = crossing(request_, ("one",))
    (records,) = run(request_, tmp_path, one)
    evidence = Evidence({(one, name): records[name] for name in one.tests}, lambda _: {})
    (grid,) = unseen_blocks([one], one.tests, evidence)
    ((upstream, trained, over, uar, wa),) = grid.rows
    assert (upstream, trained, over) == ("fake", "one", "two, two-scrambled")
    for text, metric in ((uar, "uar"), (wa, "wa")):
        each = [point(outcomes_of(records[n]), metric, "folds") for n in one.tests[1:]]
        assert float(text.split()[0]) == pytest.approx(100 * sum(each) / 2, abs=0.051)


def test_folds_must_match(request_: Request) -> None:
    one, two = request_.manifests
    fewer = two.without({u.id for u in two.utterances if u.speaker == "s3"})
    uneven = replace(request_, protocol="loso", manifests=(one, fewer))
    with pytest.raises(UsageError, match="need as many folds each"):
        STUDIES["cross-corpus"].plan(uneven)
    with pytest.raises(UsageError, match="at least 2 corpora"):
        STUDIES["cross-corpus"].plan(replace(request_, manifests=request_.manifests[:1]))


def test_scramble_swaps_and_nothing_else(request_: Request) -> None:
    plain = request_.manifests[0]
    swapped = scramble(plain, SWAP)
    assert swapped.corpus == "one-scrambled"
    assert scramble(swapped, SWAP).utterances == plain.utterances
    assert all(
        a.label != b.label for a, b in zip(plain.utterances, swapped.utterances, strict=True)
    )


def test_subsets() -> None:
    assert len(subsets(["a", "b", "c"])) == 7


@pytest.mark.parametrize(
    ("difference", "low", "p", "said"),
    [(-0.2, -0.3, 0.001, "features that the corpora share"),
     (0.01, -0.02, 0.9, "as paper 3 found"),
     (-0.1, -0.3, 0.4, "too wide to say")],
)  # fmt: skip
def test_words_follow_the_numbers(difference: float, low: float, p: float, said: str) -> None:
    score = Score(0.5, 0.4, 0.6, p, difference, low, difference + 0.1)
    say = what_swapping_means("t", "two", ("one", "two"), "fake")
    (sentence,) = say(lambda table, row, column: score)
    assert said in sentence
    assert sentence.startswith("fake: with two's labels swapped")
    assert not say(lambda table, row, column: None)


def test_difference_interval_holds_the_difference() -> None:
    from record_factory import make_record

    good, bad = (outcomes_of(make_record(accuracy=a, draw=d)) for a, d in ((0.9, 1), (0.5, 2)))
    span = difference_interval(good, bad, "uar", "folds")
    difference = point(good, "uar", "folds") - point(bad, "uar", "folds")
    assert span.low < difference < span.high
    assert span.low > 0
    assert compare(good, bad, "folds").difference == pytest.approx(difference)
    same = difference_interval(good, good)
    assert (same.low, same.high) == (0, 0)
    with pytest.raises(ValueError, match="same utterances"):
        difference_interval(good, replace(bad, truth=np.roll(bad.truth, 1)))
