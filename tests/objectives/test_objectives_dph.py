"""DPH-RL's generators: the worked numbers of the method file (B.7 T1 to T10, T12), limits, stability at extreme ratios, controls."""

import math

import pytest
import torch

from assay.objectives.divergence import (
    GENERATORS,
    DivergenceError,
    beyond_range,
    full_reverse_kl,
    generator,
    js_definition,
    k3,
)
from assay.objectives.policy import clipped, numerator

torch.set_num_threads(1)

REFERENCE = torch.tensor([0.5, 0.3, 0.15, 0.05], dtype=torch.float64)
POLICY = torch.tensor([0.7, 0.2, 0.08, 0.02], dtype=torch.float64)
X = (POLICY / REFERENCE).log()
PROPER = [("forward_kl", None), ("js", None), ("alpha", 0.2), ("alpha", 0.5), ("alpha", 0.8), ("reverse_kl", None)]
"""Generators of a divergence, which nll_replay is not."""


def near(values, tolerance=1e-6):
    return pytest.approx(values, abs=tolerance)


def value_and_gradient(name, x, alpha=None, dtype=torch.float64, **options):
    leaf = torch.as_tensor(x, dtype=dtype).clone().requires_grad_()
    value = generator(name, leaf, alpha, **options)
    value.sum().backward()
    return value.detach(), leaf.grad


def expected(values):
    return (REFERENCE * values).sum().item()


def kl(p, q):
    return (p * (p / q).log()).sum().item()


@pytest.mark.parametrize(("name", "alpha", "values", "mean", "gradient"), [
    ("forward_kl", None, [0.063528, 0.072132, 0.161942, 0.316291], 0.0935092, [0.4, -0.333333, -0.466667, -0.6]),
    ("js", None, [0.033489, 0.033559, 0.072154, 0.132829], 0.0442769, [0.215811, -0.148762, -0.193550, -0.223846]),
    ("alpha", 0.5, None, 0.0891030, [0.433568, -0.299660, -0.393927, -0.464911]),
    ("alpha", 0.2, None, 0.0870120, None),
    ("alpha", 0.8, None, 0.0915984, None),
    ("alpha", 0.001, None, 0.0858286, None),
    ("alpha", 0.999, None, 0.0934992, None),
    ("reverse_kl", None, None, 0.0858230, X.mul(X.exp()).tolist()),
])  # fmt: skip
def test_generators_of_the_worked_numbers(name, alpha, values, mean, gradient):
    """T1 to T4: values per token, expected values under the reference, gradients on log pi."""
    found, slope = value_and_gradient(name, X, alpha)
    assert expected(found) == near(mean, 1e-7)
    if values:
        assert found.tolist() == near(values)
    if gradient:
        assert slope.tolist() == near(gradient)


def test_expected_generators_are_the_divergences():
    middle = (POLICY + REFERENCE) / 2
    assert expected(generator("forward_kl", X)) == near(kl(REFERENCE, POLICY), 1e-12)
    assert expected(generator("reverse_kl", X)) == near(kl(POLICY, REFERENCE), 1e-12)
    jsd = (kl(POLICY, middle) + kl(REFERENCE, middle)) / 2
    assert jsd == near(0.0221385, 1e-7) and expected(generator("js", X)) == near(2 * jsd, 1e-12)
    hellinger = (1 - (POLICY * REFERENCE).sqrt().sum()).item()
    assert expected(generator("alpha", X, 0.5)) == near(4 * hellinger, 1e-12)
    assert expected(generator("nll_replay", X)) == near(kl(REFERENCE, POLICY), 1e-12)
    # Plain and written out, without cancellations to fear in float64.
    u = X.exp()
    assert torch.allclose(generator("js", X), u * X - (u + 1) * ((u + 1) / 2).log(), atol=1e-14)
    for a in (0.2, 0.5, 0.8):
        assert torch.allclose(generator("alpha", X, a), (u ** (1 - a) - (1 - a) * u - a) / (a * (a - 1)), atol=1e-14)


@pytest.mark.parametrize(("name", "gradient"), [
    ("forward_kl", [0.2, -0.1, -0.07, -0.03]),
    ("js", [0.091769, -0.049239, -0.030877, -0.011653]),
    ("nll_replay", [0.2, -0.1, -0.07, -0.03]),
])  # fmt: skip
def test_gradient_on_logits_of_the_expected_generator(name, gradient):
    """T4: for the forward KL pi - ref."""
    logits = POLICY.log().requires_grad_()
    (REFERENCE * generator(name, torch.log_softmax(logits, -1) - REFERENCE.log())).sum().backward()
    assert logits.grad.tolist() == near(gradient)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("name", "alpha"), PROPER)
