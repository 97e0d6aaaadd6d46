"""What the corrections do to a policy gradient, by exact enumeration of actions and flips (noisy verifiers A1.11 and A6).

Two-armed bandit: one logit, P(arm 1) = p = .3, arm 1 is right, the score grad log pi is 1 - p for arm 1 and -p for arm 0, so the true
gradient of P(arm 1) is p (1 - p) = .21. fpr = .1, fnr = .2, determinant .7.
"""

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch

from assay.objectives.advantages import group_zscore
from assay.objectives.corrections import (
    backward,
    backward_advantages,
    backward_process,
    direct,
    forward,
    forward_advantages,
    leave_one_out_control,
)

P, FPR, FNR, C = 0.3, 0.1, 0.2, 0.7
LENGTHS = np.array([2, 1])
"""Tokens of arms 0 and 1 where length matters: arm 0's second token is certain, so its score is that of its first."""

Advantage = Callable[[np.ndarray], np.ndarray]


def chance(right: np.ndarray, observed: np.ndarray, fpr: float = FPR, fnr: float = FNR) -> float:
    return float(np.prod(np.where(right == 1, np.where(observed == 1, 1 - fnr, fnr), np.where(observed == 1, fpr, 1 - fpr))))


def over_flips(right: np.ndarray, advantage: Advantage) -> np.ndarray:
    """Mean of the advantages over the channel, the rollouts being given."""
    patterns = [np.array(pattern, dtype=float) for pattern in itertools.product((0, 1), repeat=len(right))]
    return sum((chance(right, pattern) * advantage(pattern) for pattern in patterns), np.zeros(len(right)))


def gradient(size: int, advantage: Advantage, *, noisy: bool = True, by_length: bool = False) -> float:
    """E[mean over the group of advantage x score (/ length)], over all actions and, where noisy, all flips."""
    total = 0.0
    for actions in itertools.product((0, 1), repeat=size):
        arms = np.array(actions)
        scores = np.where(arms == 1, 1 - P, -P) / (LENGTHS[arms] if by_length else 1)
        expected = over_flips(arms, advantage) if noisy else advantage(arms.astype(float))
        total += float(np.prod(np.where(arms == 1, P, 1 - P)) * (expected * scores).mean())
    return total


def population_zscore(rewards: np.ndarray) -> np.ndarray:
    """The paper divides by the population deviation; group_zscore by the unbiased one."""
    return group_zscore(rewards, np.zeros(len(rewards)), epsilon=0) * np.sqrt(len(rewards) / (len(rewards) - 1))


def loo_backward(rewards: np.ndarray) -> np.ndarray:
    return backward_advantages(rewards, np.zeros(len(rewards)), FPR, FNR)


def loo_control(rewards: np.ndarray) -> np.ndarray:
    return leave_one_out_control(rewards, np.zeros(len(rewards)))


def centred_backward(rewards: np.ndarray) -> np.ndarray:
    corrected = backward(rewards, FPR, FNR)
    return corrected - corrected.mean()


def test_noise_and_corrections_have_one_expected_direction_and_known_lengths():
    """A6.3 and A1.11.2: backward has the true length, the noisy gradient and forward that times the determinant."""
    assert gradient(1, direct, noisy=False) == pytest.approx(0.21)
    assert gradient(1, direct) == pytest.approx(0.147)
    assert gradient(1, lambda r: backward(r, FPR, FNR)) == pytest.approx(0.21)
    assert gradient(1, lambda r: forward_advantages(r, FNR, fpr=FPR, scale="determinant")) == pytest.approx(0.21)
    assert gradient(1, lambda r: forward_advantages(r, FNR, scale="one_minus_false_negative_rate")) == pytest.approx(0.147 / 0.8)


@pytest.mark.parametrize("believed", [0.0, 0.05, 0.2, 0.5, 0.9, 0.99])
def test_the_expected_forward_gradient_does_not_depend_on_the_rate_that_is_believed(believed):
    """A6.3: a constant times a score of mean 0."""
    assert gradient(1, lambda r: forward(r, believed)) == pytest.approx(0.147)


