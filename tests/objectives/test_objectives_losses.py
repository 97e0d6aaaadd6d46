"""Policy losses, divergences, entropy and importance weights: worked numbers, gradients, and what masks must hide."""

import math

import pytest
import torch

from assay.objectives import entropy as entropies
from assay.objectives.divergence import DivergenceError, k1, k2, k3, penalty
from assay.objectives.entropy import entropy, likelihood_and_entropy
from assay.objectives.importance import sequence_truncated, token_truncated
from assay.objectives.policy import PolicyLossError, clipped, denominator, dual_clipped, numerator


def at_ratio(r, advantage, **options):
    logprobs = torch.tensor([[math.log(r)]], dtype=torch.float64, requires_grad=True)
    out = clipped(logprobs, torch.zeros(1, 1, dtype=torch.float64), torch.tensor([[float(advantage)]]), **options)
    (gradient,) = torch.autograd.grad(out.loss.sum(), logprobs)
    return out.loss.item(), gradient.item(), out.clipped_low.item(), out.clipped_high.item()


@pytest.mark.parametrize(
    ("r", "advantage", "options", "loss", "gradient", "low", "high"),
    [
        (10, -1, {"dual_clip": 3.0}, 3.0, 0.0, False, False),  # the worked numbers of the shared core
        (10, 1, {"dual_clip": 3.0}, -1.2, 0.0, False, True),
        (10, -1, {}, 10.0, 10.0, False, False),
        (1, 1, {}, -1.0, -1.0, False, False),
        (0.5, -1, {}, 0.8, 0.0, True, False),
        (0.5, 1, {}, -0.5, -0.5, False, False),
        (1.25, 1, {"clip_high": 0.28}, -1.25, -1.25, False, False),  # clip-higher lets it through
        (1.3, 1, {"clip_high": 0.28}, -1.28, 0.0, False, True),
        (1, 0, {}, 0.0, 0.0, False, False),
    ],
)
def test_clipped_surrogate(r, advantage, options, loss, gradient, low, high):
    seen = at_ratio(r, advantage, **options)
    assert seen[0] == pytest.approx(loss)
    assert seen[1] == pytest.approx(gradient)
    assert seen[2:] == (low, high)


def test_dual_clipped_is_clipped_with_the_dual_clip_of_the_paper():
    logprobs, old = torch.tensor([[3.0, 0.1]]), torch.zeros(1, 2)
    assert torch.equal(dual_clipped(logprobs, old, -torch.ones(1)).loss, clipped(logprobs, old, -torch.ones(1), dual_clip=3.0).loss)
    assert dual_clipped(logprobs, old, -torch.ones(1)).loss[0, 0] == 3.0


def test_ratio_stays_finite():
    logprobs = torch.tensor([[500.0, -500.0]], requires_grad=True)
    loss = clipped(logprobs, torch.zeros(1, 2), torch.tensor([[-1.0]])).loss.sum()
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(logprobs.grad).all()


def test_dual_clip_below_the_upper_clip_is_refused():
    with pytest.raises(PolicyLossError, match="above 1 \\+ clip_high"):
        at_ratio(1, 1, clip_high=2.5, dual_clip=3.0)


def test_aggregations_by_hand():
    values = torch.tensor([[1.0, 2.0, 3.0], [10.0, 20.0, 99.0], [7.0, 7.0, 7.0]])
    mask = torch.tensor([[True, True, True], [True, True, False], [False, False, False]])
    totals = {"rows": 3, "tokens": 5, "max_tokens": 4}
    expected = {
        "token_mean": 36 / 5,
        "sequence_mean": (2 + 15 + 0) / 3,
        "token_sum": 36 / 3,
        "token_sum_constant": 36 / 12,
    }
    for how, value in expected.items():
        assert (numerator(values, mask, how) / denominator(how, **totals)).item() == pytest.approx(value), how


@pytest.mark.parametrize("how", ["token_mean", "sequence_mean", "token_sum", "token_sum_constant"])
def test_numerators_add_up_over_micro_batches(how):
    torch.manual_seed(0)
    values, mask = torch.randn(7, 5, dtype=torch.float64), torch.rand(7, 5) < 0.6
    whole = numerator(values, mask, how)
    parts = sum(numerator(values[i : i + 2], mask[i : i + 2], how) for i in range(0, 7, 2))
    assert parts.item() == pytest.approx(whole.item(), rel=1e-12)


def test_masked_values_cannot_leak():
    values = torch.tensor([[1.0, math.inf], [math.nan, 2.0]], requires_grad=True)
    mask = torch.tensor([[True, False], [False, True]])
    total = numerator(values, mask, "token_mean")
    total.backward()
    assert total.item() == 3.0
    assert values.grad.tolist() == [[1.0, 0.0], [0.0, 1.0]]


def test_divergence_worked_numbers():
    log2 = torch.tensor([math.log(2)])
    zero = torch.zeros(1)
    for estimator in (k1, k2, k3):
        assert estimator(log2, log2).item() == 0
    assert k3(log2, zero).item() == pytest.approx(0.5 + math.log(2) - 1)
    assert k1(log2, zero).item() == pytest.approx(math.log(2))
    assert k2(log2, zero).item() == pytest.approx(math.log(2) ** 2 / 2)
    assert (k3(torch.randn(1000), torch.randn(1000)) >= 0).all()


