import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from outcome_factory import outcomes
from ser_features import metrics, significance
from ser_features.significance import (
    METRICS,
    Outcomes,
    compare,
    estimator_of,
    holm,
    point,
    scores,
)


@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40
    )
)
def test_point_equals_metrics(items):
    """Pooled: one score. Folds: the mean over folds that have utterances."""
    fold, truth, predictions = map(np.array, zip(*items, strict=True))
    fold = np.unique(fold, return_inverse=True)[1]
    seen = Outcomes(truth, fold, np.full(len(truth), -1), predictions[None], 4)
    pooled = metrics.score(truth, predictions, 4)
    folds = [metrics.score(truth[fold == f], predictions[fold == f], 4) for f in np.unique(fold)]
    for name in METRICS:
        assert point(seen, name) == pytest.approx(getattr(pooled, name))
        mean = np.mean([getattr(each, name) for each in folds])
        assert point(seen, name, "folds") == pytest.approx(mean)


def test_unknown_metric_is_an_error():
    with pytest.raises(ValueError, match="unknown metric 'ua'; known: uar, wa"):
        scores(np.ones((1, 2, 2)), "ua")


def test_estimator_needs_every_label_in_every_fold():
    rng = np.random.default_rng(0)
    whole = outcomes(rng, [0.5] * 4)
    assert estimator_of(whole) == "folds"
    keep = ~((whole.fold == 1) & (whole.truth == 2))
    lacking = Outcomes(
        whole.truth[keep], whole.fold[keep], whole.speaker[keep], whole.predictions[:, keep], 4
    )
    assert estimator_of(lacking) == "pooled"
    unused = Outcomes(whole.truth, whole.fold, whole.speaker, whole.predictions, 5)
    assert estimator_of(unused) == "folds"


def test_one_speaker_falls_back_to_utterances():
    one = outcomes(np.random.default_rng(0), [0.7])
    assert compare(one, one).unit == "utterances"


def test_identical_systems_are_equal():
    one = outcomes(np.random.default_rng(0), [0.7] * 10)
    assert (compare(one, one).p, compare(one, one).difference) == (1.0, 0.0)


@pytest.mark.parametrize("num_speakers", [6, 10, 40])
def test_planted_difference_and_planted_tie(num_speakers):
    rng = np.random.default_rng(3)
    good, bad = outcomes(rng, [0.9] * num_speakers), outcomes(rng, [0.4] * num_speakers)
    tie = outcomes(rng, [0.9] * num_speakers)
    found = compare(good, bad, "folds")
    assert found.difference == pytest.approx(point(good, "uar", "folds") - point(bad))
    assert found.p < 0.002
    assert found.test == ("permutation" if num_speakers >= 20 else "jackknife")
    assert compare(good, tie, "folds").p > 0.05
    assert compare(bad, good, "folds").p == pytest.approx(found.p)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("num_speakers", [8, 40])
def test_the_metric_that_was_asked_for_is_tested(num_speakers, metric):
    rng = np.random.default_rng(3)
    good, bad = outcomes(rng, [0.9] * num_speakers), outcomes(rng, [0.5] * num_speakers)
    tie = outcomes(rng, [0.9] * num_speakers)
    for estimator in ("folds", "pooled"):
        found = compare(good, bad, estimator, metric)
        expected = point(good, metric, estimator) - point(bad, metric, estimator)
        assert found.difference == pytest.approx(expected)
        assert found.p < 0.002
        assert compare(bad, good, estimator, metric).p == pytest.approx(found.p)
        assert compare(good, tie, estimator, metric).p > 0.05
        assert compare(good, good, estimator, metric).test == "none needed"


def test_a_score_may_differ_where_another_is_equal():
    """Hits lost in one label, as many won in another: the same WA, another UAR."""
    truth = np.tile(np.array([0] * 9 + [1] * 3), 12)
    place, speaker = np.tile(np.arange(12), 12), np.repeat(np.arange(12), 12)
    one, other = truth.copy(), truth.copy()
    one[truth == 1] = 0
    other[(truth == 0) & (place >= 6)] = 1
    first, second = (Outcomes(truth, truth * 0, speaker, p[None], 2) for p in (one, other))
    wa = compare(first, second, metric="wa")
    assert (wa.difference, wa.p) == (pytest.approx(0, abs=1e-12), 1.0)
    assert compare(first, second, metric="uar").p < 0.001


def test_leaving_out_equals_the_jackknife_of_a_recall():
    """Two ways to one standard error, where the score is a sum; like utterances are one pattern."""
    rng = np.random.default_rng(8)
    one, other = outcomes(rng, [0.8] * 7, num_seeds=2), outcomes(rng, [0.6] * 7, num_seeds=2)
    for estimator in ("folds", "pooled"):
        for metric, label in (("uar", one.truth), ("wa", one.truth * 0)):
            terms, share = significance._terms(one, other, label, estimator)
            expected = significance._jackknife(terms, share, label, one.speaker)
            found = significance._left_out(one, other, metric, estimator)
            assert found == pytest.approx(expected)
    unknown = [Outcomes(o.truth, o.fold, o.speaker * 0 - 1, o.predictions, 4) for o in (one, other)]
    each = np.arange(len(one.truth))
    own = [Outcomes(o.truth, o.fold, each, o.predictions, 4) for o in (one, other)]
    for metric in METRICS:
        found = significance._left_out(*unknown, metric, "pooled")
        assert found == pytest.approx(significance._left_out(*own, metric, "pooled"))


