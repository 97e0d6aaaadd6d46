"""Corrections of noisy verdicts against the worked numbers of the methods (noisy verifiers A6) and plain loops.

fpr = .1, fnr = .2, so the determinant is .7, unless said otherwise.
"""

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from assay.objectives.advantages import group_zscore, leave_one_out
from assay.objectives.corrections import (
    Audit,
    CorrectionError,
    audit,
    backward,
    backward_advantages,
    backward_process,
    determinant,
    direct,
    forward,
    forward_advantages,
    forward_process,
    leave_one_out_control,
)

FPR, FNR, C = 0.1, 0.2, 0.7
ONE = np.zeros(4, dtype=int)


def test_backward_rewards_have_the_mean_of_the_truth_and_the_worked_variance():
    """A6.1."""
    refused, accepted = backward(np.array([0.0, 1.0]), FPR, FNR)
    assert (accepted, refused) == pytest.approx((1.285714, -0.142857), abs=5e-7)
    right, wrong = 0.8 * accepted + 0.2 * refused, 0.1 * accepted + 0.9 * refused
    assert (right, wrong) == pytest.approx((1, 0), abs=1e-15)
    assert 0.8 * accepted**2 + 0.2 * refused**2 - 1 == pytest.approx(0.326531, abs=5e-7)
    assert 0.1 * accepted**2 + 0.9 * refused**2 == pytest.approx(0.183673, abs=5e-7)


def test_forward_weights_vanish_for_right_answers_and_are_minus_the_determinant_for_wrong_ones():
    """A6.2."""
    refused, accepted = forward(np.array([0.0, 1.0]), FNR)
    assert (refused, accepted) == pytest.approx((-0.8, 0.2))
    assert 0.8 * accepted + 0.2 * refused == pytest.approx(0, abs=1e-15)
    assert 0.1 * accepted + 0.9 * refused == pytest.approx(-0.7)


@given(st.floats(0, 0.999), st.floats(0, 0.999), st.lists(st.sampled_from([0.0, 1.0]), min_size=1, max_size=9))
def test_backward_less_scaled_forward_is_one_at_all_rates(fpr, fnr, observed):
    """A1.11.1: forward over the determinant is backward with the constant baseline 1."""
    assume(1 - fpr - fnr > 1e-3)
    rewards = np.array(observed)
    assert backward(rewards, fpr, fnr) - forward_advantages(rewards, fnr, fpr=fpr, scale="determinant") == pytest.approx(
        np.ones(len(rewards)), abs=1e-9
    )


def test_a_group_with_one_accepted_answer_has_the_worked_advantages():
    """A6.6."""
    observed = np.array([1.0, 0, 0, 0])
    assert leave_one_out_control(observed, ONE) == pytest.approx([1, -1 / 3, -1 / 3, -1 / 3])
    assert backward_advantages(observed, ONE, FPR, FNR) == pytest.approx([1.428571, *[-0.476190] * 3], abs=5e-7)
    assert forward_advantages(observed, FNR) == pytest.approx([0.2, -0.8, -0.8, -0.8])
    assert direct(observed, scale=2.0) == pytest.approx([0.5, 0, 0, 0])
    assert direct([2.5, -0.5], scale=2.0) == pytest.approx([1.25, -0.25])  # nothing is corrected: scores and levels too


def test_one_flip_in_a_right_group_of_eight_has_the_worked_advantages():
    """A2: the z-score blows up what the others take in proportion."""
    observed, groups = np.array([0.0] + [1.0] * 7), np.zeros(8)
    assert group_zscore(observed, groups)[0] == pytest.approx(-2.4749, abs=5e-5)
    assert leave_one_out_control(observed, groups) == pytest.approx([-1, *[1 / 7] * 7])
    assert backward_advantages(observed, groups, FPR, FNR) == pytest.approx([-1.428571, *[0.204082] * 7], abs=5e-7)
    assert forward_advantages(observed, FNR) == pytest.approx([-0.8, *[0.2] * 7])


