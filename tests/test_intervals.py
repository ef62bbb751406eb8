import itertools

import numpy as np
import pytest
from scipy import special, stats

from outcome_factory import outcomes
from ser_features import intervals, metrics
from ser_features.intervals import difference_interval, interval, mean_interval
from ser_features.resampling import METRICS, Outcomes, estimator_of, point
from ser_features.significance import compare


@pytest.mark.parametrize("num_units", [4, 6, 30])
def test_percentiles_are_as_wide_as_a_t_interval(num_units):
    """The bootstrap's deviation of a mean is sqrt((n - 1) / n) of the standard error."""
    values = np.random.default_rng(0).standard_normal(1_000_000)
    low, high = intervals._percentiles(values, num_units, 0.9)
    t = stats.t.ppf(0.95, num_units - 1)
    shrink = np.sqrt((num_units - 1) / num_units)
    assert (shrink * high, -shrink * low) == pytest.approx((t, t), rel=0.02)


def test_interval_is_deterministic_and_of_the_printed_number():
    one = outcomes(np.random.default_rng(0), np.linspace(0.5, 0.9, 10), num_seeds=3)
    for metric, estimator in itertools.product(METRICS, ("folds", "pooled")):
        first = interval(one, metric, estimator, num_resamples=500)
        assert first == interval(one, metric, estimator, num_resamples=500)
        assert first.low < point(one, metric, estimator) < first.high
        assert (first.unit, first.num_units) == ("speakers", 10)
    assert interval(one, seed=1) != interval(one)


def test_interval_resamples_speakers_not_utterances():
    """Speakers differ greatly; an utterance bootstrap would be far too sure."""
    one = outcomes(np.random.default_rng(0), [0.3] * 6 + [0.95] * 6, per_label=25)
    unknown = Outcomes(one.truth, one.fold, one.speaker * 0 - 1, one.predictions, 4)
    by_speaker, by_utterance = interval(one), interval(unknown)
    assert (by_utterance.unit, by_utterance.num_units) == ("utterances", 1200)
    assert by_speaker.high - by_speaker.low > 4 * (by_utterance.high - by_utterance.low)


def test_interval_under_loso_is_that_of_the_fold_mean():
    one = outcomes(np.random.default_rng(1), np.linspace(0.4, 0.95, 24))
    folds = [
        metrics.score(one.truth[one.fold == f], one.predictions[0, one.fold == f], 4).uar
        for f in range(24)
    ]
    draws = np.random.default_rng(5).integers(0, 24, (20_000, 24))
    tail = stats.norm.cdf(stats.t.ppf(0.025, 23) * np.sqrt(24 / 23))
    expected = np.quantile(np.array(folds)[draws].mean(axis=1), [tail, 1 - tail])
    found = interval(one, estimator="folds", num_resamples=20_000)
    assert [found.low, found.high] == pytest.approx(expected, abs=0.005)


def test_the_interval_of_a_mean_over_test_sets():
    rng = np.random.default_rng(5)
    first, second = (outcomes(rng, rng.uniform(0.3, 0.9, 30)) for _ in range(2))
    assert mean_interval([first], "wa") == interval(first, "wa", estimator_of(first))
    both = mean_interval([first, second])
    assert (both.unit, both.num_units) == ("speakers", 60)
    points = [point(each, "uar", estimator_of(each)) for each in (first, second)]
    assert both.low < np.mean(points) < both.high
    each = [interval(one, "uar", estimator_of(one)) for one in (first, second)]
    # independent sets: the mean of two varies by 1/sqrt(2) of what one does
    width = np.mean([one.high - one.low for one in each]) / np.sqrt(2)
    assert both.high - both.low == pytest.approx(width, rel=0.15)
    few = outcomes(rng, [0.2, 0.5, 0.9])
    assert mean_interval([few, few]).low < mean_interval([few, few], level=0.5).low


def test_utterance_interval_equals_a_plain_bootstrap():
    """Drawing patterns of utterances is drawing utterances."""
    rng = np.random.default_rng(2)
    one = outcomes(rng, [0.7] * 3, num_seeds=2)
    one = Outcomes(one.truth, one.fold * 0, one.speaker * 0 - 1, one.predictions, 4)
    num = len(one.truth)
    plain = []
    for _ in range(4000):
        at = rng.integers(0, num, num)
        hits = (one.predictions == one.truth)[:, at]
        plain.append(np.mean([hits[:, one.truth[at] == label].mean() for label in range(4)]))
    found = interval(one, num_resamples=20_000)
    assert [found.low, found.high] == pytest.approx(np.quantile(plain, [0.025, 0.975]), abs=0.015)


