"""Estimators against enumeration, textbook numbers and simulated coverage."""

from itertools import combinations

import numpy as np
import pytest
from scipy.special import betaincinv

from assay.evaluation import (
    EvaluationError,
    explore_rate,
    keep_rate,
    mean_with_interval,
    paired_difference,
    pass_at_k,
    ratio_with_interval,
    wilson,
)

TASKS, SAMPLES = 512, 8


@pytest.mark.parametrize("n", [1, 2, 5, 7])
def test_pass_at_k_equals_enumeration_of_all_subsets(n):
    for c in range(n + 1):
        marks = [True] * c + [False] * (n - c)
        for k in range(1, n + 1):
            subsets = list(combinations(marks, k))
            assert pass_at_k(n, c, k) == pytest.approx(sum(any(s) for s in subsets) / len(subsets), abs=1e-14)


def test_pass_at_k_worked_number_shape_and_extremes():
    assert pass_at_k(16, 4, 8) == pytest.approx(0.961538, abs=1e-6)
    np.testing.assert_allclose(pass_at_k([8, 8, 4], [0, 8, 1], 4), [0.0, 1.0, 1.0])
    assert pass_at_k(np.full((3, 2), 8), 1, 2).shape == (3, 2)
    assert pass_at_k(10_000_000, 1, 1) == pytest.approx(1e-7, rel=1e-12)
    assert pass_at_k(5000, 2500, 1000) == 1.0
    assert pass_at_k(np.array([], int), np.array([], int), 3).shape == (0,)


@pytest.mark.parametrize(
    ("n", "c", "k", "words"),
    [
        ([8, 4], [1, 1], 5, "needs at least 5 samples of each task, found one with 4"),
        (8, 1, 0, "at least 1"),
        (8, 9, 1, "between 0 and the number of samples"),
    ],
)
def test_pass_at_k_refuses(n, c, k, words):
    with pytest.raises(EvaluationError, match=words):
        pass_at_k(n, c, k)


def test_interval_keeps_a_width_where_all_tasks_agree():
    for value in (0.0, 1.0):
        estimate = mean_with_interval(np.full(TASKS, value), samples=SAMPLES)
        assert estimate.value == value and 0.005 < estimate.high - estimate.low < 0.01
        assert value in (estimate.low, estimate.high)
    # Equal shares that are neither 0 nor 1 cannot be more certain than independent samples are.
    half = mean_with_interval(np.full(TASKS, 0.5), samples=SAMPLES)
    independent = wilson(TASKS * SAMPLES / 2, TASKS * SAMPLES)
    assert half.high - half.low == pytest.approx(independent.high - independent.low, rel=0.01)


def test_interval_of_one_sample_per_task_is_the_binomial_one():
    values = np.repeat([1.0, 0.0], [200, 312])
    estimate, binomial = mean_with_interval(values), wilson(200, 512)
    assert (estimate.low, estimate.high) == pytest.approx((binomial.low, binomial.high), abs=2e-4)