@pytest.mark.parametrize(("size", "centred"), [(2, 0.105), (4, 0.1575)])
def test_the_group_mean_shrinks_the_gradient_and_the_mean_of_the_others_does_not(size, centred):
    """A6.4 and Prop. A.1: (1 - 1/K) x .21, and .21."""
    assert gradient(size, centred_backward) == pytest.approx(centred)
    assert gradient(size, loo_backward) == pytest.approx(0.21)
    assert gradient(size, loo_control) == pytest.approx(0.147)


def test_over_the_channel_backward_is_the_clean_advantage_and_forward_takes_from_wrong_rows_alone():
    """A6.5 and A1.11.4: the rollouts are given, so this holds under any length normalisation."""
    right = np.array([1.0, 0, 0, 1])
    clean = np.array([2, -2, -2, 2]) / 3
    assert loo_control(right) == pytest.approx(clean)
    assert over_flips(right, loo_backward) == pytest.approx(clean)
    assert over_flips(right, loo_control) == pytest.approx(0.7 * clean)
    assert over_flips(right, lambda r: forward_advantages(r, FNR)) == pytest.approx([0, -0.7, -0.7, 0], abs=1e-15)
    assert over_flips(right, lambda r: forward_advantages(r, FNR, fpr=FPR, scale="determinant")) == pytest.approx([0, -1, -1, 0], abs=1e-15)
    assert over_flips(right, population_zscore) == pytest.approx(np.array([1, -1, -1, 1]) * 0.728155, abs=1e-6)


@pytest.mark.parametrize("right", list(itertools.product((0.0, 1.0), repeat=4)))
def test_over_the_channel_backward_is_the_clean_advantage_of_every_group(right):
    truth = np.array(right)
    assert over_flips(truth, loo_backward) == pytest.approx(loo_control(truth), abs=1e-12)


def test_over_the_channel_step_advantages_are_those_of_the_true_steps():
    """A1.6: three rows with two, two and one step; all 32 flip patterns."""
    exists, ends = np.array([[1, 1], [1, 1], [1, 0]], bool), np.array([[0, 2], [1, 3], [1, 0]])
    tokens = np.arange(4) < np.array([[3], [4], [2]])
    truth, expected = np.array([1.0, 0, 0, 1, 1]), np.zeros((3, 4))

    def advantages(observed: np.ndarray, fpr: float, fnr: float) -> np.ndarray:
        steps = np.zeros((3, 2))
        steps[exists] = observed
        return backward_process(steps, exists, ends, tokens, np.zeros(3), fpr, fnr)

    for pattern in itertools.product((0.0, 1.0), repeat=5):
        observed = np.array(pattern)
        expected += chance(truth, observed) * advantages(observed, FPR, FNR)
    clean = advantages(truth, 0.0, 0.0)
    assert expected == pytest.approx(clean, abs=1e-12)
    assert clean[0] == pytest.approx([0.5 - 1, -1, -1, 0]) and clean[1] == pytest.approx([-1 + 1, -1 + 1, 1, 1])


def test_the_older_recipe_has_the_gradient_of_the_noisy_zscore():
    """A6.7: groups of four. Correcting before a z-score gains nothing of the .103 that noise takes."""
    assert gradient(4, population_zscore, noisy=False) == pytest.approx(0.343264, abs=5e-7)
    assert gradient(4, population_zscore) == pytest.approx(0.240019, abs=5e-7)
    for correct in (lambda r: backward(r, FPR, FNR), lambda r: forward(r, FNR), lambda r: FNR * r):
        assert gradient(4, lambda r, correct=correct: population_zscore(correct(r))) == pytest.approx(0.240019, abs=5e-7)


def test_division_by_length_breaks_forward_and_not_backward():
    """A6.13 and A1.11.5: forward gets c (.21 - .105), which pulls to the longer, wrong arm; backward the clean value .1785."""
    assert gradient(1, lambda r: forward(r, FNR)) == pytest.approx(0.147)
    assert gradient(1, lambda r: forward(r, FNR), by_length=True) == pytest.approx(0.0735)
    assert gradient(1, lambda r: backward(r, FPR, FNR), by_length=True) == pytest.approx(0.21)
    for size in (2, 3, 4):
        clean = gradient(size, loo_control, noisy=False, by_length=True)
        assert clean == pytest.approx(0.1785)
        assert gradient(size, loo_backward, by_length=True) == pytest.approx(clean)
        assert gradient(size, loo_control, by_length=True) == pytest.approx(0.7 * clean)


