"""Generalized advantages, token rewards and the critic's loss: worked numbers (RISE B6.5-7, shared core 1.4, 1.6) and plain loops."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from assay.objectives.advantages import (
    AdvantageError,
    generalized_advantage,
    reinforce_plus_plus,
    returns_to_go,
    token_rewards,
    whiten,
)
from assay.objectives.critic import CriticError, clipped_value, explained_variance
from assay.objectives.policy import clipped, denominator, numerator

FULL = np.ones((1, 3), dtype=bool)


def test_gae_worked_numbers_of_rise():
    advantages, returns = generalized_advantage(np.array([[0.0, 0, 1]]), np.array([[0.2, 0.4, 0.5]]), FULL)
    assert advantages == pytest.approx(np.array([[0.8, 0.6, 0.5]]))
    assert returns == pytest.approx(np.ones((1, 3)))


def test_gae_subtracts_a_penalty_of_each_token_from_there_on():
    penalties = np.array([[0.01, -0.02, 0.03]])
    rewards = token_rewards(np.array([1.0]), FULL, penalties=penalties)
    advantages, _ = generalized_advantage(rewards, np.array([[0.2, 0.4, 0.5]]), FULL)
    assert advantages == pytest.approx(np.array([[1 - 0.02 - 0.2, 1 - 0.01 - 0.4, 1 - 0.03 - 0.5]]))


def test_one_step_advantages_are_the_temporal_differences():
    rewards, values = np.array([[0.5, 0, 1]]), np.array([[0.2, 0.4, 0.5]])
    advantages, returns = generalized_advantage(rewards, values, FULL, gamma=0.9, lam=0.0)
    assert advantages == pytest.approx(np.array([[0.5 + 0.36 - 0.2, 0.45 - 0.4, 0.5]]))
    assert returns == pytest.approx(advantages + values)


@st.composite
def batches(draw):
    rows, tokens = draw(st.integers(1, 4)), draw(st.integers(1, 7))
    number = st.lists(st.floats(-3, 3), min_size=rows * tokens, max_size=rows * tokens)
    rewards, values = (np.array(draw(number)).reshape(rows, tokens) for _ in range(2))
    mask = np.array(draw(st.lists(st.booleans(), min_size=rows * tokens, max_size=rows * tokens))).reshape(rows, tokens)
    return rewards, values, mask


@given(batches(), st.floats(0, 1), st.floats(0, 1))
def test_gae_equals_the_sum_of_discounted_differences_of_the_unmasked_tokens(batch, gamma, lam):
    rewards, values, mask = batch
    advantages, returns = generalized_advantage(rewards, values, mask, gamma=gamma, lam=lam)
    for row in range(len(rewards)):
        r, v = rewards[row][mask[row]], np.append(values[row][mask[row]], 0.0)
        delta = r + gamma * v[1:] - v[:-1]
        expected = [sum((gamma * lam) ** k * delta[t + k] for k in range(len(r) - t)) for t in range(len(r))]
        assert advantages[row][mask[row]] == pytest.approx(np.array(expected), abs=1e-9)
        assert returns[row][mask[row]] == pytest.approx(np.array(expected) + v[:-1], abs=1e-9)
    assert (advantages[~mask] == 0).all() and (returns[~mask] == 0).all()


@given(batches())
def test_undiscounted_gae_is_the_return_minus_the_value(batch):
    rewards, values, mask = batch
    advantages, returns = generalized_advantage(rewards, values, mask)
    assert advantages == pytest.approx(np.where(mask, returns_to_go(rewards, mask) - values, 0), abs=1e-9)
    assert returns == pytest.approx(returns_to_go(rewards, mask), abs=1e-9)


@given(batches(), st.floats(0, 1), st.floats(0, 1), st.data())
def test_rows_of_different_lengths_are_computed_as_if_they_were_padded(batch, gamma, lam, data):
    rewards, values, mask = batch
    lengths = np.array([data.draw(st.integers(0, mask.shape[1])) for _ in range(len(mask))])
    there = np.arange(mask.shape[1]) < lengths[:, None]
    offsets, padded = np.concatenate([[0], np.cumsum(lengths)]), mask & there
    ragged = [part[there] for part in (rewards, values, mask)]
    found = generalized_advantage(*ragged, gamma=gamma, lam=lam, offsets=offsets)
    for own, other in zip(found, generalized_advantage(rewards, values, padded, gamma=gamma, lam=lam), strict=True):
        assert (own == other[there]).all() and (other[~padded] == 0).all()
    assert (returns_to_go(ragged[0], ragged[2], gamma, offsets=offsets) == returns_to_go(rewards, padded, gamma)[there]).all()
    outcomes = np.arange(len(mask)) + 1.0
    own = token_rewards(outcomes, ragged[2], steps=ragged[0], offsets=offsets)
    assert (own == token_rewards(outcomes, padded, steps=rewards)[there]).all()
    assert own.sum() == pytest.approx(outcomes[padded.any(1)].sum() + rewards[padded].sum())


def test_rows_of_different_lengths_must_have_as_many_tokens_as_are_given():
    with pytest.raises(AdvantageError, match=r"the mask has shape \(3,\) and its rows 4 tokens"):
        returns_to_go(np.zeros(3), np.ones(3, bool), offsets=np.array([0, 4]))


def test_what_is_masked_has_no_effect_whatever_it_is():
    rewards, values = np.array([[0.0, np.nan, 1, np.inf]]), np.array([[0.2, np.nan, 0.5, -np.inf]])
    mask = np.array([[True, False, True, False]])
    advantages, returns = generalized_advantage(rewards, values, mask, gamma=0.5)
    assert advantages == pytest.approx(np.array([[0.5 * 1 - 0.2, 0, 0.5, 0]]))
    assert returns == pytest.approx(np.array([[0.5, 0, 1, 0]]))
    shaped = token_rewards(np.array([1.0]), mask, steps=rewards, penalties=np.array([[0.1, np.nan, 0.2, 0.3]]))
    assert shaped == pytest.approx(np.array([[-0.1, 0, 1.8, 0]]))


def test_gae_of_tensors_keeps_their_type():
    rewards = torch.tensor([[0.0, 1.0]], dtype=torch.float32)
    advantages, returns = generalized_advantage(rewards, torch.tensor([[0.25, 0.5]]), torch.ones(1, 2, dtype=torch.bool))
    assert advantages.dtype == returns.dtype == torch.float32
    assert advantages.tolist() == [[0.75, 0.5]] and returns.tolist() == [[1.0, 1.0]]


@pytest.mark.parametrize(
    ("rewards", "values", "options", "words"),
    [
        ([[0.0, 1.0]], [[0.0]], {}, "must be equal"),
        ([[np.nan, 1.0]], [[0.0, 0.0]], {}, "unmasked reward is not finite"),
        ([[0.0, 1.0]], [[0.0, np.inf]], {}, "unmasked value is not finite"),
        ([[0.0, 1.0]], [[0.0, 0.0]], {"gamma": 1.1}, "gamma is 1.1"),
        ([[0.0, 1.0]], [[0.0, 0.0]], {"lam": -0.1}, "lam is -0.1"),
    ],
)
def test_gae_refuses(rewards, values, options, words):
    with pytest.raises(AdvantageError, match=words):
        generalized_advantage(np.array(rewards), np.array(values), np.ones((1, 2), bool), **options)


def test_reinforce_plus_plus_sees_the_rewards_of_steps():
    steps = np.array([[0, 0, 0.4, 0, 0, -0.2, 0, 0]])
    mask = np.ones((1, 8), dtype=bool)
    shaped = token_rewards(np.array([1.0]), mask, steps=steps)
    expected = np.array([[1.2, 1.2, 1.2, 0.8, 0.8, 0.8, 1, 1]])
    assert returns_to_go(shaped, mask) == pytest.approx(expected)
    advantages = reinforce_plus_plus(shaped, mask)
    assert advantages == pytest.approx((expected - expected.mean()) / expected.std(ddof=1), rel=1e-6)
    assert np.unique(advantages.round(9)).tolist() != [0.0]


def test_without_steps_the_token_rewards_are_the_outcome_alone():
    mask = np.array([[1, 1, 0, 1, 0], [1, 0, 0, 0, 0], [0, 0, 0, 0, 0]], dtype=bool)
    rewards = token_rewards(np.array([1.0, -0.5, 9.0]), mask)
    assert rewards.tolist() == [[0, 0, 0, 1, 0], [-0.5, 0, 0, 0, 0], [0, 0, 0, 0, 0]]
    assert (token_rewards(np.array([1.0, -0.5, 9.0]), mask, steps=np.zeros((3, 5))) == rewards).all()


def test_token_rewards_refuse_what_does_not_fit():
    with pytest.raises(AdvantageError, match="one outcome for each row"):
        token_rewards(np.array([1.0, 2.0]), FULL)
    with pytest.raises(AdvantageError, match="must be equal"):
        token_rewards(np.array([1.0]), FULL, steps=np.zeros((1, 2)))
    with pytest.raises(AdvantageError, match="row 0: a token's reward is not finite"):
        token_rewards(np.array([np.nan]), FULL)


def test_whitening_takes_solutions_and_critiques_together():
    """B6.6: mean 0 and unbiased variance 1 over the union of both kinds; padding has no effect."""
    generator = np.random.default_rng(0)
    solutions, critiques = generator.normal(0.2, 1, (6, 5)), generator.normal(3, 0.5, (3, 5))
    both, mask = np.concatenate([solutions, critiques]), generator.random((9, 5)) < 0.8
    white = whiten(both, mask)
    assert white[mask].mean() == pytest.approx(0, abs=1e-12) and white[mask].var(ddof=1) == pytest.approx(1)
    assert abs(white[:6][mask[:6]].mean()) > 0.5  # each kind alone is not centred: the reward level of one moves the other
    padded = whiten(np.pad(both, ((0, 2), (0, 3)), constant_values=7.0), np.pad(mask, ((0, 2), (0, 3))))
    assert (padded[:9, :5] == white).all()


def value_loss(value, old, target, clip):
    values = torch.tensor([[float(value)]], dtype=torch.float64, requires_grad=True)
    out = clipped_value(values, torch.tensor([[float(old)]]), torch.tensor([[float(target)]]), clip=clip)
    (gradient,) = torch.autograd.grad(out.loss.sum(), values)
    return out.loss.item(), gradient.item(), out.clipped.item()


@pytest.mark.parametrize(
    ("value", "old", "target", "clip", "loss", "gradient", "active"),
    [
        (1, 0, 1, 0.5, 0.125, 0.0, True),  # the worked number: max(0, .25) / 2
        (1, 0, 1, None, 0.0, 0.0, False),
        (0.3, 0, 1, 0.5, 0.245, -0.7, False),  # within the range: the plain error
        (1, 0, -1, 0.5, 2.0, 2.0, False),  # moved away from the return: the larger, plain error pulls it back
        (-1, 0, -2, 0.5, 1.125, 0.0, True),
    ],
)
def test_value_loss(value, old, target, clip, loss, gradient, active):
    seen = value_loss(value, old, target, clip)
    assert seen[0] == pytest.approx(loss) and seen[1] == pytest.approx(gradient) and seen[2] is active


def test_clipping_never_lowers_the_loss_and_never_reverses_the_gradient():
    value, old, target = torch.from_numpy(np.random.default_rng(0).uniform(-3, 3, (3, 5000, 1)))
    value.requires_grad_()
    out = clipped_value(value, old, target, clip=0.7)
    (gradient,) = torch.autograd.grad(out.loss.sum(), value)
    plain = value - target
    assert (out.loss >= 0.5 * plain**2 - 1e-12).all()
    assert torch.allclose(gradient, torch.where(out.clipped, 0.0, plain), atol=1e-12)
    assert 0.1 < out.clipped.double().mean().item() < 0.9


def test_value_loss_is_a_mean_over_unmasked_tokens():
    values, old, returns = torch.tensor([[1.0, 2, 50]]), torch.zeros(1, 3), torch.tensor([[1.0, 0, 0]])
    mask = torch.tensor([[True, True, False]])
    loss = clipped_value(values, old, returns, clip=0.5).loss
    mean = numerator(loss, mask, "token_mean") / denominator("token_mean", rows=1, tokens=2, max_tokens=3)
    assert mean.item() == pytest.approx((0.125 + 2.0) / 2)


def test_critics_that_do_not_fit_are_refused():
    with pytest.raises(CriticError, match="differ"):
        clipped_value(torch.zeros(1, 2), torch.zeros(1, 2), torch.zeros(1, 3))
    with pytest.raises(CriticError, match="clip of values is 0"):
        clipped_value(torch.zeros(1, 2), torch.zeros(1, 2), torch.zeros(1, 2), clip=0.0)
    with pytest.raises(CriticError, match="differ"):
        explained_variance(torch.zeros(1, 2), torch.zeros(1, 2), torch.ones(1, 3))


def test_explained_variance():
    returns, mask = torch.tensor([[0.0, 1, 0, 1, 9]]), torch.tensor([[True, True, True, True, False]])
    assert explained_variance(returns, returns, mask) == 1.0
    assert explained_variance(torch.full((1, 5), 0.3), returns, mask) == pytest.approx(0.0)
    assert explained_variance(1 - returns, returns, mask) == pytest.approx(-3.0)
    assert explained_variance(returns, torch.ones(1, 5), mask) is None
    assert explained_variance(returns, returns, torch.tensor([[True, False, False, False, False]])) is None


def test_critiques_of_zero_advantage_give_no_gradient():
    """B6.10: the rows of critiques, whose prompts hold the solutions, are moved by their own advantages alone."""
    logprobs = torch.full((3, 4), -1.0, requires_grad=True)
    advantages = torch.tensor([[1.0], [-0.5], [0.0]])  # two solutions, one critique
    clipped(logprobs, torch.full((3, 4), -1.0), advantages).loss.sum().backward()
    assert (logprobs.grad[2] == 0).all() and (logprobs.grad[:2] != 0).all()