def test_clusters_widen_the_interval():
    spread = mean_with_interval(np.repeat([0.0, 1.0], TASKS // 2), samples=SAMPLES)
    mixed = mean_with_interval(np.tile([0.375, 0.625], TASKS // 2), samples=SAMPLES)
    assert spread.high - spread.low > 2.5 * (mixed.high - mixed.low)


def test_unbounded_mean_is_a_t_interval_and_shares_must_be_shares():
    estimate = mean_with_interval([10.0, 12.0, 14.0], bounded=False)
    assert estimate.value == 12 and estimate.high - 12 == pytest.approx(4.3027 * 2 / 3**0.5, rel=1e-4)
    assert np.isnan(mean_with_interval([3.0], bounded=False).low)
    assert mean_with_interval([]).n == 0
    with pytest.raises(EvaluationError, match=r"\[0, 1\]"):
        mean_with_interval([0.5, 1.2])


def shares(random, ease, k):
    return pass_at_k(SAMPLES, random.binomial(SAMPLES, ease), k)


@pytest.mark.parametrize(("mean", "concentration", "k"), [
    (0.02, 50, 1), (0.1, 2, 1), (0.43, 2, 1), (0.43, 0.3, 1), (0.57, 2, 1), (0.9, 2, 1), (0.98, 50, 1),
    (0.1, 2, 8), (0.43, 2, 8),
])  # fmt: skip
def test_coverage_of_the_mean(mean, concentration, k):
    random = np.random.default_rng(1)
    a, b = mean * concentration, (1 - mean) * concentration
    truth = mean if k == 1 else (1 - (1 - betaincinv(a, b, (np.arange(200_000) + 0.5) / 200_000)) ** k).mean()
    runs = 800
    estimates = [mean_with_interval(shares(random, random.beta(a, b, TASKS), k), samples=SAMPLES) for _ in range(runs)]
    assert 0.92 <= sum(e.low <= truth <= e.high for e in estimates) / runs <= 0.98


def test_coverage_near_nothing_is_at_least_nine_in_ten():
    """Half a percent right, tasks either easy or hopeless: the hardest case that was tried."""
    random = np.random.default_rng(2)
    ease = 0.005
    drawn = (random.beta(ease * 0.3, (1 - ease) * 0.3, TASKS) for _ in range(800))
    estimates = [mean_with_interval(shares(random, easy, 1), samples=SAMPLES) for easy in drawn]
    assert 0.89 <= np.mean([e.low <= ease <= e.high for e in estimates]) <= 0.98


@pytest.mark.parametrize(("before", "after"), [(0.35, 0.6), (0.35, 0.36), (0.02, 0.05), (0.9, 0.98)])
def test_coverage_of_the_paired_difference(before, after):
    """Ease of a task before and after is the same quantile of two distributions: tasks stay hard or easy."""
    random = np.random.default_rng(3)
    quantiles, concentration, runs = np.linspace(0, 1, 40_002)[1:-1], 2.0, 800
    easier = [betaincinv(mean * concentration, (1 - mean) * concentration, quantiles) for mean in (before, after)]
    truth = easier[1].mean() - easier[0].mean()
    hits = 0
    for _ in range(runs):
        chosen = random.integers(0, len(quantiles), TASKS)
        estimate = paired_difference(*(shares(random, side[chosen], 1) for side in easier), samples=SAMPLES)
        hits += estimate.low <= truth <= estimate.high
    assert 0.92 <= hits / runs <= 0.98


def test_pairing_narrows_the_difference_and_never_claims_certainty():
    random = np.random.default_rng(4)
    ease = random.beta(1, 1, TASKS)
    x, y = shares(random, ease, 1), shares(random, np.clip(ease + 0.1, 0, 1), 1)
    paired, shuffled = paired_difference(x, y), paired_difference(x, random.permutation(y))
    assert paired.value == pytest.approx(shuffled.value)
    assert paired.high - paired.low < 0.6 * (shuffled.high - shuffled.low)
    nothing = paired_difference(np.zeros(TASKS), np.zeros(TASKS))
    assert nothing.value == 0 and nothing.low < 0 < nothing.high
    with pytest.raises(EvaluationError, match="pair them by task"):
        paired_difference([0.1], [0.1, 0.2])


def test_ratio_weighs_clusters_by_size():
    estimate = ratio_with_interval([1.0, 9.0], [10.0, 30.0])
    assert estimate.value == pytest.approx(0.25) and estimate.low < 0.25 < estimate.high
    exact = ratio_with_interval([2.0, 4.0, 6.0], [1.0, 2.0, 3.0])
    assert (exact.low, exact.high) == pytest.approx((2.0, 2.0))
    assert ratio_with_interval([], []).n == 0


def test_keep_and_explore_rates():
    base, now = [True, True, True, False, False], [True, True, False, True, False]
    assert (keep_rate(base, now).value, keep_rate(base, now).n) == (pytest.approx(2 / 3), 3)
    assert (explore_rate(base, now).value, explore_rate(base, now).n) == (0.5, 2)
    assert keep_rate([False], [True]).n == 0
    with pytest.raises(EvaluationError, match="same tasks"):
        keep_rate([True], [True, False])