def test_swapping_equals_the_permutation_of_sums():
    """Two ways to one p, where the score is a sum of the units."""
    rng = np.random.default_rng(6)
    one, other = outcomes(rng, [0.8] * 25, num_seeds=2), outcomes(rng, [0.77] * 25, num_seeds=2)
    for estimator in ("folds", "pooled"):
        expected = compare(one, other, estimator).p
        found = significance._swapped(one, other, "uar", estimator, 9999, 1)
        assert found == pytest.approx(expected, abs=0.02)
    unknown = [Outcomes(o.truth, o.fold, o.speaker * 0 - 1, o.predictions, 4) for o in (one, other)]
    found = significance._swapped(*unknown, "uar", "pooled", 9999, 1)
    assert found == pytest.approx(compare(*unknown).p, abs=0.02)


@pytest.mark.parametrize("metric", ["uar", "weighted_f1"])
@pytest.mark.parametrize(("num_speakers", "known"), [(5, True), (10, True), (30, True), (8, False)])
def test_equal_systems_differ_as_often_as_chance_allows(num_speakers, known, metric):
    rng, found, trials = np.random.default_rng(4), 0, 400 if metric == "uar" else 200
    for trial in range(trials):
        one, other = (outcomes(rng, [0.75] * num_speakers, per_label=4) for _ in range(2))
        if not known:
            one, other = (
                Outcomes(o.truth, o.fold, o.speaker * 0 - 1, o.predictions, 4) for o in (one, other)
            )
        found += compare(one, other, "pooled", metric, num_resamples=999, seed=trial).p <= 0.05
    assert found / trials <= 0.08


def test_permutation_equals_scipy():
    rng = np.random.default_rng(6)
    one, other = outcomes(rng, [0.8] * 25), outcomes(rng, [0.76] * 25)
    sums = [
        np.mean((one.predictions == one.truth)[0, one.speaker == s])
        - np.mean((other.predictions == other.truth)[0, other.speaker == s])
        for s in range(25)
    ]
    reference = stats.permutation_test(
        (sums,), np.mean, permutation_type="samples", n_resamples=9999, batch=1000
    )
    assert compare(one, other).p == pytest.approx(reference.pvalue, abs=0.03)


def test_few_equal_differences_are_not_certainty():
    """Two speakers, one utterance each way: the terms agree by chance."""
    truth = np.tile([0, 1], 4)
    speaker = np.repeat([0, 1], 4)
    right, wrong = truth[None].copy(), truth[None].copy()
    wrong[0, [0, 4]] = 1
    items = (truth, speaker * 0, speaker)
    assert compare(Outcomes(*items, right, 2), Outcomes(*items, wrong, 2)).p > 0.05


def test_other_utterances_cannot_be_compared():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="not tested on the same utterances"):
        compare(outcomes(rng, [0.5] * 3), outcomes(rng, [0.5] * 4))


@pytest.fixture(scope="module")
def multitest():
    return pytest.importorskip("statsmodels.stats.multitest")


@given(p=st.lists(st.floats(0, 1), max_size=30))
@settings(max_examples=15, deadline=None)  # multipletests takes a long time
def test_holm_equals_statsmodels(multitest, p):
    expected = multitest.multipletests(p, method="holm")[1] if p else []
    assert holm(p) == pytest.approx(list(expected))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.randoms())
def test_holm_is_monotone_and_ignores_order(p, random):
    adjusted = holm(p)
    assert all(a >= b for a, b in zip(adjusted, p, strict=True))
    assert max(adjusted) <= 1
    order = list(range(len(p)))
    random.shuffle(order)
    assert holm([p[i] for i in order]) == pytest.approx([adjusted[i] for i in order])
    ranked = [a for _, a in sorted(zip(p, adjusted, strict=True))]
    assert ranked == sorted(ranked)


@pytest.mark.parametrize("leading", [1, 6])
def test_a_constant_answer_is_no_tie_where_speakers_have_one_label_each(leading):
    """A few speakers hold most of a label, as in URDU; always the same answer is still no tie."""
    truth, speaker = [], []
    for label in range(4):
        for who, count in enumerate([12, leading, 6, 3]):
            truth += [label] * count
            speaker += [label * 4 + who] * count
    truth, speaker = np.array(truth), np.array(speaker)
    fold = np.zeros(len(truth), np.int64)
    good = truth.copy()
    good[::20] = (good[::20] + 1) % 4
    same = np.zeros_like(truth)
    best, constant = (Outcomes(truth, fold, speaker, p[None], 4) for p in (good, same))
    found = compare(best, constant)
    assert found.num_units == 16
    assert found.p < 0.001


def test_the_jackknife_is_the_usual_error_of_a_mean_under_loso():
    rng = np.random.default_rng(5)
    first, second = outcomes(rng, [0.9, 0.8, 0.7, 0.9, 0.6]), outcomes(rng, [0.6] * 5)
    right = [(each.predictions[0] == each.truth) for each in (first, second)]
    each = (right[0].astype(float) - right[1]).reshape(5, -1).mean(axis=1)  # labels are balanced
    expected = stats.ttest_1samp(each, 0.0).pvalue
    assert compare(first, second, "folds").p == pytest.approx(expected)
