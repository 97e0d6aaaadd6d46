"""Lp-Reg: the worked numbers of its method file (A.8 T1 to T12), gates, thresholds, gradients and what must stay constant."""

import math

import pytest
import torch

from assay.objectives import lp_reg
from assay.objectives.lp_reg import (
    LpRegError,
    capped,
    forward_kl,
    low_probability,
    low_probability_threshold,
    lowest_of_sign,
    penalty,
    protected,
    proxy,
    proxy_logprobs,
    sampled_proxy,
    support,
)
from assay.objectives.policy import clipped, numerator
from assay.objectives.selection import SelectionError

torch.set_num_threads(1)

FIRST = [0.60, 0.30, 0.09, 0.01]
SECOND = [0.70, 0.20, 0.06, 0.04]


def logits_of(p):
    return torch.tensor(p).log()


def near(values, tolerance=1e-6):
    return pytest.approx(values, abs=tolerance)


def stored(p, kappa=0.02, **options):
    """Log-probability and proxy of every token of one distribution, each as if it had been sampled."""
    found = sampled_proxy(logits_of(p).expand(len(p), -1), torch.arange(len(p)), kappa, **options)
    return found, proxy_logprobs(found.logprobs, found.kept, found.log_z)


@pytest.mark.parametrize(("p", "kappa", "z", "expected", "kl", "gradient"), [
    (FIRST, 0.02, 0.99, [0.606061, 0.303030, 0.090909, 0], 0.0100503, [-0.006061, -0.003030, -0.000909, 0.010000]),
    (SECOND, 0.1, 0.90, [0.777778, 0.222222, 0, 0], 0.1053605, [-0.077778, -0.022222, 0.06, 0.04]),
])  # fmt: skip
def test_proxy_and_its_full_kl_of_the_worked_numbers(p, kappa, z, expected, kl, gradient):
    """T1 and T3: KL(proxy || pi) = -log Z, its gradient on logits pi - proxy, which sums to 0."""
    found = proxy(logits_of(p), kappa)
    assert found.log_z.exp().item() == near(z)
    assert found.logprobs.exp().tolist() == near(expected)
    logits = logits_of(p).requires_grad_()
    value = forward_kl(torch.log_softmax(logits, -1), found.logprobs)
    value.backward()
    assert value.item() == near(kl) and value.item() == near(-math.log(z))
    assert logits.grad.tolist() == near(gradient)
    assert logits.grad.sum().item() == near(0, 1e-7)


def test_the_support_follows_min_p_a_constant_or_keeps_all():
    assert torch.isneginf(proxy(logits_of(FIRST), fixed_threshold=0.2).logprobs).tolist() == [False, False, True, True]
    nothing = proxy(logits_of(FIRST), fixed_threshold=0.7)
    assert torch.isneginf(nothing.logprobs).all() and nothing.log_z.item() == -math.inf
    assert forward_kl(logits_of(FIRST), nothing.logprobs).item() == 0
    everything = proxy(logits_of(FIRST), kappa=0)
    assert everything.log_z.item() == 0 and torch.equal(everything.logprobs, torch.log_softmax(logits_of(FIRST), -1))
    # Strictly above tau, as in the paper.
    assert torch.isneginf(proxy(torch.zeros(4), fixed_threshold=0.25).logprobs).all()


def test_proxy_of_random_distributions_equals_brute_force():
    torch.manual_seed(0)
    logits = torch.randn(200, 50) * 3
    for kappa, temperature in ((0.02, 1.0), (0.3, 1.0), (0.05, 0.7)):
        found = proxy(logits, kappa, temperature=temperature)
        p = torch.softmax(logits.double() / temperature, -1)
        kept = p > kappa * p.amax(-1, keepdim=True)
        expected = torch.where(kept, p, 0.0)
        mass = expected.sum(-1, keepdim=True)
        assert torch.allclose(found.logprobs.exp().double(), expected / mass, atol=1e-6)
        assert torch.allclose(found.log_z.double(), mass.log()[:, 0], atol=1e-6)
        assert kept.sum(-1).max() < 1 / (kappa * p.amax(-1).min())
        assert kept.gather(-1, p.argmax(-1, keepdim=True)).all()
        mine = torch.log_softmax(torch.randn(200, 50).double(), -1)
        brute = (expected / mass * ((expected / mass).clamp(min=1e-300).log() - mine)).sum(-1)
        assert torch.allclose(forward_kl(mine, found.logprobs.double()), brute, atol=1e-5)