@pytest.mark.parametrize("size", [2, 3, 7, 8])
@pytest.mark.parametrize(("value", "weight"), [(0.0, -0.8), (1.0, 0.2)])
def test_groups_without_variance_give_exactly_zero_but_forward_does_not(size, value, weight):
    """A6.9."""
    observed, groups = np.full(size, value), np.zeros(size)
    for correct in ({"fpr": FPR, "fnr": FNR}, {"fpr": 0.3, "fnr": 0.1}, {"fpr": np.full(size, 1 / 3), "fnr": np.full(size, 0.1)}):
        assert (backward_advantages(observed, groups, **correct, scale=0.3) == 0).all()
    assert (group_zscore(observed, groups) == 0).all() and (leave_one_out_control(observed, groups) == 0).all()
    assert forward_advantages(observed, FNR) == pytest.approx(np.full(size, weight))


def test_a_group_of_one_keeps_its_corrected_reward():
    """A6.10: its baseline is 0; a z-score of one row divides by 1, not by its deviation of 0."""
    observed, groups = np.array([1.0, 0.0]), np.array(["alone", "also alone"])
    assert backward_advantages(observed, groups, FPR, FNR) == pytest.approx(backward(observed, FPR, FNR), rel=1e-15)
    assert leave_one_out_control(observed, groups).tolist() == [1, 0]
    assert group_zscore(observed, groups, epsilon=0).tolist() == [1, 0]


@given(st.data())
def test_backward_times_determinant_is_the_matched_control_element_by_element(data):
    """A6.8 and A1.11.3: whatever the groups, the default backward correction is the matched control over c."""
    size = data.draw(st.integers(1, 40))
    observed = np.array(data.draw(st.lists(st.sampled_from([0.0, 1.0]), min_size=size, max_size=size)))
    groups = np.array(data.draw(st.lists(st.sampled_from("abcd"), min_size=size, max_size=size)))
    fpr, fnr = data.draw(st.floats(0, 0.45)), data.draw(st.floats(0, 0.45))
    corrected, control = backward_advantages(observed, groups, fpr, fnr), leave_one_out_control(observed, groups)
    lone = np.array([(groups == group).sum() == 1 for group in groups])
    assert corrected[~lone] * (1 - fpr - fnr) == pytest.approx(control[~lone], abs=1e-12)
    assert corrected[lone] == pytest.approx(backward(observed[lone], fpr, fnr))
    found = audit(control[~lone], corrected[~lone])
    if (control[~lone] != 0).any():
        assert found.cosine == pytest.approx(1, abs=1e-12)
        assert found.mean_difference == pytest.approx((1 / (1 - fpr - fnr) - 1) * np.abs(control[~lone]).mean(), abs=1e-12)


@pytest.mark.parametrize("epsilon", [0.0, 1e-6])
def test_a_zscore_after_any_correction_changes_nothing_and_the_audit_says_so(epsilon):
    """A6.7: the recipe of version 3 is a no-op; the default recipe is not."""
    observed, groups = np.random.default_rng(3).integers(0, 2, 512).astype(float), np.repeat(np.arange(64), 8)
    plain = group_zscore(observed, groups, epsilon=epsilon)
    for corrected in (backward(observed, FPR, FNR), forward(observed, FNR), FNR * observed):
        found = audit(plain, group_zscore(corrected, groups, epsilon=epsilon))
        # Epsilon is relative to a smaller or larger deviation: 1e-6 / .2 of an advantage of at most 2.5 is 1.25e-5 / deviation.
        assert found.max_difference < (1e-12 if epsilon == 0 else 1e-4) and found.mean_difference < (1e-12 if epsilon == 0 else 1e-5)
        assert found.cosine == pytest.approx(1, abs=1e-9)
    real = audit(direct(observed), forward_advantages(observed, FNR))
    assert real.mean_difference == pytest.approx(0.8) and real.cosine < 0.5


