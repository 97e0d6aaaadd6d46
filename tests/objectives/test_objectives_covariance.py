"""KL-Cov: covariances against brute force, the selected share, and a penalty that only acts off-policy."""

import math

import pytest
import torch

from assay.objectives.covariance import covariances, highest_covariances, kl_cov
from assay.objectives.policy import clipped
from assay.objectives.selection import SelectionError

torch.set_num_threads(1)


def batch(seed=0):
    torch.manual_seed(seed)
    return -torch.rand(6, 9, dtype=torch.float64) * 4, torch.randn(6, 1, dtype=torch.float64), torch.rand(6, 9) < 0.8


def test_covariances_by_hand():
    """Means over the three unmasked tokens: log pi -2, A 1."""
    logprobs = torch.tensor([[-1.0, -2.0], [-3.0, math.nan]])
    advantages = torch.tensor([[2.0, 0.0], [1.0, math.inf]])
    mask = torch.tensor([[True, True], [True, False]])
    assert covariances(logprobs, advantages, mask).tolist() == [[1.0, 0.0], [0.0, 0.0]]


def test_covariances_add_up_to_that_of_the_batch():
    logprobs, advantages, mask = batch()
    found = covariances(logprobs, advantages, mask)
    both = torch.stack([logprobs[mask], advantages.expand(6, 9)[mask]])
    assert found[mask].mean().item() == pytest.approx(torch.cov(both, correction=0)[0, 1].item(), abs=1e-12)
    assert not found[~mask].any()
    # A constant added to either changes nothing; nor does it if no row has an advantage.
    assert torch.allclose(found, covariances(logprobs - 3, advantages + 5, mask), atol=1e-12)
    assert not covariances(logprobs, torch.zeros(6, 1, dtype=torch.float64), mask).any()


def test_the_scope_of_the_means_is_what_is_handed_in():
    logprobs, advantages, mask = batch()
    parts = [covariances(logprobs[i : i + 2], advantages[i : i + 2], mask[i : i + 2]) for i in (0, 2, 4)]
    assert not torch.allclose(torch.cat(parts), covariances(logprobs, advantages, mask))


@pytest.mark.parametrize(("fraction", "number"), [(0.002, 1), (0.1, 4), (0.5, 20), (1.0, 40)])
def test_the_highest_share_is_selected(fraction, number):
    torch.manual_seed(1)
    covariance, mask = torch.randn(5, 10), torch.ones(5, 10, dtype=torch.bool)
    mask[:, 8:] = False
    covariance[:, 8:] = 1e6
    selected = highest_covariances(covariance, mask, fraction)
    assert selected.sum() == number and not selected[~mask].any()
    assert number == 40 or covariance[selected].min() > covariance[mask & ~selected].max()


def test_equal_covariances_are_selected_in_order_and_none_of_none():
    zeros, mask = torch.zeros(2, 4), torch.tensor([[False, True, True, True], [True] * 4])
    assert highest_covariances(zeros, mask, 0.3).flatten().nonzero().flatten().tolist() == [1, 2]
    assert not highest_covariances(zeros, torch.zeros_like(mask), 0.3).any()


def test_loss_and_gradient_off_policy():
    """-r A everywhere without a clip; coefficient x sign(log r) more gradient on the selected."""
    logprobs, advantages, mask = batch(2)
    old = logprobs + torch.randn(6, 9, dtype=torch.float64)
    selected = highest_covariances(covariances(logprobs, advantages, mask), mask, 0.2)
    leaf = logprobs.clone().requires_grad_()
    out = kl_cov(leaf, old, advantages, selected, coefficient=0.7)
    out.loss.sum().backward()
    r = (logprobs - old).exp()
    assert (r > 1.5).any() and (r < 0.5).any() and 0 < selected.sum() < mask.sum()
    assert torch.allclose(out.loss, -r * advantages + 0.7 * selected * (logprobs - old).abs())
    assert torch.allclose(leaf.grad, -r * advantages + 0.7 * selected * (logprobs - old).sign())
    assert not out.clipped_low.any() and not out.clipped_high.any()


def test_on_policy_it_is_the_clipped_surrogate_bit_for_bit():
    logprobs, advantages, mask = batch(3)
    results = []
    for surrogate in (lambda x: kl_cov(x, logprobs, advantages, mask), lambda x: clipped(x, logprobs, advantages)):
        leaf = logprobs.clone().requires_grad_()
        loss = surrogate(leaf).loss
        loss.sum().backward()
        results.append((loss.detach(), leaf.grad))
    assert torch.equal(results[0][0], results[1][0]) and torch.equal(results[0][1], results[1][1])


def test_a_coefficient_of_zero_is_no_selection():
    logprobs, advantages, mask = batch(4)
    old = logprobs + 0.3
    none = kl_cov(logprobs, old, advantages, torch.zeros_like(mask)).loss
    assert torch.equal(kl_cov(logprobs, old, advantages, mask, coefficient=0.0).loss, none)
    assert not torch.equal(kl_cov(logprobs, old, advantages, mask).loss, none)


def test_extreme_ratios_stay_finite():
    leaf = torch.tensor([[500.0, -500.0]], requires_grad=True)
    loss = kl_cov(leaf, torch.zeros(1, 2), torch.tensor([[-1.0]]), torch.ones(1, 2, dtype=torch.bool)).loss
    loss.sum().backward()
    assert torch.isfinite(loss).all() and leaf.grad.tolist() == [[1.0, -1.0]]


def test_bad_input_is_refused():
    logprobs, advantages, mask = batch()
    for fraction in (0, 1.5, -1, math.nan):
        with pytest.raises(SelectionError, match=r"under KL-Cov is .* expected above 0 and at most 1"):
            highest_covariances(logprobs, mask, fraction)
    with pytest.raises(ValueError, match="advantages: an unmasked value is not finite"):
        covariances(logprobs, advantages * math.nan, mask)
    with pytest.raises(SelectionError, match=r"covariance has shape \(6, 9\) and mask \(5, 9\)"):
        highest_covariances(logprobs, mask[:5], 0.2)