def test_sampled_proxy_in_chunks_equals_the_proxy_at_the_sampled_tokens(monkeypatch):
    torch.manual_seed(1)
    logits, ids = torch.randn(37, 20) * 3, torch.randint(20, (37,))
    whole = sampled_proxy(logits, ids, 0.1, temperature=0.8)
    monkeypatch.setattr(lp_reg, "CHUNK_ELEMENTS", 100)
    chunked = sampled_proxy(logits, ids, 0.1, temperature=0.8)
    for name in ("logprobs", "max_logprobs", "kept", "log_z"):
        assert torch.equal(getattr(whole, name), getattr(chunked, name)), name
    full = proxy(logits, 0.1, temperature=0.8)
    expected = full.logprobs.gather(-1, ids[:, None])[:, 0]
    assert torch.equal(proxy_logprobs(whole.logprobs, whole.kept, whole.log_z), expected)
    assert 0 < whole.kept.sum() < 37 and torch.equal(whole.kept, ~torch.isneginf(expected))
    # The two stored log-probabilities tell for another kappa whether a token is kept.
    other = sampled_proxy(logits, ids, 0.3, temperature=0.8)
    assert torch.equal(whole.logprobs > whole.max_logprobs + math.log(0.3), other.kept)


def test_log_z_is_precise_near_one_and_right_far_from_it():
    tiny = torch.tensor([0.0, -20.0, -21.0])
    dropped = math.exp(-20) + math.exp(-21)
    assert proxy(tiny).log_z.item() == pytest.approx(-math.log1p(dropped), rel=1e-5)
    flat = torch.cat([torch.tensor([math.log(0.1)]), torch.full((90,), math.log(0.01))])
    assert proxy(flat, fixed_threshold=0.05).log_z.item() == pytest.approx(math.log(0.1), rel=1e-5)


def test_sampled_k3_on_policy():
    """T2: the same k for every kept token."""
    found, target = stored(FIRST)
    logprobs = found.logprobs.clone().requires_grad_()
    selected = torch.tensor([True, True, True, False])
    value = penalty(logprobs, target, selected)
    value.sum().backward()
    assert value.tolist() == near([5.06742e-5] * 3 + [0], 2e-8)
    assert logprobs.grad.tolist() == near([-0.010101] * 3 + [0])


def test_on_policy_the_penalty_acts_as_an_effective_advantage():
    """T4: A = -.354, beta = 1, Z = .99: gradients of A' = A + beta (1 / Z - 1) = -.343899."""
    _, target = stored(FIRST)

    def gradients(advantage, beta):
        logits = logits_of(FIRST).requires_grad_()
        logprobs = torch.log_softmax(logits, -1)[2:3]
        a = torch.tensor([advantage])
        selected = torch.ones(1, dtype=torch.bool)
        loss = capped(logprobs, logprobs.detach(), a).loss + beta * penalty(logprobs, target[2:3], selected)
        loss.sum().backward()
        return logits.grad.tolist()

    assert gradients(-0.354, 1) == near([-0.206339, -0.103170, 0.312948, -0.003439])
    assert gradients(-0.354, 1) == near(gradients(-0.354 + 1 / 0.99 - 1, 0))
    assert gradients(-0.354, 0) == near([-0.212400, -0.106200, 0.322140, -0.003540])


def test_off_policy_worked_numbers():
    """T5: the proxy stays that of the old policy."""
    _, target = stored(FIRST)
    current = torch.tensor([0.72, 0.22, 0.05, 0.01]).log()
    old, now = logits_of(FIRST)[2:3], current[2:3].clone().requires_grad_()
    selected = torch.ones(1, dtype=torch.bool)
    assert (target[2:3] - now).item() == near(0.597837)
    k3 = penalty(now, target[2:3], selected)
    (slope,) = torch.autograd.grad(k3.sum(), now, retain_graph=True)
    assert k3.item() == near(0.220345) and slope.item() == near(-0.818182)
    negative = torch.tensor([-1.0])
    assert capped(now, old, negative).loss.item() == near(0.555556)
    assert (clipped(now, old, negative, clip_low=1, clip_high=9).loss + k3).item() == near(0.775900)
    full = forward_kl(current, proxy(logits_of(FIRST)).logprobs)
    assert full.item() == near(0.0469739)
    assert (capped(now, old, negative).loss + full).item() == near(0.602529)


def test_the_penalty_is_a_barrier_off_policy():
    """T5: with |A| = beta = 1 and Z = .99 the loss stands still at pi / pi_old = .6225."""
    root = (-1 + math.sqrt(1 + 4 / 0.99)) / 2
    assert root == near(0.6225, 5e-5)
    old = torch.tensor([math.log(0.09)], dtype=torch.float64)
    now = (old + math.log(root)).requires_grad_()
    target = old - math.log(0.99)
    loss = capped(now, old, torch.tensor([-1.0])).loss + penalty(now, target, torch.ones(1, dtype=torch.bool))
    loss.sum().backward()
    assert now.grad.item() == near(0, 1e-12)


