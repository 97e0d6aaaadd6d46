"""How well critiques judge: the constant critic of B6.12, all metrics against NumPy, and what is not defined."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.rewards.critiques import BINARY, SelfVerificationError
from assay.rewards.self_verification_metrics import confusion, reflections, verification_metrics, verifies

LEVELS = (1.0, -0.5, -1.0)


def test_a_critic_that_calls_everything_wrong_is_accurate_and_knows_nothing():
    truth = [1.0] * 20 + [-0.5] * 80
    metrics = verification_metrics([-0.5] * 100, truth)
    assert metrics.binary_accuracy == 0.8 == metrics.majority_accuracy
    assert metrics.exact_accuracy == 0.8 == metrics.majority_exact_accuracy
    assert metrics.balanced_accuracy == 0.5
    assert metrics.matthews == 0.0
    assert (metrics.recall, metrics.specificity, metrics.precision, metrics.negative_precision) == (0.0, 1.0, None, 0.8)


def test_worked_counts():
    predicted = [1.0] * 8 + [-0.5] * 2 + [1.0] * 3 + [-0.5] * 5 + [-1.0] * 12
    truth = [1.0] * 10 + [-0.5] * 8 + [-1.0] * 10 + [-0.5] * 2
    metrics = verification_metrics(predicted, truth)
    assert (metrics.true_positives, metrics.false_positives, metrics.false_negatives, metrics.true_negatives) == (8, 3, 2, 17)
    assert metrics.binary_accuracy == pytest.approx(25 / 30) and metrics.exact_accuracy == pytest.approx(23 / 30)
    assert metrics.balanced_accuracy == pytest.approx((0.8 + 0.85) / 2)
    assert metrics.precision == pytest.approx(8 / 11) and metrics.negative_precision == pytest.approx(17 / 19)
    assert metrics.matthews == pytest.approx((8 * 17 - 3 * 2) / np.sqrt(11 * 10 * 20 * 19))
    assert metrics.majority_accuracy == pytest.approx(20 / 30) and metrics.majority_exact_accuracy == pytest.approx(10 / 30)
    assert confusion(predicted, truth)[-1.0, -0.5] == 2 and sum(confusion(predicted, truth).values()) == 30


def test_a_critique_without_a_score_calls_nothing_right_and_is_never_exact():
    metrics = verification_metrics([None, None, 1.0], [1.0, -1.0, 1.0])
    assert metrics.unscored == pytest.approx(2 / 3) and metrics.exact_accuracy == pytest.approx(1 / 3)
    assert metrics.binary_accuracy == pytest.approx(2 / 3) and metrics.recall == 0.5 and metrics.specificity == 1.0
    assert confusion([None, 1.0], [1.0, 1.0]) == {(None, 1.0): 1, (1.0, 1.0): 1}


PAIRS = st.lists(st.tuples(st.sampled_from((*LEVELS, None)), st.sampled_from(LEVELS)), min_size=1, max_size=40)


@given(PAIRS)
def test_metrics_equal_those_of_the_two_columns(pairs):
    metrics = verification_metrics([guess for guess, _ in pairs], [level for _, level in pairs])
    called, right = np.array([[guess == 1.0, level == 1.0] for guess, level in pairs]).T
    assert metrics.binary_accuracy == pytest.approx((called == right).mean())
    assert metrics.majority_accuracy == pytest.approx(max(right.mean(), 1 - right.mean()))
    assert metrics.called_right == pytest.approx(called.mean()) and metrics.right == pytest.approx(right.mean())
    for value, among, of in (
        (metrics.recall, called, right),
        (metrics.specificity, ~called, ~right),
        (metrics.precision, right, called),
        (metrics.negative_precision, ~right, ~called),
    ):
        assert value == (pytest.approx(among[of].mean()) if of.any() else None)
    if 0 < right.sum() < len(right):
        assert metrics.balanced_accuracy == pytest.approx((called[right].mean() + 1 - called[~right].mean()) / 2)
        constant = called.all() or not called.any()
        assert metrics.matthews == pytest.approx(0.0 if constant else np.corrcoef(called, right)[0, 1], abs=1e-12)
        if constant:
            assert metrics.balanced_accuracy == 0.5
    else:
        assert metrics.balanced_accuracy is None and metrics.matthews is None


def test_without_critiques_nothing_is_defined():
    metrics = dataclasses.asdict(verification_metrics([], []))
    assert {name: value for name, value in metrics.items() if value} == {}
    assert metrics["n"] == 0 and metrics["binary_accuracy"] is None


def test_binary_levels():
    metrics = verification_metrics([1.0, 0.0, 0.0], [1.0, 1.0, 0.0], BINARY)
    assert metrics.exact_accuracy == metrics.binary_accuracy == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("predicted", "truth", "words"),
    [([1.0], [1.0, 1.0], "1 critiques but 2"), ([0.0], [1.0], "row 0: predicted 0.0"), ([1.0], [0.0], "truth 0.0")],
)
def test_what_is_no_level_is_refused(predicted, truth, words):
    with pytest.raises(SelfVerificationError, match=words):
        verification_metrics(predicted, truth)


def test_behaviour_counts_whole_words():
    texts = ["Wait, let me verify: 7.", "However, wait. Recheck!", "unverifyable waiting", "7"]
    assert [verifies(text) for text in texts] == [True, True, False, False]
    assert [reflections(text) for text in texts] == [1, 3, 0, 0]  # wait; however, wait, recheck