def test_the_determinant_is_refused_at_zero_or_clamped_and_flagged():
    """A6.14."""
    assert determinant(FPR, FNR) == (pytest.approx(C), False)
    assert determinant(0.4, 0.58, 0.05) == (0.05, True)
    assert determinant(0.9, 0.8, 0.05) == (0.05, True)
    values, clamped = determinant(np.array([0.1, 0.6]), np.array([0.2, 0.6]), 1e-3)
    assert values == pytest.approx([0.7, 1e-3]) and clamped.tolist() == [False, True]
    for fpr, fnr in ((0.5, 0.5), (0.3, 0.7), (0.9, 0.2)):
        with pytest.raises(CorrectionError, match=f"{fpr:g} and false-negative rate {fnr:g}: their sum is not below 1"):
            determinant(fpr, fnr)
        with pytest.raises(CorrectionError, match="their sum is not below 1"):
            backward(np.ones(1), fpr, fnr)
        assert backward(np.ones(1), fpr, fnr, minimum_determinant=0.05) == pytest.approx([(1 - fpr) / 0.05])
    with pytest.raises(CorrectionError, match=r"0\.6 and false-negative rate 0\.5"):
        determinant(np.array([0.1, 0.6]), 0.5)
    nearly = backward_advantages(np.array([1.0, 0, 0, 1]), ONE, 0.5, 0.499)
    assert nearly == pytest.approx(np.array([2, -2, -2, 2]) / 3 / 0.001)


def test_corrections_stay_finite_where_almost_nothing_is_known():
    observed = np.array([1.0, 0.0])
    for fpr, fnr in ((0.0, np.nextafter(1, 0)), (np.nextafter(1, 0), 0.0), (0.999, 0.999)):
        assert np.isfinite(backward(observed, fpr, fnr, minimum_determinant=1e-3)).all()
        for scale in ("determinant", "one_minus_false_negative_rate"):
            assert np.abs(forward_advantages(observed, fnr, fpr=fpr, scale=scale, minimum_determinant=1e-3)).max() <= 1e3


def test_halving_the_determinant_quadruples_the_variance():
    """A6.16: the share of accepted answers is .45 in both channels, half of all answers being right."""
    generator, variances = np.random.default_rng(0), []
    for fpr, fnr in ((0.1, 0.2), (0.275, 0.375)):
        right = generator.random(400_000) < 0.5
        observed = np.where(right, generator.random(400_000) >= fnr, generator.random(400_000) < fpr)
        variances.append(backward(observed, fpr, fnr).var())
        assert variances[-1] == pytest.approx(0.45 * 0.55 / (1 - fpr - fnr) ** 2, rel=0.01)
    assert variances[1] / variances[0] == pytest.approx(4, rel=0.01)


def test_forward_scales_and_baselines_are_what_they_say():
    observed, rates = np.array([1.0, 0.0]), {"fnr": FNR, "fpr": FPR}
    assert forward_advantages(observed, **rates, scale="determinant") == pytest.approx([0.2 / 0.7, -0.8 / 0.7])
    assert forward_advantages(observed, **rates, scale="one_minus_false_negative_rate") == pytest.approx([0.25, -1])
    assert forward_advantages(observed, FNR, scale=4.0, baseline=-0.35) == pytest.approx([0.1375, -0.1125])
    assert forward_advantages(observed, FNR, baseline=np.array([0.2, -0.8])) == pytest.approx([0, 0])


@given(st.integers(0, 2**32 - 1))
def test_rows_of_several_channels_equal_each_channel_on_its_own(seed):
    generator = np.random.default_rng(seed)
    groups = generator.permutation(np.repeat(np.arange(5), 6))
    observed = generator.integers(0, 2, 30).astype(float)
    fprs, fnrs, scales = generator.uniform(0, 0.45, 5), generator.uniform(0, 0.45, 5), generator.uniform(0.5, 2, 5)
    rows = {"fpr": fprs[groups], "fnr": fnrs[groups], "scale": scales[groups]}
    together = backward_advantages(observed, groups, **rows)
    weights = forward_advantages(observed, rows["fnr"], fpr=rows["fpr"], scale="determinant")
    for group, (fpr, fnr, scale) in enumerate(zip(fprs, fnrs, scales, strict=True)):
        mine = groups == group
        own = (observed[mine] - fpr) / (1 - fpr - fnr)
        others = np.array([np.delete(own, i).mean() for i in range(6)])
        assert together[mine] == pytest.approx((own - others) / scale, abs=1e-9)
        assert weights[mine] == pytest.approx((observed[mine] - 1 + fnr) / (1 - fpr - fnr), abs=1e-9)