PROBABILITIES = [0.90, 0.50, 0.02, 0.30, 0.70, 0.04, 0.99, 0.60, 0.01, 0.80]


def gates():
    logprobs = torch.tensor(PROBABILITIES).log()
    return logprobs, torch.tensor([1.0] * 4 + [-1.0] * 6), torch.ones(10, dtype=torch.bool)


def chosen(mask):
    return mask.flatten().nonzero().squeeze(-1).tolist()


def test_gates_of_the_worked_numbers():
    """T6: the batch quantile of all tokens, then the sign; and the code's count of negative tokens."""
    logprobs, advantages, mask = gates()
    delta = low_probability_threshold(logprobs, mask, 0.2)
    assert delta == near(0.036)
    low = low_probability(logprobs, mask, delta)
    assert chosen(low) == [2, 8]
    kept = logprobs + 0.01
    assert chosen(protected(low, advantages, logprobs, kept)) == [8]
    assert chosen(protected(low, advantages, logprobs, kept, sign="both")) == [2, 8]
    assert chosen(protected(low, torch.zeros(10), logprobs, kept, sign="both")) == []
    assert chosen(protected(low, torch.zeros(10), logprobs, kept, sign="any")) == [2, 8]
    assert chosen(lowest_of_sign(logprobs, advantages, mask, 0.2)) == []
    assert chosen(lowest_of_sign(logprobs, advantages, mask, 0.4)) == [5, 8]
    assert chosen(lowest_of_sign(logprobs, advantages, mask, 0.5, negative=False)) == [2, 3]


def test_the_one_sided_gate_ends_where_the_policy_has_risen_above_the_proxy():
    candidates, negative = torch.ones(4, dtype=torch.bool), torch.full((4,), -1.0)
    logprobs = torch.tensor([-3.0, -2.0, -1.0, -9.0])
    target = torch.tensor([-2.0, -2.0, -2.0, -math.inf])
    assert chosen(protected(candidates, negative, logprobs, target)) == [0]
    assert chosen(protected(candidates, negative, logprobs, target, one_sided=False)) == [0, 1, 2]


@pytest.mark.parametrize("fraction", [0.005, 0.5, 1.0])
def test_a_dropped_token_is_never_selected_but_in_the_ablation(fraction):
    """T9, with p = .01 of the first distribution, which the proxy drops."""
    found, target = stored(FIRST)
    mask, negative = torch.ones(4, dtype=torch.bool), torch.full((4,), -1.0)
    low = low_probability(found.logprobs, mask, low_probability_threshold(found.logprobs, mask, fraction))
    # Strictly below: delta of a fraction of 1 is the largest probability, which is not.
    assert low[3] and not low[0]
    for one_sided in (True, False):
        assert not protected(low, negative, found.logprobs, target, one_sided=one_sided)[3]
    unfiltered = proxy_logprobs(found.logprobs, found.kept, found.log_z, keep_dropped=True)
    assert protected(low, negative, found.logprobs, unfiltered)[3]
    assert unfiltered.exp().tolist() == near([x / 0.99 for x in FIRST])


def test_without_selected_tokens_loss_and_gradient_are_those_without_the_penalty():
    """T7: no negative token; an empty mask; nothing dropped, one-sided or not."""
    torch.manual_seed(2)
    logits = torch.randn(6, 4) * 0.1
    found = sampled_proxy(logits, ids := torch.arange(6) % 4, 0.02)
    assert (found.log_z == 0).all()
    target = proxy_logprobs(found.logprobs, found.kept, found.log_z)
    everything, nothing = torch.ones(6, dtype=torch.bool), torch.zeros(6, dtype=torch.bool)
    advantages = torch.randn(6)

    def run(a, mask, selected):
        leaf = logits.clone().requires_grad_()
        logprobs = torch.log_softmax(leaf, -1).gather(-1, ids[:, None])[:, 0]
        per_token = clipped(logprobs, found.logprobs, a).loss
        if selected is not None:
            per_token = per_token + penalty(logprobs, target, selected)
        total = numerator(per_token, mask, "token_mean")
        total.backward()
        return total.detach(), leaf.grad

    for a, mask, one_sided in (
        (advantages.abs(), everything, True),
        (advantages, nothing, True),
        (advantages, everything, True),
        (advantages, everything, False),
    ):
        selected = protected(mask, a, found.logprobs, target, one_sided=one_sided)
        assert selected.any() == (not one_sided)
        for with_it, without in zip(run(a, mask, selected), run(a, mask, None), strict=True):
            assert torch.equal(with_it, without)
    assert low_probability_threshold(found.logprobs, nothing, 0.2) == 0
    assert not low_probability(found.logprobs, everything, 0.0).any()
    assert not lowest_of_sign(found.logprobs, advantages, nothing, 0.5).any()


