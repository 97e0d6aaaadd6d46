"""Error rates from appeals: the method's worked numbers, exactness where everything is judged, coverage, and counts that cannot be."""

import json

import numpy as np
import pytest
from scipy.stats import betabinom, binom

from assay.verifiers.appeals_estimator import (
    AppealCounts,
    AppealsEstimator,
    JudgeErrors,
    horvitz_thompson,
    measured_judge_errors,
    residual_rates,
    share,
    smooth,
    smooth_counts,
    unbounded_counts,
)  # fmt: skip
from assay.verifiers.count_posterior import count_posterior
from benchmarks.appeals_coverage import Cell, simulate

ESTIMATOR = AppealsEstimator()
NOISY = JudgeErrors(0.9, 0.05)


def test_worked_numbers_of_the_method():
    found = ESTIMATOR.estimate(AppealCounts(rule_positives=100, rule_negatives=900, probability=0.1, appealed=90, upheld=9))
    assert found.false_negatives == pytest.approx(90, abs=1e-12)
    assert found.false_negative_rate == pytest.approx(0.4736842, abs=1e-7)
    assert smooth(0.5, found.false_negative_rate, 0.9) == pytest.approx(0.4973684, abs=1e-7)
    assert (found.false_positives, found.false_positive_rate, found.false_positive_source) == (0, 0, "assumed")
    # theta ~ Beta(9.5, 81.5) of the 810 others: beta-binomial quantiles (scipy) beside the 9 that are known
    low, high = 9 + betabinom.ppf([0.025, 0.975], 810, 9.5, 81.5)
    assert found.false_negative_low == pytest.approx(low / (low + 100), abs=0.03)
    assert found.false_negative_high == pytest.approx(high / (high + 100), abs=0.02)


@pytest.mark.parametrize(("positives", "negatives", "upheld", "rate"), [(0, 30, 0, 0.5), (0, 30, 3, 0.9999997), (100, 30, 0, 1e-7)])
def test_edges_of_the_method(positives, negatives, upheld, rate):
    found = ESTIMATOR.estimate(AppealCounts(positives, negatives, 0.1, appealed=3, upheld=upheld))
    assert found.false_negative_rate == pytest.approx(rate, rel=1e-6)
    assert found.false_negative_low <= found.false_negative_rate <= found.false_negative_high


def test_a_noisy_judge_that_is_taken_for_perfect_inflates_the_rate_and_its_rates_mend_that():
    counts = AppealCounts(rule_positives=150, rule_negatives=850, probability=1, appealed=850, upheld=85)  # .9 x 50 + .05 x 800
    assert ESTIMATOR.estimate(counts).false_negative_rate == pytest.approx(0.361702, abs=1e-6)
    mended = ESTIMATOR.estimate(counts, NOISY)
    assert mended.false_negatives == pytest.approx(50)
    assert mended.false_negative_rate == pytest.approx(0.25, abs=1e-6)
    assert mended.false_negative_low < 0.2 and 0.3 < mended.false_negative_high < 0.361


def test_the_count_is_unbiased_with_the_variance_of_horvitz_and_thompson():
    generator, missed, wrong, q, repetitions = np.random.default_rng(1), 50, 800, 0.1, 200_000
    upheld = generator.binomial(missed, q, repetitions)
    others = generator.binomial(wrong, q, repetitions)
    perfect = horvitz_thompson(upheld, upheld + others, np.zeros(1), np.array(q), JudgeErrors())
    variance = missed * (1 - q) / q
    assert perfect.mean() == pytest.approx(missed, abs=4 * (variance / repetitions) ** 0.5)
    assert perfect.var() == pytest.approx(variance, rel=0.02)
    said = generator.binomial(upheld, 0.9) + generator.binomial(others, 0.05)
    # not below 0 is a bias upwards, which vanishes where the count is many deviations above 0
    many = horvitz_thompson(said + 450, upheld + others + 500, np.zeros(1), np.array(q), NOISY)
    assert many.mean() == pytest.approx(missed + 5000, rel=0.002)


def test_the_plain_estimate_tends_to_the_inflated_rate():
    generator, q, scale = np.random.default_rng(2), 0.1, 2000
    right, wrong = generator.binomial(50 * scale, q), generator.binomial(800 * scale, q)
    upheld = int(generator.binomial(right, 0.9) + generator.binomial(wrong, 0.05))
    counts = AppealCounts(150 * scale, 850 * scale, q, int(right + wrong), upheld)
    assert ESTIMATOR.estimate(counts).false_negative_rate == pytest.approx(0.361702, abs=0.004)
    assert ESTIMATOR.estimate(counts, NOISY).false_negative_rate == pytest.approx(0.25, abs=0.006)