def test_the_audit_of_rows_weighted_by_tokens_is_that_of_their_tokens():
    generator = np.random.default_rng(5)
    control, corrected, lengths = generator.normal(size=20), generator.normal(size=20), generator.integers(0, 12, 20)
    mask = np.arange(12) < lengths[:, None]
    tokens = audit(np.tile(control[:, None], 12), np.tile(corrected[:, None], 12), mask)
    rows = audit(control, corrected, weights=lengths)
    assert (rows.mean_difference, rows.max_difference, rows.cosine) == pytest.approx(
        (tokens.mean_difference, tokens.max_difference, tokens.cosine), rel=1e-12
    )
    flat = np.repeat(control, lengths), np.repeat(corrected, lengths)
    assert tokens.mean_difference == pytest.approx(np.abs(flat[1] - flat[0]).mean())
    assert tokens.max_difference == np.abs(flat[1] - flat[0]).max()
    assert tokens.cosine == pytest.approx(flat[0] @ flat[1] / np.linalg.norm(flat[0]) / np.linalg.norm(flat[1]))


def test_the_audit_reads_no_masked_value_and_has_no_cosine_with_zeros():
    broken = np.array([1.0, np.nan]), np.array([2.0, np.inf])
    assert audit(*broken, np.array([True, False])) == Audit(1.0, 1.0, 1.0)
    assert audit(np.zeros(3), np.full(3, -0.8)) == Audit(pytest.approx(0.8), pytest.approx(0.8), None)
    assert audit(torch.ones(2), -torch.ones(2)) == Audit(2.0, 2.0, pytest.approx(-1))
    assert audit(np.ones(2), np.ones(2), np.zeros(2)) == Audit(None, None, None) == audit(np.array([]), np.array([]))
    with pytest.raises(CorrectionError, match="not finite"):
        audit(*broken)
    with pytest.raises(CorrectionError, match="must have one shape"):
        audit(np.ones(2), np.ones((2, 1)))
    with pytest.raises(CorrectionError, match="not negative"):
        audit(np.ones(2), np.ones(2), weights=np.array([1.0, -1.0]))


STEPS = np.array([[1.0, 0, 1], [0, 1, np.nan], [1, np.nan, np.nan]])
EXISTS = np.array([[1, 1, 1], [1, 1, 0], [1, 0, 0]], dtype=bool)
ENDS = np.array([[1, 3, 5], [0, 4, -1], [2, 99, -7]])
TOKENS = np.array([[1, 1, 1, 0, 1, 1], [1, 1, 1, 1, 1, 0], [1, 1, 1, 0, 0, 0]], dtype=bool)


def test_step_advantages_are_returns_to_go_of_corrected_steps_by_hand():
    """A1.6. Corrected rewards: 1.285714 and -.142857; step baselines: means of the other rows that have the step."""
    plus, minus = 0.9 / 0.7, -0.1 / 0.7
    first = [plus - (minus + plus) / 2, minus - plus, plus - (minus + plus) / 2]
    second = [minus - plus, plus - minus]
    third = plus  # no other row has a third step
    expected = np.zeros((3, 6))
    expected[0] = [first[0] + second[0] + third] * 2 + [second[0] + third, 0, third, third]  # token 3 is masked, its step counts
    expected[1] = [first[1] + second[1], *[second[1]] * 4, 0]
    expected[2] = [first[2]] * 3 + [0] * 3
    assert backward_process(STEPS, EXISTS, ENDS, TOKENS, np.zeros(3), FPR, FNR, scale=1.0) == pytest.approx(expected)
    historical = backward_process(STEPS, EXISTS, ENDS, TOKENS, np.zeros(3), FPR, FNR, baseline=np.array([0.5, 0.25, 0]), scale=2.0)
    whole, later = (2 * plus + minus - 0.75) / 2, (minus + plus - 0.25) / 2
    assert historical[0] == pytest.approx([whole, whole, later, 0, plus / 2, plus / 2])
    weights = forward_process(STEPS, EXISTS, ENDS, TOKENS, FNR)
    assert weights == pytest.approx(np.array([[-0.4, -0.4, -0.6, 0, 0.2, 0.2], [-0.6, 0.2, 0.2, 0.2, 0.2, 0], [0.2, 0.2, 0.2, 0, 0, 0]]))


