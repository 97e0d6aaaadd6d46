"""Intervals of a critic's measures: equal to Wilson's for independent rows, as wide as the tasks allow, and covering the truth."""

import numpy as np
import pytest

from assay.evaluation.estimators import EvaluationError, wilson
from assay.evaluation.self_verification import verification_estimates


def drawn(generator, tasks, samples, recall, specificity):
    """Critiques of solutions whose critic differs from task to task by up to 0.2; rows of several tasks."""
    shift = np.repeat(generator.choice([-0.2, 0.2], tasks), samples)
    right = generator.random(tasks * samples) < 0.4
    called = generator.random(tasks * samples) < np.where(right, recall + shift, 1 - specificity - shift)
    levels = {True: 1.0, False: -0.5}
    names = [f"task {i}" for i in range(tasks) for _ in range(samples)]
    return [levels[bool(c)] for c in called], [levels[bool(r)] for r in right], names


def test_values_are_pooled_and_the_majority_stands_beside_them():
    predicted, truth = [1.0, 1.0, -0.5, -0.5, -0.5, 1.0], [1.0, 1.0, 1.0, -0.5, -1.0, -0.5]
    seen = verification_estimates(predicted, truth, ["a", "a", "b", "b", "c", "c"])
    assert (seen.recall.value, seen.specificity.value) == pytest.approx((2 / 3, 2 / 3))
    assert (seen.recall.n, seen.specificity.n, seen.exact_accuracy.n) == (2, 2, 3)
    assert seen.balanced_accuracy.value == pytest.approx(2 / 3) and seen.exact_accuracy.value == pytest.approx(0.5)
    assert seen.majority_accuracy == 0.5
    for estimate in (seen.recall, seen.specificity, seen.balanced_accuracy, seen.binary_accuracy, seen.exact_accuracy):
        assert 0 <= estimate.low < estimate.value < estimate.high <= 1


def test_with_many_tasks_of_one_critique_each_the_interval_is_that_of_wilson():
    truth = [1.0] * 400 + [-0.5] * 600
    predicted = [1.0] * 300 + [-0.5] * 100 + [1.0] * 150 + [-0.5] * 450
    seen = verification_estimates(predicted, truth, [f"t{i}" for i in range(1000)])
    expected = wilson(300, 400)
    assert (seen.recall.low, seen.recall.high) == pytest.approx((expected.low, expected.high), abs=1e-3)


def test_critiques_that_repeat_within_a_task_bring_no_certainty():
    predicted, truth, names = drawn(np.random.default_rng(0), 60, 1, 0.7, 0.7)
    once = verification_estimates(predicted, truth, names)
    again = verification_estimates(predicted * 8, truth * 8, names * 8)
    assert again.balanced_accuracy.value == pytest.approx(once.balanced_accuracy.value)
    assert again.balanced_accuracy.low == pytest.approx(once.balanced_accuracy.low, abs=2e-3)
    assert again.recall.high == pytest.approx(once.recall.high, abs=2e-3)


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    generator = np.random.default_rng(1)
    held = np.zeros(3)
    for _ in range(400):
        seen = verification_estimates(*drawn(generator, 40, 6, 0.75, 0.7))
        for i, (estimate, true) in enumerate(((seen.recall, 0.75), (seen.specificity, 0.7), (seen.balanced_accuracy, 0.725))):
            held[i] += estimate.low <= true <= estimate.high
    assert (held / 400 > 0.92).all() and (held / 400 < 0.99).all()


def test_a_perfect_critic_has_an_interval_with_a_width_and_an_empty_class_has_none():
    seen = verification_estimates([1.0] * 10, [1.0] * 10, [f"t{i}" for i in range(10)])
    assert seen.recall.value == 1.0 and 0.5 < seen.recall.low < 0.8 and seen.recall.high == 1.0
    assert seen.specificity.n == seen.balanced_accuracy.n == 0 and np.isnan(seen.balanced_accuracy.value)
    assert verification_estimates([1.0], [1.0], ["t"]).recall.low < 0.3
    nothing = verification_estimates([], [], [])
    assert nothing.binary_accuracy.n == 0 and nothing.majority_accuracy is None
    with pytest.raises(EvaluationError, match="1 critiques but 2 tasks"):
        verification_estimates([1.0], [1.0], ["a", "b"])