@pytest.mark.parametrize(
    ("share", "of_backward", "of_forward", "of_centred"),
    [(0.1, 0.298, 1.098, 0.288), (0.5, 0.755, 0.755, 0.505), (0.9, 1.212, 0.412, 0.402)],
)
def test_second_moments_say_that_forward_varies_less_only_where_most_answers_are_right(share, of_backward, of_forward, of_centred):
    """A1.11.6: E[r^2] - E[(w / c)^2] = 2 p - 1; a baseline of p beats both."""
    observed = np.array([0.0, 1.0])
    accepted = share * (1 - FNR) + (1 - share) * FPR
    mass = np.array([1 - accepted, accepted])
    corrected = backward(observed, FPR, FNR)
    weights = forward_advantages(observed, FNR, fpr=FPR, scale="determinant")
    assert mass @ corrected**2 == pytest.approx(of_backward, abs=5e-4)
    assert mass @ weights**2 == pytest.approx(of_forward, abs=5e-4)
    assert mass @ (corrected - share) ** 2 == pytest.approx(of_centred, abs=5e-4)
    assert mass @ corrected**2 - mass @ weights**2 == pytest.approx(2 * share - 1)
    assert mass @ (corrected - share) ** 2 < min(mass @ corrected**2, mass @ weights**2)


@pytest.mark.parametrize(("fpr", "fnr"), [(0.0, 0.0), (0.4, 0.5), (0.05, 0.6), (0.6, 0.05)])
@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_the_difference_of_second_moments_is_free_of_the_rates(fpr, fnr, share):
    accepted = share * (1 - fnr) + (1 - share) * fpr
    corrected = backward(np.array([0.0, 1.0]), fpr, fnr)
    assert np.array([1 - accepted, accepted]) @ (corrected**2 - (corrected - 1) ** 2) == pytest.approx(2 * share - 1)


def train(advantage: Callable[[np.ndarray, np.ndarray], np.ndarray], coefficient: float, epsilon: float = 1e-300) -> np.ndarray:
    """Logits of a ten-armed bandit along 150 Adam steps, groups of eight, with coefficient x KL(policy || start) in the loss."""
    generator = np.random.default_rng(11)
    logits = torch.nn.Parameter(torch.tensor(generator.normal(0, 0.3, 10)))
    start = torch.log_softmax(logits.detach().clone(), 0)
    optimizer = torch.optim.Adam([logits], lr=0.05, eps=epsilon)
    trajectory, groups = [], np.repeat(np.arange(4), 8)
    for _ in range(150):
        logs = torch.log_softmax(logits, 0)
        # Common random numbers: actions and flips come from uniforms that do not depend on the method.
        actions = np.searchsorted(np.cumsum(logs.detach().exp().numpy())[:-1], generator.random(32))
        right, draws = actions == 0, generator.random(32)
        observed = np.where(right, draws >= FNR, draws < FPR).astype(float)
        weights = torch.tensor(advantage(observed, groups))
        loss = -(weights * logs[torch.tensor(actions)]).mean() + coefficient * (logs.exp() * (logs - start)).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        trajectory.append(logits.detach().numpy().copy())
    return np.array(trajectory)


def test_under_adam_backward_is_the_matched_control_with_a_smaller_penalty():
    """A6.8 and A1.11.3: the same run without a penalty; with one, the control's at c times the coefficient."""
    control = train(leave_one_out_control, 0.0)
    corrected = train(lambda r, g: backward_advantages(r, g, FPR, FNR), 0.0)
    assert np.abs(control[-1] - control[0]).max() > 1
    assert np.abs(corrected - control).max() < 1e-8
    penalised = train(lambda r, g: backward_advantages(r, g, FPR, FNR), 0.1)
    assert np.abs(penalised - train(leave_one_out_control, C * 0.1)).max() < 1e-8
    assert np.abs(penalised - train(leave_one_out_control, 0.1)).max() > 0.05
    assert np.abs(corrected - train(lambda r, g: backward_advantages(r, g, FPR, FNR), 0.0, epsilon=0.1)).max() > 0.05