def test_one_step_at_the_end_is_the_outcome_correction_constant_over_unmasked_tokens():
    """A6.15: all sampled tokens of a response share one advantage, all others have none."""
    generator = np.random.default_rng(8)
    observed, groups = generator.integers(0, 2, 12).astype(float), np.repeat([0, 1, 2], 4)
    lengths = generator.integers(1, 7, 12)
    tokens = (np.arange(8) < lengths[:, None]) & (generator.random((12, 8)) < 0.8)
    steps = (observed[:, None], np.ones((12, 1), bool), lengths[:, None] - 1, tokens)
    rates = generator.uniform(0, 0.4, 12), generator.uniform(0, 0.4, 12)
    backwards = backward_process(*steps, groups, *rates, scale=0.7)
    assert backwards == pytest.approx(np.where(tokens, backward_advantages(observed, groups, *rates, scale=0.7)[:, None], 0))
    forwards = forward_process(*steps, rates[1], fpr=rates[0], scale="determinant", baseline=0.1)
    expected = forward_advantages(observed, rates[1], fpr=rates[0], scale="determinant", baseline=0.1)
    assert forwards == pytest.approx(np.where(tokens, expected[:, None], 0))
    assert (~tokens).any() and (backwards[~tokens] == 0).all() and (forwards[~tokens] == 0).all()


@given(st.integers(0, 2**32 - 1))
def test_step_advantages_equal_a_loop_over_rows_steps_and_tokens(seed):
    generator = np.random.default_rng(seed)
    rows, most, length = 9, 4, 11
    counts, groups = generator.integers(0, most + 1, rows), generator.integers(0, 3, rows)
    rewards, exists = generator.integers(0, 2, (rows, most)).astype(float), np.arange(most) < counts[:, None]
    ends, tokens = np.sort(generator.integers(0, length, (rows, most)), axis=1), generator.random((rows, length)) < 0.7
    corrected, expected = (rewards - FPR) / C, np.zeros((rows, length))
    for i, t in np.ndindex(rows, length):
        for j in range(counts[i]):
            others = [corrected[k, j] for k in range(rows) if k != i and groups[k] == groups[i] and exists[k, j]]
            if tokens[i, t] and ends[i, j] >= t:
                expected[i, t] += (corrected[i, j] - (np.mean(others) if others else 0)) / 0.5
    assert backward_process(rewards, exists, ends, tokens, groups, FPR, FNR, scale=0.5) == pytest.approx(expected, abs=1e-12)


def test_torch_and_numpy_agree_and_keep_their_types():
    observed, groups = np.random.default_rng(2).integers(0, 2, 24), np.repeat(np.arange(3), 8)
    calls = {
        "backward": lambda x, g: backward(x, FPR, FNR),
        "backward_advantages": lambda x, g: backward_advantages(x, g, FPR, FNR, scale=0.5),
        "forward": lambda x, g: forward(x, FNR),
        "forward_advantages": lambda x, g: forward_advantages(x, FNR, fpr=FPR, scale="determinant"),
        "direct": lambda x, g: direct(x, scale=0.5),
        "control": lambda x, g: leave_one_out_control(x, g, scale=0.5),
    }
    for name, call in calls.items():
        exact = call(observed.astype(np.float64), groups)
        assert exact.dtype == np.float64 and np.abs(exact).max() > 0
        assert call(observed.astype(bool), groups) == pytest.approx(exact, rel=1e-15), name
        assert call(observed.astype(np.float32), groups).dtype == np.float32
        for dtype, result in ((torch.float64, torch.float64), (torch.float32, torch.float32), (torch.int64, torch.float32)):
            tensor = call(torch.tensor(observed, dtype=dtype), torch.tensor(groups))
            assert tensor.dtype == result, name
            assert tensor.numpy() == pytest.approx(exact, rel=1e-15 if result == torch.float64 else 1e-6), name
    rates = torch.full((24,), FPR, dtype=torch.float64), torch.full((24,), FNR, dtype=torch.float64)
    per_row = backward_advantages(torch.tensor(observed, dtype=torch.float64), torch.tensor(groups), *rates)
    assert per_row.numpy() == pytest.approx(leave_one_out(observed.astype(float), groups) / C)
    steps = [torch.tensor(x) for x in (np.nan_to_num(STEPS).astype(np.float32), EXISTS, ENDS, TOKENS)]
    tokens = backward_process(*steps, torch.zeros(3), FPR, FNR)
    assert tokens.dtype == torch.float32 and tokens.shape == (3, 6)
    assert tokens.numpy() == pytest.approx(backward_process(STEPS, EXISTS, ENDS, TOKENS, np.zeros(3), FPR, FNR), abs=1e-6)