def test_with_every_answer_judged_without_errors_both_rates_are_exact_and_have_no_width():
    exact = AppealsEstimator(alpha=0, beta=0)
    counts = AppealCounts(200, 300, 1, appealed=300, upheld=60, audit_probability=1, audited=200, refused=20)
    found = exact.estimate(counts)
    assert found.false_negative_rate == found.false_negative_low == found.false_negative_high == 60 / 240
    assert found.false_positive_rate == found.false_positive_low == found.false_positive_high == 20 / 260
    smoothed = ESTIMATOR.estimate(counts)
    assert smoothed.false_negative_low <= 60 / 240 <= smoothed.false_negative_high
    assert smoothed.false_negative_high - smoothed.false_negative_low < 1e-7


def test_an_audit_takes_accepted_wrong_answers_out_of_the_right_ones():
    counts = AppealCounts(400, 600, 0.5, appealed=300, upheld=30, audit_probability=0.25, audited=100, refused=10)
    found = ESTIMATOR.estimate(counts)
    assert (found.false_negatives, found.false_positives, found.false_positive_source) == (60, 40, "audit")
    assert found.false_negative_rate == pytest.approx(60 / (60 + 360), abs=1e-6)
    assert found.false_positive_rate == pytest.approx(40 / (40 + 540))
    assert 0.03 < found.false_positive_low < 40 / 580 < found.false_positive_high < 0.13
    judged = ESTIMATOR.estimate(counts, JudgeErrors(0.95, 0.05))
    assert judged.false_positives == pytest.approx((10 - 0.05 * 100) / 0.9 * 4)
    assert judged.false_negatives == pytest.approx((30 - 0.05 * 300) / 0.9 * 2)


def test_an_assumed_false_positive_rate_is_kept_and_lowers_the_right_ones():
    found = AppealsEstimator(assumed_false_positive_rate=0.1).estimate(AppealCounts(200, 900, 0.1, appealed=90, upheld=9))
    assert found.false_positives == pytest.approx(810 / 9)
    assert found.false_positive_rate == pytest.approx(0.1)
    assert found.false_negative_rate == pytest.approx(90 / (90 + 110), abs=1e-6)
    assert found.false_positive_low is None and found.false_positive_high is None
    capped = AppealsEstimator(assumed_false_positive_rate=0.9).estimate(AppealCounts(200, 900, 0.1, appealed=90, upheld=9))
    assert capped.false_positives == 200
    assert capped.false_negative_rate == pytest.approx(1, abs=1e-6)


def test_abstentions_count_as_not_appealed():
    decided = AppealCounts(100, 400, 0.5, appealed=100, upheld=20)
    some = ESTIMATOR.estimate(AppealCounts(100, 400, 0.5, appealed=100, upheld=20, abstained=100))
    assert some.false_negatives == pytest.approx(80)  # half of the half was decided
    assert ESTIMATOR.estimate(decided).false_negatives == 40
    none = ESTIMATOR.estimate(AppealCounts(100, 400, 0.5, appealed=0, upheld=0, abstained=200))
    assert (none.false_negatives, none.false_negative_rate, none.false_negative_low, none.false_positive_rate) == (None,) * 4


def test_without_negatives_nothing_was_missed_and_without_rows_nothing_is_known():
    found = ESTIMATOR.estimate(AppealCounts(100, 0, 0.1, 0, 0))
    assert found.false_negatives == 0 and found.false_negative_rate == pytest.approx(1e-7, rel=1e-5)
    assert (found.false_negative_low, found.false_positive_rate) == (0, 0)
    assert ESTIMATOR.estimate(AppealCounts(0, 0, 0.1, 0, 0)).false_negative_rate is None
    bare = AppealsEstimator(alpha=0, beta=0).estimate(AppealCounts(0, 30, 0.1, 3, 0))
    assert (bare.false_negatives, bare.false_negative_rate, bare.false_negative_low) == (0, None, None)


def test_a_count_beyond_what_the_examined_rows_allow_gives_the_nearest_rate_they_do():
    counts = AppealCounts(10, 100, 0.1, appealed=25, upheld=20)  # 200 of 100
    found = ESTIMATOR.estimate(counts)
    assert found.false_negatives == 200
    assert found.false_negative_rate == pytest.approx(found.false_negative_high, abs=1e-6)
    assert found.false_negative_high <= 95 / 105 + 1e-6  # five were refused