@pytest.mark.parametrize("num_speakers", [6, 10, 30])
def test_coverage_on_new_speakers(num_speakers):
    """The interval holds the skill of the population about 95 times in 100."""
    rng, held, trials = np.random.default_rng(0), 0, 300
    for trial in range(trials):
        skill = np.clip(rng.normal(0.7, 0.1, num_speakers), 0, 1)
        one = outcomes(rng, skill, per_label=5)
        found = interval(one, estimator="folds", num_resamples=400, seed=trial)
        held += found.low <= 0.7 <= found.high
    assert 0.90 <= held / trials <= 0.99


@pytest.mark.parametrize(
    ("num_speakers", "estimator"), [(5, "folds"), (10, "folds"), (10, "pooled")]
)
def test_coverage_where_scores_are_high(num_speakers, estimator):
    """Percentiles hold it 89 (5 speakers) and 88 (10 speakers) times in 100 of these."""
    rng, held, trials = np.random.default_rng(1), 0, 300
    truth = special.expit(3.5 + 1.1 * np.random.default_rng(0).standard_normal(200_000)).mean()
    for trial in range(trials):
        skill = special.expit(3.5 + 1.1 * rng.standard_normal(num_speakers))
        one = outcomes(rng, skill, per_label=8)
        found = interval(one, estimator=estimator, num_resamples=400, seed=trial)
        held += found.low <= truth <= found.high
    assert held / trials >= 0.93


def test_few_speakers_have_students_t_on_log_odds():
    one = outcomes(np.random.default_rng(1), np.linspace(0.6, 0.95, 8))
    each = [
        metrics.score(one.truth[one.fold == f], one.predictions[0, one.fold == f], 4).uar
        for f in range(8)
    ]
    mean, error = np.mean(each), stats.sem(each)
    reach = stats.t.ppf(0.975, 7) * error / (mean * (1 - mean))
    expected = special.expit(special.logit(mean) + np.array([-reach, reach]))
    found = interval(one, estimator="folds", num_resamples=20_000)
    assert [found.low, found.high] == pytest.approx(expected, abs=0.005)


@pytest.mark.parametrize("num_speakers", [2, 6, 30])
def test_no_error_is_not_certainty(num_speakers):
    """Nothing wrong in the sample: the lower end leaves room, more for fewer utterances."""
    rng = np.random.default_rng(0)
    few, many = (outcomes(rng, [1.0] * num_speakers, per_label=n) for n in (3, 30))
    for metric in METRICS:
        low, more = interval(few, metric), interval(many, metric)
        assert low.high == more.high == point(few, metric) == 1
        assert 0 < low.low < more.low < 1
    none = Outcomes(few.truth, few.fold, few.speaker, (few.truth[None] + 1) % 4, 4)
    assert interval(none).low == 0 < interval(none).high < 1


def test_a_constant_answer_has_no_spread():
    one = outcomes(np.random.default_rng(0), [0.5] * 8)
    same = Outcomes(one.truth, one.fold, one.speaker, one.predictions * 0, 4)
    for estimator in ("folds", "pooled"):
        found = interval(same, "uar", estimator)
        assert (found.low, found.high) == pytest.approx((0.25, 0.25))


@pytest.mark.parametrize("num_speakers", [3, 10])
def test_a_difference_of_few_speakers_leaves_out_0_where_the_test_says_so(num_speakers):
    """One method for both; percentiles of three speakers agree 90 times in 100, and hold 0 84."""
    rng, agree, held, trials = np.random.default_rng(2), 0, 0, 200
    for trial in range(trials):
        skills = rng.normal(0.75, 0.08, (2, num_speakers)).clip(0, 1)
        one, other = (outcomes(rng, skill, per_label=5) for skill in skills)
        span = difference_interval(one, other, "uar", "folds", num_resamples=400, seed=trial)
        p = compare(one, other, "folds").p
        agree += (p <= 0.05) == (not span.low <= 0 <= span.high)
        held += span.low <= 0 <= span.high
    assert agree / trials > 0.95
    assert held / trials > 0.92