def test_a_batch_without_rows_has_no_advantages():
    nothing = np.zeros(0)
    assert backward_advantages(nothing, nothing, FPR, FNR).shape == (0,)
    assert forward_advantages(nothing, FNR).shape == (0,) and direct(nothing).shape == (0,)
    none = np.zeros((0, 0))
    assert backward_process(none, none, none.astype(int), np.zeros((0, 5)), nothing, FPR, FNR).shape == (0, 5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: backward(np.array([1.0, np.nan]), FPR, FNR), "row 1: a reward is nan"),
        (lambda: backward(np.array([np.inf]), FPR, FNR), "row 0: a reward is inf"),
        (lambda: forward(np.array([0.0, -1.0]), FNR), "row 1: a reward is -1.0"),
        (lambda: backward(np.ones((2, 2)), FPR, FNR), r"shape \(2, 2\), expected \(rows,\)"),
        (lambda: direct(np.float64(1)), r"shape \(\), expected \(rows,\)"),
        (lambda: backward(np.ones(2), -0.1, FNR), "false-positive rate is -0.1"),
        (lambda: backward(np.ones(2), 1.0, 0.0), "false-positive rate is 1.0"),
        (lambda: backward(np.ones(2), 1.0, 0.0, minimum_determinant=0.05), "false-positive rate is 1.0"),
        (lambda: forward(np.ones(2), 1.0), "false-negative rate is 1.0"),
        (lambda: forward(np.ones(2), np.nan), "false-negative rate is nan"),
        (lambda: forward(np.ones(2), np.array([0.1, 1.5])), "false-negative rate is 1.5"),
        (lambda: forward(np.ones(2), np.full((2, 1), 0.1)), r"false-negative rate is of shape \(2, 1\)"),
        (lambda: backward(np.ones(2), np.full(3, 0.1), FNR), "one for each of the 2 rows"),
        (lambda: backward(np.ones(2), np.full(2, 0.1), np.full(3, 0.1)), "2 false-positive and 3 false-negative rates"),
        (lambda: determinant(FPR, FNR, -0.1), "the minimum of a determinant is -0.1"),
        (lambda: backward_advantages(np.ones(2), np.ones(3), FPR, FNR), r"groups \(3,\); both must be"),
        (lambda: backward_advantages(np.ones(2), np.ones(2), FPR, FNR, scale=0.0), "scale is 0, expected a number above 0"),
        (lambda: backward_advantages(np.ones(2), np.ones(2), FPR, FNR, scale="ema"), "scale is 'ema', expected finite"),
        (lambda: forward_advantages(np.ones(2), FNR, scale="group"), "scale is 'group'"),
        (lambda: forward_advantages(np.ones(2), FNR, scale=np.inf), "expected finite numbers"),
        (lambda: forward_advantages(np.ones(2), FNR, baseline=np.ones(3)), r"baselines have shape \(3,\)"),
        (lambda: forward_advantages(np.ones(2), 0.95, fpr=0.05, scale="determinant"), "their sum is not below 1"),
        (lambda: backward_process(np.ones(2), EXISTS, ENDS, TOKENS, np.zeros(2), FPR, FNR), r"must all be \(rows, steps\)"),
        (lambda: backward_process(STEPS, EXISTS, ENDS, TOKENS, np.zeros(2), FPR, FNR), "one id for each row of step rewards"),
        (lambda: forward_process(STEPS, EXISTS, ENDS, TOKENS[:2], FNR), r"token mask has shape \(2, 6\)"),
        (lambda: forward_process(STEPS, np.ones((3, 3)), ENDS, TOKENS, FNR), "row 1: a step reward is nan"),
        (lambda: forward_process(np.ones((3, 3)), np.ones((3, 3)), ENDS, TOKENS, FNR), "row 1, step 2: boundary -1 is outside its 6"),
        (lambda: forward_process(STEPS, EXISTS, ENDS / 2, TOKENS, FNR), "boundaries are float64"),
        (lambda: forward_process(STEPS, EXISTS, ENDS, TOKENS, FNR, baseline=np.ones(2)), "baseline: .* expected a number"),
    ],
)
def test_what_cannot_be_corrected_is_refused_with_the_reason(call, message):
    with pytest.raises(CorrectionError, match=message):
        call()