@pytest.mark.parametrize(("hit", "false_alarm"), [(1.0, 0.0), (0.8, 0.1)])
def test_the_posterior_of_the_count_is_that_of_brute_force(hit, false_alarm):
    population, examined, found = 30, 12, 4
    phi = np.linspace(np.arcsin(false_alarm**0.5), np.arcsin(hit**0.5), 4001)
    phi = (phi[1:] + phi[:-1]) / 2  # equal weights: Jeffreys' prior of the probability of an objection
    theta = (np.sin(phi) ** 2 - false_alarm) / (hit - false_alarm)
    expected = np.zeros(population + 1)
    for wrong in range(examined + 1):
        of_wrong = binom.pmf(np.arange(found + 1), wrong, hit)
        said = of_wrong @ binom.pmf(found - np.arange(found + 1), examined - wrong, false_alarm)
        for unseen in range(population - examined + 1):
            prior = binom.pmf(wrong, examined, theta) * binom.pmf(unseen, population - examined, theta)
            expected[wrong + unseen] += said * prior.sum()
    expected /= expected.sum()
    one = np.array([population]), np.array([examined]), np.array([found])
    posterior = count_posterior(*one, hit, false_alarm, 0.95, np.random.default_rng(9), draws=200_000, cells=2048)
    drawn = np.bincount(posterior.draws[0], minlength=population + 1) / posterior.draws.size
    assert np.abs(drawn - expected).max() < 0.003
    low, high = (int(end[0]) for end in posterior.interval())
    assert expected[low : high + 1].sum() >= 0.95
    assert posterior.below[0] + posterior.above[0] == pytest.approx(0.05)
    assert (posterior.least[0], posterior.most[0]) == ((4, 22) if hit == 1 else (0, 30))


def test_the_interval_begins_at_zero_where_a_judge_with_false_alarms_found_no_more_than_those():
    found = ESTIMATOR.estimate(AppealCounts(200, 1000, 0.4, appealed=400, upheld=20), NOISY)
    assert found.false_negative_low == 0
    assert 0.02 < found.false_negative_high < 0.3


@pytest.mark.parametrize(
    "cell",
    [
        Cell(JudgeErrors(), 0.3, 0.2, 0.6, 512),
        Cell(JudgeErrors(), 0.1, 0.05, 0.1, 4096),  # the cell that covers least
        Cell(NOISY, 0.1, 0.02, 0.1, 1024),  # at the edge: two false negatives among hundreds of answers, and false alarms
        Cell(NOISY, 1.0, 0.4, 0.3, 128),
        Cell(JudgeErrors(0.8, 0.1), 0.6, 0.1, 0.9, 1024),
        Cell(NOISY, 0.3, 0.2, 0.6, 512, 0.1, audited=True),
        Cell(NOISY, 0.3, 0.2, 0.6, 512, 0.1),
    ],
    ids=str,
)
def test_intervals_cover_the_realised_rates(cell):
    outcome = simulate(cell, 1500, np.random.default_rng(3))
    assert 0.90 <= outcome.covered <= 0.995
    assert outcome.width < 0.45
    if cell.audited:
        assert 0.90 <= outcome.positive_covered <= 0.995


def test_mean_coverage_over_a_small_grid_is_nominal_and_a_judge_taken_for_perfect_spoils_it():
    cells = [
        Cell(judge, q, rate, accuracy, 512)
        for judge in (JudgeErrors(), NOISY) for q in (0.3, 0.6) for rate in (0.05, 0.2, 0.6) for accuracy in (0.3, 0.9)
    ]  # fmt: skip
    covered = [simulate(cell, 400, np.random.default_rng((4, i))).covered for i, cell in enumerate(cells) if cell.expected() >= 20]
    assert len(covered) >= 16
    assert 0.94 <= np.mean(covered) <= 0.975
    generator = np.random.default_rng(5)
    right, wrong = generator.binomial(50, 0.5, 500), generator.binomial(800, 0.5, 500)
    upheld = generator.binomial(right, 0.9) + generator.binomial(wrong, 0.05)
    rough = AppealsEstimator(draws=400, cells=200)
    found = [rough.estimate(AppealCounts(150, 850, 0.5, int(a), int(u))) for a, u in zip(right + wrong, upheld, strict=True)]
    assert np.mean([e.false_negative_low <= 0.25 <= e.false_negative_high for e in found]) < 0.2


def test_equal_counts_and_seed_give_equal_estimates_and_another_seed_hardly_moves_them():
    counts = AppealCounts(400, 600, 0.3, 180, 30, audit_probability=0.2, audited=80, refused=8)
    assert ESTIMATOR.estimate(counts, NOISY, seed=7) == ESTIMATOR.estimate(counts, NOISY, seed=7)
    ends = np.array([
        [e.false_negative_low, e.false_negative_high] for e in (ESTIMATOR.estimate(counts, NOISY, seed=s) for s in range(10))
    ])  # fmt: skip
    assert np.ptp(ends[:, 0]) > 0
    assert np.ptp(ends, axis=0).max() < 0.05 * (ends[:, 1] - ends[:, 0]).mean()