def test_generators_are_zero_at_one_and_positive_elsewhere(name, alpha, dtype):
    """T5, exactly at u = 1; and T10: before the first step rehearsal has neither loss nor gradient."""
    value, gradient = value_and_gradient(name, [0.0, -0.0], alpha, dtype)
    assert value.tolist() == [0.0, 0.0] and gradient.tolist() == [0.0, 0.0]
    magnitude = torch.logspace(-3, 3, 400, dtype=dtype)
    value, gradient = value_and_gradient(name, torch.cat([magnitude, -magnitude]), alpha, dtype)
    assert (value > 0).all()
    assert torch.isfinite(value).all() and torch.isfinite(gradient).all()
    # Convex in u with its minimum at 1: the gradient on log pi has the sign of x wherever x is not cut.
    inside = magnitude < 20
    assert (gradient[:400][inside] > 0).all() and (gradient[400:][inside] < 0).all()
    assert (gradient[:400][~inside] == 0).all() and (gradient[400:][~inside] == 0).all()


@pytest.mark.parametrize(("name", "alpha"), PROPER)
def test_single_precision_keeps_small_ratios(name, alpha):
    """Written as in the table, float32 would leave one digit of x^2 / 2 at x = 1e-3."""
    x = torch.logspace(-3, 1, 50)
    for points in (x, -x):
        single, slope = value_and_gradient(name, points, alpha, torch.float32)
        double, exact = value_and_gradient(name, points.double(), alpha)
        assert torch.allclose(single.double(), double, rtol=1e-3, atol=0)
        assert torch.allclose(slope.double(), exact, rtol=1e-3, atol=0)


@pytest.mark.parametrize(("name", "alpha"), [*PROPER, ("nll_replay", None)])
def test_gradients_equal_the_formulas(name, alpha):
    x = torch.linspace(-12, 12, 97, dtype=torch.float64)
    _, gradient = value_and_gradient(name, x, alpha)
    u = x.exp()
    formulas = {
        "forward_kl": u - 1,
        "js": u * (2 * u / (u + 1)).log(),
        "alpha": (u - u ** (1 - (alpha or 0.5))) / (alpha or 0.5),
        "reverse_kl": u * x,
        "nll_replay": torch.full_like(x, -1),
    }
    assert torch.allclose(gradient, formulas[name], rtol=1e-9, atol=1e-9)
    assert torch.autograd.gradcheck(lambda leaf: generator(name, leaf, alpha), x[::16].clone().requires_grad_())


def test_forgotten_and_inflated_tokens_of_the_worked_numbers():
    """T6: what is forgotten is pulled back by the forward KL and let go by JS."""
    x = math.log(1e-6)
    value, gradient = value_and_gradient("forward_kl", x)
    assert value.item() == near(12.8155, 1e-4) and gradient.item() == near(-0.999999)
    value, gradient = value_and_gradient("js", x)
    assert value.item() == near(0.693133) and gradient.item() == near(-1.31e-5, 1e-7)
    assert value_and_gradient("reverse_kl", x)[1].item() == near(-1.38e-5, 1e-7)
    assert value_and_gradient("forward_kl", math.log(10))[0].item() == near(6.697415)
    assert value_and_gradient("js", math.log(10))[0].item() == near(4.273622)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extreme_ratios_stay_finite(dtype):
    """T7: at x = -800 the plain form of JS is 0 x -inf."""
    u = torch.tensor(-800.0, dtype=dtype).exp()
    assert torch.isnan(u * u.log())
    assert value_and_gradient("js", -800.0, dtype=dtype)[0].item() == near(0.6931472)
    for name, alpha in PROPER:
        for x in (-800.0, -104.0, 800.0, -math.inf, math.inf):
            value, gradient = value_and_gradient(name, x, alpha, dtype)
            assert math.isfinite(value.item()) and gradient.item() == 0, (name, x)
    assert beyond_range(torch.tensor([-20.1, -20.0, 0.0, 20.0, 21.0])).tolist() == [True, False, False, False, True]
    value, gradient = value_and_gradient("nll_replay", -800.0, dtype=dtype)
    assert (value.item(), gradient.item()) == (800, -1)


def test_a_ceiling_stops_the_pull():
    """T8: the released code's clamp at 10."""
    assert value_and_gradient("forward_kl", -12.0)[0].item() == near(11.000006)
    value, gradient = value_and_gradient("forward_kl", -12.0, ceiling=10)
    assert (value.item(), gradient.item()) == (10, 0)
    value, gradient = value_and_gradient("forward_kl", [2.61, 2.62], ceiling=10)
    assert gradient.tolist() == near([math.expm1(2.61), 0])
    # Neutral above every value.
    assert torch.equal(generator("forward_kl", X, ceiling=1e12), generator("forward_kl", X))


def test_the_forward_generator_is_k3_with_its_arguments_swapped():
    torch.manual_seed(0)
    policy, reference = torch.randn(50, dtype=torch.float64), torch.randn(50, dtype=torch.float64)
    assert torch.allclose(generator("forward_kl", policy - reference), k3(reference, policy), atol=1e-12)