def test_the_batch_threshold_does_not_depend_on_micro_batches():
    """T8; the code's scope does."""
    torch.manual_seed(3)
    logprobs, mask = -torch.rand(12, 30) * 5, torch.rand(12, 30) < 0.8
    advantages = torch.randn(12, 1)
    delta = low_probability_threshold(logprobs, mask, 0.05)
    whole = low_probability(logprobs, mask, delta)
    assert delta == low_probability_threshold(logprobs[(order := torch.randperm(12))], mask[order], 0.05)
    parts = torch.cat([low_probability(logprobs[i : i + 3], mask[i : i + 3], delta) for i in range(0, 12, 3)])
    assert torch.equal(whole, parts) and whole.sum().item() == math.ceil(0.05 * (mask.sum().item() - 1))
    flat = torch.quantile(logprobs[mask].double().exp(), 0.05).item()
    assert delta == near(flat, 1e-12)
    by_code = lowest_of_sign(logprobs, advantages, mask, 0.2)
    in_parts = [lowest_of_sign(logprobs[i : i + 3], advantages[i : i + 3], mask[i : i + 3], 0.2) for i in range(0, 12, 3)]
    assert not torch.equal(by_code, torch.cat(in_parts))


def test_gradient_reaches_the_policy_alone():
    """T10: the proxy, delta and the selection are constants, though they are computed from the same logits."""
    logits = logits_of(FIRST).requires_grad_()
    logprobs = torch.log_softmax(logits, -1)
    found = sampled_proxy(logits.expand(4, -1), torch.arange(4))
    target = proxy_logprobs(logprobs, found.kept, found.log_z)
    assert not any(x.requires_grad for x in (*vars(found).values(), *vars(proxy(logits)).values(), target))
    selected = protected(torch.ones(4, dtype=torch.bool), torch.full((4,), -1.0), logprobs, target)
    (gradient,) = torch.autograd.grad(penalty(logprobs, target, selected).sum(), logits, retain_graph=True)
    assert not selected.requires_grad and chosen(selected) == [0, 1, 2]
    # Three times -(1 / Z - 1) (onehot - p).
    assert gradient.tolist() == near([-(1 / 0.99 - 1) * ((i < 3) - 3 * p) for i, p in enumerate(FIRST)])
    leaves = [logprobs.detach().requires_grad_(), target.clone().requires_grad_()]
    penalty(*leaves, selected).sum().backward()
    assert leaves[0].grad[:3].all() and leaves[1].grad is None
    # Were the second argument not a constant, this KL to itself would have another gradient than p - p.
    (of_full,) = torch.autograd.grad(forward_kl(logprobs, 2 * logprobs), logits)
    weights = torch.tensor(FIRST).square()
    assert of_full.tolist() == near((weights.sum() * torch.tensor(FIRST) - weights).tolist())


@pytest.mark.parametrize(("r", "advantage", "loss", "gradient"), [
    (50, -2, 20, 0), (50, 2, -20, 0), (9.9, -1, 9.9, 9.9), (9.9, 1, -9.9, -9.9), (0.01, -1, 0.01, 0.01), (0.01, 1, -0.01, -0.01),
])  # fmt: skip
def test_capped_surrogate(r, advantage, loss, gradient):
    """T11: no lower clip, one cap for both signs."""
    logprobs = torch.tensor([[math.log(r)]], dtype=torch.float64, requires_grad=True)
    out = capped(logprobs, torch.zeros(1, 1, dtype=torch.float64), torch.tensor([[float(advantage)]]))
    out.loss.sum().backward()
    assert out.loss.item() == pytest.approx(loss) and logprobs.grad.item() == pytest.approx(gradient)
    assert out.clipped_high.item() == (r > 10) and not out.clipped_low.item()


def test_on_policy_the_capped_surrogate_is_the_clipped_one_bit_for_bit():
    torch.manual_seed(4)
    advantages = torch.randn(5, 1)
    old = -torch.rand(5, 7)
    results = []
    for surrogate in (capped, clipped):
        logprobs = old.clone().requires_grad_()
        loss = surrogate(logprobs, old, advantages).loss
        loss.sum().backward()
        results.append((loss.detach(), logprobs.grad))
    assert torch.equal(results[0][0], results[1][0]) and torch.equal(results[0][1], results[1][1])


