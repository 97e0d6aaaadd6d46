"""Advantages against the worked numbers of the methods (shared core 1.6; noisy verifiers A6) and plain loops."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from assay.objectives.advantages import (
    AdvantageError,
    group_zscore,
    leave_one_out,
    reinforce_plus_plus,
    returns_to_go,
    whiten,
)


def test_zscore_worked_numbers():
    assert group_zscore(np.array([1.0, 0, 0, 1]), np.zeros(4)) == pytest.approx(
        [0.8660, -0.8660, -0.8660, 0.8660], abs=5e-5
    )
    mixed = group_zscore(np.array([4 / 3, 1, 0, -0.3]), np.zeros(4))
    assert mixed == pytest.approx([1.0551, 0.6288, -0.6501, -1.0338], abs=5e-5)
    assert group_zscore(np.array([0.7]), np.zeros(1)) == pytest.approx([0.7 / (1 + 1e-6)], rel=1e-12)


@pytest.mark.parametrize(("correct", "up", "down"), [(1, 2.4749, -0.3536), (4, 0.9354, -0.9354), (7, 0.3536, -2.4749)])
def test_zscore_of_eight(correct, up, down):
    advantages = group_zscore(np.array([1.0] * correct + [0.0] * (8 - correct)), np.zeros(8))
    assert advantages[0] == pytest.approx(up, abs=5e-5)
    assert advantages[-1] == pytest.approx(down, abs=5e-5)


def test_dr_grpo_divides_by_nothing():
    assert group_zscore(np.array([1.0, 0, 0, 0]), np.zeros(4), divide_by_std=False) == pytest.approx(
        [0.75, -0.25, -0.25, -0.25]
    )


@pytest.mark.parametrize("reward", [0.0, 1.0, 0.1, -0.3, 1e6])
@pytest.mark.parametrize("size", [2, 3, 7, 8])
def test_equal_rewards_give_exactly_zero(reward, size):
    # 0.1 + 0.1 + 0.1 is not 3 x 0.1 in binary: a mean taken naively leaves a rest that the epsilon would blow up.
    rewards = np.full(size, reward)
    for epsilon in (1e-6, 0.0):
        assert (group_zscore(rewards, np.zeros(size), epsilon=epsilon) == 0).all()
    assert (leave_one_out(rewards, np.zeros(size)) == 0).all()


def test_leave_one_out_worked_numbers():
    assert leave_one_out(np.array([1.0, 0, 0, 0]), np.zeros(4)) == pytest.approx([1, -1 / 3, -1 / 3, -1 / 3])
    corrected = leave_one_out((np.array([1.0, 0, 0, 0]) - 0.1) / 0.7, np.zeros(4))
    assert corrected == pytest.approx([1.428571, -0.476190, -0.476190, -0.476190], abs=5e-7)
    assert leave_one_out(np.array([0.4]), np.zeros(1)) == pytest.approx([0.4])


def test_conditional_expectation_over_flips():
    """A6.5: rewards (1,0,0,1) seen through a channel that loses 20 % of the ones and gains 10 %."""
    true = np.array([1, 0, 0, 1])
    expected_loo, expected_z = np.zeros(4), np.zeros(4)
    for observed in itertools.product((0, 1), repeat=4):
        chance = math.prod(
            (0.8 if o else 0.2) if t else (0.1 if o else 0.9) for t, o in zip(true, observed, strict=True)
        )
        rewards = np.array(observed, dtype=float)
        expected_loo += chance * leave_one_out(rewards, np.zeros(4))
        expected_z += chance * group_zscore(rewards, np.zeros(4), epsilon=0) * math.sqrt(4 / 3)  # population deviation
    assert expected_loo == pytest.approx(np.array([2, -2, -2, 2]) / 3 * 0.7)
    assert expected_z == pytest.approx(np.array([1, -1, -1, 1]) * 0.728155, abs=1e-6)


def test_zscore_ignores_affine_corrections():
    """A6.7: correcting rewards before a z-score changes nothing."""
    rewards = np.random.default_rng(0).integers(0, 2, 64).astype(float)
    groups = np.repeat(np.arange(8), 8)
    plain = group_zscore(rewards, groups)
    for corrected in ((rewards - 0.1) / 0.7, rewards - 0.8, 0.2 * rewards):
        assert np.abs(group_zscore(corrected, groups) - plain).max() < 5e-5


@given(
    st.lists(st.tuples(st.sampled_from("abcde"), st.floats(-10, 10)), min_size=1, max_size=40),
    st.randoms(use_true_random=False),
)
def test_groups_of_any_size_and_order_equal_a_loop(rows, shuffler):
    shuffler.shuffle(rows)
    groups, rewards = np.array([g for g, _ in rows]), np.array([r for _, r in rows])
    z, loo = group_zscore(rewards, groups), leave_one_out(rewards, groups)
    for name in set(groups):
        own = rewards[groups == name]
        if len(own) == 1:
            assert z[groups == name] == pytest.approx(own / (1 + 1e-6))
            assert loo[groups == name] == pytest.approx(own)
        else:
            deviation = own.std(ddof=1)
            assert z[groups == name] == pytest.approx((own - own.mean()) / (deviation + 1e-6), abs=1e-6, rel=1e-6)
            others = np.array([np.delete(own, i).mean() for i in range(len(own))])
            assert loo[groups == name] == pytest.approx(own - others, abs=1e-9)


def test_returns_to_go_worked_numbers():
    rewards = np.array([[0, 0, 0.4, 0, 0, -0.2, 0, 1]])
    full = np.ones_like(rewards, dtype=bool)
    assert returns_to_go(rewards, full) == pytest.approx(np.array([[1.2, 1.2, 1.2, 0.8, 0.8, 0.8, 1, 1]]))
    assert returns_to_go(np.array([[0.0, 0, 1]]), np.ones((1, 3), bool), gamma=0.5) == pytest.approx(
        np.array([[0.25, 0.5, 1]])
    )


def test_returns_pass_over_inserted_tokens():
    rewards, mask = np.array([[0.0, 0, 9, 0, 1]]), np.array([[True, True, False, False, True]])
    assert returns_to_go(rewards, mask, gamma=0.5) == pytest.approx(np.array([[0.25, 0.5, 0, 0, 1]]))


def test_whitening():
    generator = np.random.default_rng(1)
    values, mask = generator.normal(3, 5, (6, 9)), generator.random((6, 9)) < 0.7
    white = whiten(values, mask)
    assert white[mask].mean() == pytest.approx(0, abs=1e-12)
    assert white[mask].var(ddof=1) == pytest.approx(1)
    assert (white[~mask] == 0).all()


@pytest.mark.parametrize("unmasked", [0, 1])
def test_whitening_without_variance_raises(unmasked):
    mask = np.zeros((2, 3), dtype=bool)
    mask.flat[:unmasked] = True
    with pytest.raises(AdvantageError, match="at least 2 unmasked tokens"):
        reinforce_plus_plus(np.ones((2, 3)), mask)


def test_reinforce_plus_plus_is_constant_over_a_row_without_discount():
    rewards, mask = np.zeros((3, 4)), np.array([[1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 1, 0]], dtype=bool)
    rewards[0, 3], rewards[1, 1] = 1.0, 1.0
    advantages = reinforce_plus_plus(rewards, mask)
    # 9 tokens, 6 of them of right rows: mean 2/3, unbiased variance (6 x 1/9 + 3 x 4/9) / 8 = 1/4.
    assert advantages[0] == pytest.approx(np.full(4, (1 / 3) / 0.5), abs=1e-7)
    assert advantages[2] == pytest.approx([-(2 / 3) / 0.5] * 3 + [0], abs=1e-7)


def test_torch_in_torch_out():
    rewards = torch.tensor([1.0, 0, 0, 1], dtype=torch.float32)
    advantages = group_zscore(rewards, torch.tensor([7, 7, 7, 7]))
    assert isinstance(advantages, torch.Tensor) and advantages.dtype == torch.float32
    assert leave_one_out(torch.tensor([1, 0]), torch.tensor([0, 0])).tolist() == [1.0, -1.0]
    white = reinforce_plus_plus(torch.rand(2, 3), torch.ones(2, 3, dtype=torch.bool))
    assert white.shape == (2, 3)


@pytest.mark.parametrize(
    ("rewards", "groups", "message"),
    [
        ([1.0, math.nan], [0, 0], "row 1: reward nan"),
        ([1.0, 0.0], [0], "both must be"),
        ([[1.0], [0.0]], [0, 0], "both must be"),
    ],
)
def test_bad_input(rewards, groups, message):
    with pytest.raises(AdvantageError, match=message):
        group_zscore(np.array(rewards), np.array(groups))
