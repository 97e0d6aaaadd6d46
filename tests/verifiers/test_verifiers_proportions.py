"""Intervals of proportions: textbook numbers, and coverage where trials come in clusters."""

import numpy as np
import pytest

from assay.verifiers.proportions import clustered_wilson, wilson


def ends(estimate):
    return estimate.low, estimate.high


def test_wilson_interval():
    assert wilson(0, 0).n == 0
    assert ends(wilson(0, 10)) == pytest.approx((0.0, 0.27753), abs=1e-5)
    assert ends(wilson(10, 10)) == pytest.approx((0.72247, 1.0), abs=1e-5)
    assert ends(wilson(8, 10)) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert ends(wilson(15, 148)) == pytest.approx((0.0624, 0.1605), abs=1e-4), "Newcombe 1998, table I"
    assert ends(wilson(81, 263)) == pytest.approx((0.2553, 0.3662), abs=1e-4), "Newcombe 1998, table I"
    wide, narrow = wilson(5, 10, 0.99), wilson(5, 10)
    assert wide.low < narrow.low < 0.5 < narrow.high < wide.high


def test_one_trial_of_each_task_is_nearly_wilsons_and_equal_tasks_are_one_trial_each():
    successes = np.repeat([1, 0], [100, 300])
    assert ends(clustered_wilson(successes, np.ones(400))) == pytest.approx(ends(wilson(100, 400)), abs=1e-3)
    assert ends(clustered_wilson(successes * 8, np.full(400, 8))) == pytest.approx(ends(clustered_wilson(successes, np.ones(400))))
    assert clustered_wilson([3, 0], [4, 0]).n == 1 and clustered_wilson([0], [0]).n == 0
    none = clustered_wilson(np.zeros(50), np.full(50, 8))
    assert none.low == 0 and 0.05 < none.high < 0.1, "tasks may agree wholly, so that 50 and not 400 trials are known"


@pytest.mark.parametrize("correlation", [0.0, 0.1, 0.3, 0.5])
@pytest.mark.parametrize(("rate", "tasks"), [(0.05, 1024), (0.22, 1024), (0.22, 32)])
def test_coverage_where_samples_of_a_task_are_correlated(rate, tasks, correlation):
    random, runs = np.random.default_rng(0), 500
    odds = 1 / max(correlation, 1e-9) - 1
    trials = random.integers(1, 9, (runs, tasks))
    errors = random.binomial(trials, random.beta(rate * odds, (1 - rate) * odds, (runs, tasks)))
    found = [clustered_wilson(*row) for row in zip(errors, trials, strict=True)]
    assert 0.92 <= np.mean([one.low <= rate <= one.high for one in found]) <= 0.99
    if correlation >= 0.3:
        plain = [wilson(int(top.sum()), int(bottom.sum())) for top, bottom in zip(errors, trials, strict=True)]
        assert np.mean([one.low <= rate <= one.high for one in plain]) < 0.85