@pytest.mark.parametrize(("d", "value", "gradient"), [
    (19, math.exp(19) - 20, 1 - math.exp(19)),
    (21, math.exp(20) - 21, 0),
    (-19, math.exp(-19) + 18, 1 - math.exp(-19)),
    (-21, math.exp(-20) + 19, 0),
])  # fmt: skip
def test_k3_beyond_its_range_pulls_nowhere(d, value, gradient):
    """Cut in the exponential only, its gradient at d = 21 would be +1: away from the reference."""
    logprobs = torch.tensor([0.0], dtype=torch.float64, requires_grad=True)
    result = k3(logprobs, torch.tensor([float(d)], dtype=torch.float64))
    result.sum().backward()
    assert result.item() == pytest.approx(value) and logprobs.grad.item() == pytest.approx(gradient)


def test_expected_values_and_gradients_of_the_estimators():
    """The table of the module, by exact sums over a vocabulary: gradients with respect to logits."""
    torch.manual_seed(0)
    logits = torch.randn(6, dtype=torch.float64, requires_grad=True)
    reference = torch.log_softmax(torch.randn(6, dtype=torch.float64), -1)
    logs = torch.log_softmax(logits, -1)
    weight = logs.exp().detach()
    reverse, forward = (logs.exp() * (logs - reference)).sum(), (reference.exp() * (reference - logs)).sum()
    (of_reverse,) = torch.autograd.grad(reverse, logits, retain_graph=True)
    (of_forward,) = torch.autograd.grad(forward, logits, retain_graph=True)
    gradient = {}
    for name, estimator in (("k1", k1), ("k2", k2), ("k3", k3)):
        expected = (weight * estimator(logs, reference)).sum()
        if name != "k2":
            assert expected.item() == pytest.approx(reverse.item())
        (gradient[name],) = torch.autograd.grad(expected, logits, retain_graph=True)
    assert gradient["k1"].abs().max() < 1e-12
    assert torch.allclose(gradient["k2"], of_reverse)
    assert torch.allclose(gradient["k3"], of_forward)


def test_k1_is_refused_as_a_penalty():
    with pytest.raises(DivergenceError, match="zero mean"):
        penalty("k1")
    with pytest.raises(DivergenceError, match="unknown estimator"):
        penalty("k4")
    assert penalty("k3") is k3


@pytest.mark.parametrize(
    ("probabilities", "value"),
    [
        ([0.25] * 4, 1.386294),
        ([0.97, 0.01, 0.01, 0.01], 0.167701),
        ([0.6, 0.3, 0.09, 0.01], 0.930454),
        ([0.5, 0.5, 0, 0], 0.693147),
    ],
)
def test_entropy_worked_numbers(probabilities, value):
    logits = torch.tensor([probabilities]).log().requires_grad_()
    result = entropy(logits)
    result.sum().backward()
    assert result.item() == pytest.approx(value, abs=1e-6)
    assert torch.isfinite(logits.grad).all()


def test_likelihood_is_of_the_tempered_distribution():
    logits, ids = torch.randn(5, 11), torch.tensor([0, 3, 10, 3, 7])
    likelihood, spread = likelihood_and_entropy(logits, ids, temperature=0.7)
    logs = torch.log_softmax(logits / 0.7, -1)
    assert torch.allclose(likelihood, logs[torch.arange(5), ids], atol=1e-6)
    assert torch.allclose(spread, -(logs.exp() * logs).sum(-1), atol=1e-6)


@pytest.mark.parametrize("with_entropy", [False, True])
def test_chunks_change_neither_values_nor_gradients(monkeypatch, with_entropy):
    torch.manual_seed(0)
    logits, ids = torch.randn(23, 17, dtype=torch.bfloat16), torch.randint(17, (23,))

    def run():
        own = logits.clone().requires_grad_()
        likelihood, spread = likelihood_and_entropy(own, ids, 0.8, entropy_gradient=with_entropy)
        (likelihood.sum() + (spread.sum() if with_entropy else 0)).backward()
        assert likelihood.dtype == torch.float32
        return likelihood.detach(), spread.detach(), own.grad

    whole = run()
    monkeypatch.setattr(entropies, "CHUNK_ELEMENTS", 17 * 4)
    for one, other in zip(whole, run(), strict=True):
        assert torch.equal(one, other)


def test_chunks_hold_no_gradients_of_all_logits(monkeypatch):
    """The gradient of each slice would be as large as all logits: with 64 chunks, 64 such sums."""
    from torch.profiler import ProfilerActivity, profile

    monkeypatch.setattr(entropies, "CHUNK_ELEMENTS", 128)
    logits = torch.randn(64, 128, dtype=torch.bfloat16, requires_grad=True)
    total = likelihood_and_entropy(logits, torch.zeros(64, dtype=torch.int64))[0].sum()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        total.backward()
    largest = logits.numel() * logits.element_size()
    whole = [event for event in seen.events() if event.name == "aten::zeros" and event.cpu_memory_usage >= largest]
    assert len(whole) <= 1


def test_entropy_bears_no_gradient_unless_asked():
    logits = torch.randn(3, 5, requires_grad=True)
    assert not likelihood_and_entropy(logits, torch.tensor([0, 1, 2]))[1].requires_grad
    assert likelihood_and_entropy(logits, torch.tensor([0, 1, 2]), entropy_gradient=True)[1].requires_grad


def test_importance_weights():
    trainer = torch.tensor([[math.log(0.5), math.log(3.0), 5.0]], requires_grad=True)
    mask = torch.tensor([[True, True, False]])
    tokens = token_truncated(trainer, torch.zeros(1, 3), mask, cap=2.0)
    assert tokens.tolist() == [[0.5, 2.0, 1.0]]
    sequence = sequence_truncated(trainer, torch.zeros(1, 3), mask, cap=2.0)
    assert sequence.shape == (1, 1) and sequence.item() == pytest.approx(1.5)
    assert not tokens.requires_grad and not sequence.requires_grad
    assert sequence_truncated(torch.full((1, 3), 99.0), torch.zeros(1, 3), mask, cap=2.0).item() == 2.0