def test_gradients_stay_finite_beside_tokens_that_the_proxy_lacks():
    """T12; and where the policy has all but lost a selected token."""
    logprobs = torch.tensor([-1.0, -500.0, -2.0, -math.inf], requires_grad=True)
    target = torch.tensor([-0.5, -1.0, -math.inf, -math.inf])
    selected = torch.tensor([True, True, False, False])
    value = penalty(logprobs, target, selected)
    value.sum().backward()
    assert torch.isfinite(value).all() and torch.isfinite(logprobs.grad).all()
    assert value[1].item() == pytest.approx(math.exp(20) - 21) and value[2:].tolist() == [0, 0]
    assert logprobs.grad.tolist() == near([1 - math.exp(0.5), 0, 0, 0])
    leaf = torch.tensor([0.0, -200.0, -1.0], requires_grad=True)
    kl = forward_kl(torch.log_softmax(leaf, -1), torch.tensor([math.log(0.5), math.log(0.5), -math.inf]))
    kl.backward()
    assert torch.isfinite(kl) and torch.isfinite(leaf.grad).all()


def test_the_ceiling_of_the_code_cuts_value_and_gradient():
    """It is reached where the proxy is 13.6 times the policy."""
    for k, value, gradient in ((2.61, math.exp(2.61) - 3.61, 1 - math.exp(2.61)), (2.62, 10, 0)):
        logprobs = torch.tensor([-5.0], dtype=torch.float64, requires_grad=True)
        out = penalty(logprobs, logprobs.detach() + k, torch.ones(1, dtype=torch.bool), ceiling=10)
        out.sum().backward()
        assert out.item() == pytest.approx(value) and logprobs.grad.item() == pytest.approx(gradient)
    assert math.exp(2.611) == near(13.6, 0.05)


def test_the_reverse_form_is_half_the_square():
    logprobs = torch.tensor([-3.0, -3.0], requires_grad=True)
    out = penalty(logprobs, torch.tensor([-1.0, -1.0]), torch.tensor([True, False]), form="sampled_k2")
    out.sum().backward()
    assert out.tolist() == [2.0, 0.0] and logprobs.grad.tolist() == [-2.0, 0.0]


def test_a_stored_support_gives_the_full_kl():
    torch.manual_seed(5)
    old, new = torch.randn(30, 200) * 4, torch.log_softmax(torch.randn(30, 200), -1)
    distribution = proxy(old, 0.1)
    ids, values = support(distribution, 64)
    assert ids.shape == (30, 64)
    assert torch.allclose(forward_kl(new.gather(-1, ids), values), forward_kl(new, distribution.logprobs), atol=1e-5)
    largest = int((~torch.isneginf(distribution.logprobs)).sum(-1).max())
    assert largest > 2
    with pytest.raises(LpRegError, match=f"keeps {largest} tokens, more than the 2"):
        support(distribution, 2)


def test_bad_input_is_refused():
    logprobs, advantages, mask = gates()
    for fraction in (0, -0.1, 1.1, math.nan):
        with pytest.raises(SelectionError, match="expected above 0 and at most 1"):
            low_probability_threshold(logprobs, mask, fraction)
        with pytest.raises(ValueError, match="low-probability tokens is"):
            lowest_of_sign(logprobs, advantages, mask, fraction)
    for kappa in (-0.1, 1.0, math.nan):
        with pytest.raises(LpRegError, match=r"^kappa is .* below 1"):
            proxy(torch.zeros(3), kappa)
    with pytest.raises(LpRegError, match="the fixed threshold is 1"):
        proxy(torch.zeros(3), fixed_threshold=1)
    with pytest.raises(LpRegError, match="unknown sign 'neg'"):
        protected(mask, advantages, logprobs, logprobs, sign="neg")
    with pytest.raises(LpRegError, match="unknown form 'k1'"):
        penalty(logprobs, logprobs, mask, form="k1")
    with pytest.raises(LpRegError, match=r"cap on the ratio is 0\.5"):
        capped(logprobs, logprobs, advantages, cap=0.5)
    with pytest.raises(SelectionError, match=r"logprobs has shape \(10,\) and mask \(9,\)"):
        low_probability_threshold(logprobs, mask[:9], 0.5)
    with pytest.raises(SelectionError, match="logprobs: an unmasked value is not finite"):
        low_probability_threshold(torch.tensor([math.nan, 0.0]), torch.tensor([True, True]), 0.5)
