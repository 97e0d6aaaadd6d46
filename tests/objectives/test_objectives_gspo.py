"""GSPO: one ratio for a sequence, in value the sequence form, in gradient too; against brute force and TRL's expression."""

import math

import pytest
import torch

from assay.objectives.policy import clipped, denominator, numerator, sequence_clipped

torch.set_num_threads(1)


def batch(scale=0.3, seed=0):
    torch.manual_seed(seed)
    old = -torch.rand(8, 12, dtype=torch.float64) * 3
    mask = torch.rand(8, 12) < 0.8
    mask[:, 0] = True
    return old + scale * torch.randn(8, 12, dtype=torch.float64), old, torch.randn(8, 1, dtype=torch.float64), mask


def test_the_ratio_of_a_sequence_by_hand():
    """Two tokens of ratio 2 and 1/2 make 1; two of 2 and one masked make 2; each token's gradient is -s A."""
    log2 = math.log(2)
    leaf = torch.tensor([[log2, -log2, 5.0], [log2, log2, math.nan]], dtype=torch.float64, requires_grad=True)
    mask = torch.tensor([[True, True, False], [True, True, False]])
    out = sequence_clipped(leaf, torch.zeros(2, 3, dtype=torch.float64), torch.tensor([[1.0], [-3.0]]), mask)
    assert out.loss[mask].tolist() == pytest.approx([-1, -1, 6, 6])
    numerator(out.loss, mask, "token_mean").backward()
    assert leaf.grad.flatten().tolist() == pytest.approx([-1, -1, 0, 6, 6, 0])


@pytest.mark.parametrize(("log_s", "advantage", "loss", "gradient", "low", "high"), [
    (0.0, 1, -1, -1, False, False),
    (0.0003, 1, -math.exp(0.0003), -math.exp(0.0003), False, False),
    (0.001, 1, -1.0004, 0, False, True),
    (0.001, -1, math.exp(0.001), math.exp(0.001), False, False),
    (-0.001, -1, 0.9997, 0, True, False),
    (-0.001, 1, -math.exp(-0.001), -math.exp(-0.001), False, False),
    (-0.001, 0, 0, 0, False, False),
])  # fmt: skip
def test_clips_of_the_paper(log_s, advantage, loss, gradient, low, high):
    """3e-4 below and 4e-4 above 1; a whole row is clipped or none of it."""
    leaf = torch.tensor([[log_s + 0.5, log_s - 0.5]], dtype=torch.float64, requires_grad=True)
    mask = torch.ones(1, 2, dtype=torch.bool)
    out = sequence_clipped(leaf, torch.zeros(1, 2, dtype=torch.float64), torch.tensor([[float(advantage)]]), mask)
    out.loss.sum().backward()
    assert out.loss.tolist()[0] == pytest.approx([loss] * 2, abs=1e-12)
    assert leaf.grad.tolist()[0] == pytest.approx([gradient] * 2, abs=1e-12)
    assert out.clipped_low.tolist() == [[low] * 2] and out.clipped_high.tolist() == [[high] * 2]


def trl(logprobs, old, advantages, mask, low, high):
    """TRL 1.16 with importance_sampling_level="sequence" and loss_type="grpo", written out."""
    log_s = ((logprobs - old) * mask).sum(-1) / mask.sum(-1).clamp(min=1.0)
    s = torch.exp(log_s.unsqueeze(-1))
    per_token = -torch.min(s * advantages, torch.clamp(s, 1 - low, 1 + high) * advantages)
    return ((per_token * mask).sum(-1) / mask.sum(-1).clamp(min=1.0)).mean()


@pytest.mark.parametrize(("low", "high", "scale"), [(3e-4, 4e-4, 1e-3), (3e-4, 4e-4, 0.3), (0.2, 0.28, 0.3), (0.05, 0.05, 0.3)])
def test_by_sequence_mean_it_is_the_sequence_form(low, high, scale):
    logprobs, old, advantages, mask = batch(scale)
    results = []
    for form in ("token", "sequence"):
        leaf = logprobs.clone().requires_grad_()
        if form == "token":
            out = sequence_clipped(leaf, old, advantages, mask, clip_low=low, clip_high=high)
            loss = numerator(out.loss, mask, "sequence_mean") / denominator("sequence_mean", rows=8, tokens=0, max_tokens=0)
        else:
            loss = trl(leaf, old, advantages, mask, low, high)
        loss.backward()
        results.append((loss.detach(), leaf.grad))
    assert torch.allclose(results[0][0], results[1][0], atol=1e-14)
    assert torch.allclose(results[0][1], results[1][1], atol=1e-14)
    assert results[0][1].any()


def test_on_policy_it_is_the_token_surrogate_bit_for_bit():
    logprobs, _, advantages, mask = batch()
    results = []
    for surrogate in (
        lambda leaf: sequence_clipped(leaf, logprobs, advantages, mask),
        lambda leaf: clipped(leaf, logprobs, advantages),
    ):
        leaf = logprobs.clone().requires_grad_()
        loss = surrogate(leaf).loss
        numerator(loss, mask, "token_mean").backward()
        results.append((loss.detach(), leaf.grad))
    assert torch.equal(results[0][0], results[1][0]) and torch.equal(results[0][1], results[1][1])


def test_rows_of_one_token_are_the_token_surrogate():
    logprobs, old, advantages, _ = batch()
    mask = torch.zeros(8, 12, dtype=torch.bool)
    mask[:, 3] = True
    one = sequence_clipped(logprobs, old, advantages, mask, clip_low=0.2, clip_high=0.2).loss[mask]
    other = clipped(logprobs, old, advantages).loss[mask]
    assert torch.allclose(one, other) and one.std() > 0


def test_advantages_may_differ_by_token():
    """The token form: one ratio, each token its own advantage and gradient."""
    logprobs, old, _, mask = batch(1e-5)
    advantages = torch.randn(8, 12, dtype=torch.float64)
    leaf = logprobs.clone().requires_grad_()
    numerator(sequence_clipped(leaf, old, advantages, mask).loss, mask, "token_mean").backward()
    s = torch.exp(torch.where(mask, logprobs - old, 0.0).sum(-1, keepdim=True) / mask.sum(-1, keepdim=True))
    assert torch.allclose(leaf.grad, torch.where(mask, -s * advantages, 0.0))


def test_extreme_ratios_and_rows_without_tokens_stay_finite():
    leaf = torch.tensor([[900.0, 700.0], [-900.0, -700.0], [math.inf, math.nan], [1.0, 1.0]], requires_grad=True)
    mask = torch.tensor([[True, True], [True, True], [False, False], [True, False]])
    loss = sequence_clipped(leaf, torch.zeros(4, 2), torch.full((4, 1), -1.0), mask).loss
    numerator(loss, mask, "sequence_mean").backward()
    assert loss[0, 0].item() == pytest.approx(math.exp(10)) and loss[2].tolist() == [1.0, 1.0]
    assert leaf.grad.tolist()[:3] == [[0, 0], [0, 0], [0, 0]] and torch.isfinite(leaf.grad).all()
