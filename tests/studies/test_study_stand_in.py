"""The study of cache-side forms: its numbers on made-up predictions, and a run of all of it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from fake_upstream import use_fake
from ser_features.errors import UsageError
from ser_features.extract.pipeline import Options, extract_sets
from ser_features.report.document import as_markdown
from ser_features.significance import Outcomes
from ser_features.store.reader import open_feature_set
from ser_features.studies.agreement import (
    agreement,
    compare_forms,
    jackknife,
    rank_correlation,
)
from ser_features.studies.joined import distance, whole_pairs
from ser_features.studies.outputs import study_csv, study_document, study_json
from ser_features.studies.run import run_study
from ser_features.studies.spec import Request
from ser_features.studies.table import STUDIES
from study_factory import four_emotions, manifest_of

STUDY = STUDIES["stand-in"]
SHAPES = st.tuples(st.integers(2, 4), st.integers(1, 12))
RUNS = SHAPES.flatmap(lambda s: st.tuples(*[arrays(np.int64, s, elements=st.integers(0, 3))] * 2))


@given(RUNS)
def test_agreement_is_a_share_of_pairs_of_runs(runs: Any) -> None:
    first, second = runs
    found = agreement(first, second)
    assert ((found >= 0) & (found <= 1)).all()
    np.testing.assert_allclose(found, agreement(second, first))
    for n in range(first.shape[1]):
        same = [a == b for i, a in enumerate(first[:, n]) for j, b in enumerate(second[:, n])
                if i != j]  # fmt: skip
        assert found[n] == pytest.approx(sum(same) / len(same))


@given(RUNS)
def test_equal_predictions_agree_always(runs: Any) -> None:
    one = np.repeat(runs[0][:1], len(runs[0]), axis=0)
    assert (agreement(one, one) == 1).all()
    assert (agreement(one, one + 1) == 0).all()
    assert (agreement(runs[0], runs[0] + 4) == 0).all(), "none of the labels is in both"


def outcomes(predictions: Any, speaker: Any = None) -> Outcomes:
    count = predictions.shape[1]
    speaker = np.arange(count) % 5 if speaker is None else speaker
    return Outcomes(np.arange(count) % 4, np.zeros(count, np.int64), speaker, predictions, 4)


def test_forms_that_differ_by_chance_only_reach_the_ceiling() -> None:
    rng = np.random.default_rng(0)
    truth = np.arange(4000) % 4

    def runs(bias: float) -> Any:
        noisy = np.where(rng.random((3, 4000)) < 0.8, truth, rng.integers(0, 4, (3, 4000)))
        return np.where(rng.random(4000) < bias, (truth + 1) % 4, noisy)

    alike = compare_forms(outcomes(runs(0)), outcomes(runs(0)))
    assert alike.gap_low < 0 < alike.gap_high
    assert abs(alike.gap) < 0.02
    other = compare_forms(outcomes(runs(0)), outcomes(runs(0.3)))
    assert other.gap == pytest.approx(other.ceiling - other.across)
    assert other.gap_low > 0.1
    itself = compare_forms(outcomes(runs(0)[:1].repeat(2, 0)), outcomes(runs(0)[:1].repeat(2, 0)))
    assert itself.first == itself.second == 1


def test_what_cannot_be_compared_is_refused() -> None:
    one = np.zeros((2, 8), np.int64)
    with pytest.raises(ValueError, match="two at least"):
        agreement(one[:1], one[:1])
    with pytest.raises(ValueError, match="as many runs"):
        agreement(one, np.zeros((3, 8), np.int64))
    with pytest.raises(ValueError, match="same utterances"):
        compare_forms(outcomes(one), outcomes(one, np.zeros(8, np.int64)))


def test_jackknife_of_single_values_is_students_interval() -> None:
    values = np.random.default_rng(1).random(12)
    expected = stats.t.interval(0.95, 11, values.mean(), stats.sem(values))
    np.testing.assert_allclose(jackknife(values, np.arange(12)), expected)
    assert jackknife(values, np.zeros(12, int)) == pytest.approx((values.mean(),) * 2)
    narrow, wide = (np.ptp(jackknife(np.repeat(values, 9), u)) for u in
                    (np.arange(108), np.repeat(np.arange(12), 9)))  # fmt: skip
    assert wide > 2 * narrow, "utterances of one speaker are not independent"


def test_rank_correlation() -> None:
    rising = np.array([1.0, 2.0, 5.0])
    assert rank_correlation(rising, rising**3) == pytest.approx(1)
    assert rank_correlation(rising, -rising) == pytest.approx(-1)
    assert rank_correlation(rising[:2], rising[:2]) is None
    assert rank_correlation(rising, 0 * rising) is None


@pytest.fixture
def corpus(tmp_path: Path) -> Any:
    return manifest_of(four_emotions(tmp_path / "c", speakers=4), "made")


def pasted(corpus: Any, store: Path, text: str) -> Any:
    reports = extract_sets(corpus, "fake", store, Options(augment=("clean", text)))
    return [open_feature_set(store, report.spec) for report in reports]


def test_distance_is_the_frames_at_the_joint(corpus: Any, tmp_path: Path, monkeypatch: Any) -> None:
    use_fake(monkeypatch)
    clean, whole = pasted(corpus, tmp_path / "s", "copypaste-se")
    counts = dict(zip(clean.ids, clean.num_frames.tolist(), strict=True))
    pairs = whole_pairs(whole, counts)
    assert set(pairs) == set(clean.ids)
    assert all(name != partner for name, partner in pairs.items())
    found = distance(clean, [whole])
    assert found is not None
    assert found.relative.shape == (len(clean.ids), 3)
    assert found.left_out == 0
    name, partner = next(iter(pairs.items()))
    own, other = clean.pooled("mean", [name, partner]).astype(float)
    a, b = counts[name], counts[partner]
    off = whole.pooled("mean", [name])[0] - (a * own + b * other) / (a + b)
    relative = np.sqrt((off**2).mean(1) / (whole.pooled("mean", [name])[0] ** 2).mean(1))
    np.testing.assert_allclose(found.relative[whole.ids.index(name)], relative, rtol=1e-4)
    assert (found.relative.max(axis=0) < 0.02).all()
    assert (found.change < 0.5).all(), "one frame of about eighty, and the ends when resampled"
    assert found.series("fake").points[2][1] == pytest.approx(float(found.median[2]))


def test_cropped_copies_are_left_out(corpus: Any, tmp_path: Path, monkeypatch: Any) -> None:
    use_fake(monkeypatch)
    clean, cut = pasted(corpus, tmp_path / "s", "copypaste-se:crop=0.2")
    _, whole = pasted(corpus, tmp_path / "s", "copypaste-n")
    assert distance(clean, [cut]) is None
    both = distance(clean, [cut, whole])
    assert both is not None
    assert both.left_out == len(cut.ids)


@pytest.mark.parametrize(("head", "pairs"), [("superb", 4), ("mlp", 6)])
def test_a_run(head: str, pairs: int, corpus: Any, tmp_path: Path, monkeypatch: Any) -> None:
    use_fake(monkeypatch, dim=8)
    request = Request((corpus,), ("fake",), head=head, steps=2, seeds=2, copies=1, lrs=(1e-3,))
    outcome = run_study(STUDY, request, tmp_path / "s", tmp_path / "r")
    uar, gain, difference = outcome.tables
    assert len(uar.spec.rows) == pairs
    assert uar.spec.columns == gain.spec.columns == ("none", "waveform", "cache")
    assert len(outcome.plan.trials) == 1 + 4 + pairs, "none and four waveform forms, trained once"
    row = "fake · copypaste-se"
    cells = uar.cells
    assert gain.cells[row, "cache"].difference == pytest.approx(
        cells[row, "cache"].value - cells[row, "none"].value
    )
    assert difference.cells[row, "cache"].difference == pytest.approx(
        cells[row, "cache"].value - cells[row, "waveform"].value
    )
    said = {record.augmentation for record in outcome.records}
    assert {"copypaste-se 80%", "copypaste-se:share=0.8", "specmask 100%"} <= said
    words = as_markdown(study_document(outcome))
    assert "Utterances predicted alike" in words
    assert "| fake · copypaste-n+se |" in words
    assert [f.name for f in study_document(outcome).figures] == ["gain-made", "distance-made"]
    assert '"RMS difference / RMS, median %"' in study_json(outcome)
    assert len(study_csv(outcome).splitlines()) == 1 + 8 * pairs


def test_one_run_is_refused(corpus: Any) -> None:
    with pytest.raises(UsageError, match="--seeds 2"):
        STUDY.plan(Request((corpus,), ("fake",), seeds=1))


def test_without_neutral_there_is_no_n_copypaste(corpus: Any) -> None:
    request = Request((corpus,), ("fake",), labels=("angry", "sad"))
    (rows, *_) = (table.rows for table in STUDY.plan(request).tables)
    assert rows == ("fake · copypaste-se", "fake · specmask ~ feature-mask")