def test_a_moving_average_goes_on_bit_for_bit_after_it_was_written_as_json():
    values = np.random.default_rng(6).random(50)
    whole = carried = None
    for value in values:
        whole = smooth(whole, float(value), 0.9)
        carried = smooth(json.loads(json.dumps({"rate": carried}))["rate"], float(value), 0.9)
    assert carried == whole
    assert smooth(None, 0.3, 0.9) == 0.3
    assert smooth(0.5, 0.3, 0.0) == 0.3


def test_recovery_leaves_the_residual_rates():
    assert residual_rates(0.4, 0.1, 0.25, JudgeErrors()) == pytest.approx((0.3, 0.1))
    assert residual_rates(0.4, 0.1, 0.5, NOISY) == pytest.approx((0.4 * 0.55, 0.1 + 0.9 * 0.025))
    generator = np.random.default_rng(8)
    right = generator.random(400_000) < 0.5
    observed = np.where(right, generator.random(right.size) >= 0.4, generator.random(right.size) < 0.1)
    upheld = ~observed & (generator.random(right.size) < 0.5) & (generator.random(right.size) < np.where(right, 0.9, 0.05))
    negative, positive = residual_rates(0.4, 0.1, 0.5, NOISY)
    assert 1 - (observed | upheld)[right].mean() == pytest.approx(negative, abs=0.004)
    assert (observed | upheld)[~right].mean() == pytest.approx(positive, abs=0.004)


def test_measured_errors_of_the_judge_need_enough_answers_of_a_class():
    assert measured_judge_errors(45, 50, 5, 100) == JudgeErrors(0.9, 0.05)
    assert measured_judge_errors(4, 19, 5, 100) == JudgeErrors(1.0, 0.05)
    assert measured_judge_errors(18, 20, 5, 19) == JudgeErrors(0.9, 0.0)
    assert measured_judge_errors(4, 5, 5, 10) is None
    assert measured_judge_errors(4, 5, 2, 10, minimum=5) == JudgeErrors(0.8, 0.2)
    with pytest.raises(ValueError, match="measures nothing"):
        measured_judge_errors(10, 100, 20, 100)
    with pytest.raises(ValueError, match="right_accepted: 51, right_judged: 50"):
        measured_judge_errors(51, 50, 5, 100)


@pytest.mark.parametrize(("right", "wrong"), [(0.5, 0.5), (0.2, 0.6), (1.1, 0.0), (0.5, -0.1)])
def test_a_judge_that_cannot_tell_right_from_wrong_is_refused(right, wrong):
    with pytest.raises(ValueError, match="that of right ones the larger"):
        JudgeErrors(right, wrong)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"probability": 0.0}, "probability of appeal is 0"),
        ({"probability": 1.1}, "probability of appeal is 1.1"),
        ({"upheld": 41}, "upheld: 41, appealed: 40"),
        ({"abstained": 61}, "appealed and abstained: 101, rule_negatives: 100"),
        ({"audited": 5}, "audit_probability is 0 with 5 audited rows"),
        ({"audit_probability": 1.5}, "audit_probability is 1.5"),
        ({"audit_probability": 0.5, "audited": 5, "refused": 6}, "refused: 6, audited: 5"),
        ({"audit_probability": 0.5, "audited": 51}, "audited and audit_abstained: 51, rule_positives: 50"),
        ({"abstained": -1}, "abstained is -1"),
    ],
)
def test_counts_that_no_batch_has_are_refused(change, message):
    counts = {"rule_positives": 50, "rule_negatives": 100, "probability": 0.4, "appealed": 40, "upheld": 4}
    with pytest.raises(ValueError, match=message):
        AppealCounts(**(counts | change))


@pytest.mark.parametrize(("judge", "probability"), [
    (JudgeErrors(0.95, 0.05), 0.1), (JudgeErrors(0.8, 0.1), 0.1), (JudgeErrors(0.8, 0.1), 1.0),
])  # fmt: skip
def test_averaged_counts_lose_the_bias_that_averaged_rates_keep(judge, probability):
    """Where right answers are few, bounded estimates of single batches are 2 to 6 times the true rate of 0.02 on average."""
    random = np.random.default_rng(7)
    rate, right, wrong = 0.02, 102, 922
    held, rates = None, []
    for number in range(8000):
        missed = random.binomial(right, rate)
        asked = random.binomial(missed, probability), random.binomial(wrong, probability)
        upheld = random.binomial(asked[0], judge.true_positive) + random.binomial(asked[1], judge.false_positive)
        counts = AppealCounts(right - missed, wrong + missed, probability, sum(asked), upheld)
        fresh, _ = unbounded_counts(counts, judge, judge, 0.0)
        rates.append(share(fresh))
        held = smooth_counts(held, None, fresh, number / (number + 1))
    assert share(held) == pytest.approx(rate, abs=0.008)
    assert np.mean(rates) > 2 * rate