def test_definition_form_of_js():
    """T9: the half on the reference's tokens is KL(ref || m); both halves add up to 2 JSD."""
    middle = (POLICY + REFERENCE) / 2
    half = js_definition(X)
    assert half.tolist() == near([0.017678, 0.015655, 0.032370, 0.056675])
    assert expected(half) == near(0.0212249, 1e-7) and expected(half) == near(kl(REFERENCE, middle), 1e-12)
    other = (POLICY * js_definition(X, sampled_from="policy")).sum().item()
    assert other == near(kl(POLICY, middle), 1e-12)
    assert expected(half) + other == near(expected(generator("js", X)), 1e-12)
    for sampler in ("reference", "policy"):
        leaf = torch.tensor([0.0, 800.0, -800.0], requires_grad=True)
        value = js_definition(leaf, sampled_from=sampler)
        value.sum().backward()
        assert value[0].item() == 0 and torch.isfinite(value).all()
        assert leaf.grad.tolist() == [0, 0, 0]
    x = torch.linspace(-5, 5, 21, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(js_definition(x).sum(), x)
    # d/dx of v - 1 - log v with v = (1 + u) / 2
    u = x.detach().exp()
    assert torch.allclose(slope, u / 2 - u / (1 + u))


def test_true_reverse_kl_over_the_vocabulary():
    torch.manual_seed(1)
    logits = torch.randn(7, 30, dtype=torch.float64, requires_grad=True)
    reference = torch.log_softmax(torch.randn(7, 30, dtype=torch.float64), -1)
    logprobs = torch.log_softmax(logits, -1)
    value = full_reverse_kl(logprobs, reference)
    p = logprobs.exp().detach()
    gap = logprobs.detach() - reference
    assert torch.allclose(value, (p * gap).sum(-1))
    (gradient,) = torch.autograd.grad(value.sum(), logits)
    assert torch.allclose(gradient, p * (gap - (p * gap).sum(-1, keepdim=True)))
    by_generator = (reference.exp() * generator("reverse_kl", logprobs.detach() - reference)).sum(-1)
    assert torch.allclose(value, by_generator)
    # Zeros of the policy cost nothing; zeros of the reference everything.
    half = torch.tensor([0.5, 0.5, 0.0]).log().requires_grad_()
    result = full_reverse_kl(half, torch.tensor([0.25, 0.25, 0.5]).log())
    result.backward()
    assert result.item() == near(math.log(2)) and torch.isfinite(half.grad).all()
    assert full_reverse_kl(half.detach(), torch.tensor([0.0, 1.0, 0.0]).log()).item() == math.inf


def test_rehearsal_adds_its_own_gradient_and_nothing_else():
    """T12, and eta = 0: the divergence knows no advantages, the policy loss no rehearsal; micro-batches do not matter."""
    torch.manual_seed(2)
    logprobs = (-torch.rand(6, 5, dtype=torch.float64)).requires_grad_()
    reference, advantages = -torch.rand(6, 5, dtype=torch.float64), torch.randn(6, 1, dtype=torch.float64)
    mask, rehearsal = torch.rand(6, 5) < 0.8, torch.tensor([False] * 4 + [True] * 2)[:, None]

    def gradient(eta, a, ref, rows=(slice(None),)):
        total = torch.zeros((), dtype=torch.float64)
        tokens, rehearsed = (mask & ~rehearsal).sum(), (mask & rehearsal).sum()
        for part in rows:
            policy_loss = clipped(logprobs[part], logprobs.detach()[part], a[part]).loss
            total = total + numerator(policy_loss, (mask & ~rehearsal)[part], "token_mean") / tokens
            f = generator("js", logprobs[part] - ref[part])
            total = total + eta * numerator(f, (mask & rehearsal)[part], "token_mean") / rehearsed
        return torch.autograd.grad(total, logprobs)[0]

    on = gradient(0.2, advantages, reference)
    assert torch.equal(on[4:], gradient(0.2, -3 * advantages, reference)[4:]) and on[4:].abs().sum() > 0
    assert torch.equal(on[:4], gradient(0.2, advantages, reference - 1)[:4]) and on[:4].abs().sum() > 0
    off = gradient(0.0, advantages, reference)
    assert torch.equal(on[:4], off[:4]) and not off[4:].any()
    assert torch.allclose(on, gradient(0.2, advantages, reference, (slice(0, 1), slice(1, 5), slice(5, 6))), atol=1e-16)


def test_bad_input_is_refused():
    for alpha in (0, 1, -0.5, 1.5, math.nan):
        with pytest.raises(DivergenceError, match="expected above 0 and below 1: at 0 use the generator reverse_kl"):
            generator("alpha", X, alpha)
    with pytest.raises(ValueError, match="alpha is given for the generator alpha, and for no other"):
        generator("alpha", X)
    with pytest.raises(DivergenceError, match="generator js with alpha 0\\.5"):
        generator("js", X, 0.5)
    with pytest.raises(DivergenceError, match="unknown generator 'kl'; there are " + ", ".join(GENERATORS)):
        generator("kl", X)
    with pytest.raises(DivergenceError, match="sampled_from is 'old'"):
        js_definition(X, sampled_from="old")
