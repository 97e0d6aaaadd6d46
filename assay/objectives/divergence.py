"""Divergence from a reference policy, estimated on sampled tokens. d = log ref - log pi; all values in nats.

The first half is for tokens sampled from the policy itself, the second (`generator`) for tokens that the reference sampled.
The value of an estimator and its gradient as a loss answer different questions. For tokens sampled from pi:

| name | value        | expected value   | expected gradient as a loss                             |
|------|--------------|------------------|---------------------------------------------------------|
| k1   | -d           | KL(pi || ref)    | 0: E[grad log pi] = 0, so as a loss it is noise          |
| k2   | d^2 / 2      | about KL(pi || ref), to second order in d | that of KL(pi || ref), the reverse KL |
| k3   | e^d - d - 1  | KL(pi || ref)    | that of KL(ref || pi), the forward KL                    |

k3 is what most trainers ship under the name "KL penalty"; its pull is the forward KL's. Source: J. Schulman,
"Approximating KL divergence" (2020), for the values; the gradients follow from d/d(log pi): -(-1) = 1, -d, and 1 - e^d.

For tokens that the reference sampled, with x = log pi - log ref = -d and u = e^x: D_f(pi || ref) = E_ref f(u), so stored tokens
and their reference log-probabilities are enough and no reference model is loaded. Every f here is convex and 0 at u = 1:

| name       | f(u)                                  | E_ref f           | gradient on log pi      |
|------------|---------------------------------------|-------------------|-------------------------|
| forward_kl | u - 1 - x                             | KL(ref || pi)     | u - 1                   |
| js         | u x - (u + 1) log((u + 1) / 2)        | 2 JSD             | u log(2u / (u + 1))     |
| alpha      | (u^(1-a) - (1-a) u - a) / (a (a - 1)) | a in (0, 1)       | (u - u^(1-a)) / a       |
| reverse_kl | u x - u + 1                           | KL(pi || ref)     | u x                     |
| nll_replay | -x                                    | KL(ref || pi)     | -1: plain replay        |

alpha goes to reverse_kl as a -> 0, to forward_kl as a -> 1, and is 4 x the squared Hellinger distance at 0.5. For a
token that is being forgotten (u -> 0) the forward KL pulls back with constant force, while JS and reverse KL let go.
Source: DPH-RL (arXiv 2509.07430), generator form, as in its released code. Applied per token and averaged, only the
forward KL is the sequences' divergence (over their length); the others are means of token divergences.
"""

from collections.abc import Callable

import torch

LARGEST_LOG_RATIO = 20.0
"""In k3 d is cut to this range, where e^d would overflow float32. Cut in both of its places, or beyond the range the
linear one alone would pull the policy away from the reference."""


class DivergenceError(ValueError):
    """An estimator that does not exist, or cannot be used as asked."""


def k1(logprobs: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """log pi - log ref, per token. Unbiased, may be negative. To be measured, not minimised: see the table above."""
    return logprobs - reference


def k2(logprobs: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """d^2 / 2, per token, never negative. As a loss its expected gradient is that of the reverse KL(pi || ref)."""
    return (reference - logprobs).square() / 2


def k3(logprobs: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """e^d - d - 1, per token, never negative, an unbiased value of KL(pi || ref). Its gradient as a loss is the forward
    KL's, and 0 where |d| is above 20.
    """
    d = (reference - logprobs).clamp(-LARGEST_LOG_RATIO, LARGEST_LOG_RATIO)
    return torch.exp(d) - d - 1


ESTIMATORS: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {"k1": k1, "k2": k2, "k3": k3}


def penalty(name: str) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """An estimator that may be minimised. Raises DivergenceError for k1, whose gradient is zero in expectation."""
    if name == "k1":
        raise DivergenceError(
            "k1 as a loss has a gradient of zero mean, so it penalises nothing: use k2 (reverse KL) or k3 (forward KL)"
        )
    if name not in ESTIMATORS:
        raise DivergenceError(f"unknown estimator {name!r}; there are {', '.join(ESTIMATORS)}")
    return ESTIMATORS[name]


def generator(
    name: str, log_ratio: torch.Tensor, alpha: float | None = None, *, ceiling: float | None = None
) -> torch.Tensor:
    """f(u) of the module's second table, per token, from log_ratio = log pi - log ref on tokens that the reference sampled.

    log_ratio: any shape, nats; bears the gradient. It is cut at +-20, beyond which values stand still and gradients are 0
    (`beyond_range` says where), but for nll_replay, whose gradient is -1 everywhere. ceiling: values are cut there, and
    have no gradient (10 in the released code for forward_kl: reached at u = 13.6 and u = 1.7e-5).
    Raises DivergenceError for an unknown name, an alpha outside (0, 1), a missing one, and one that is not used.
    """
    if name not in GENERATORS:
        raise DivergenceError(f"unknown generator {name!r}; there are {', '.join(GENERATORS)}")
    if (alpha is None) == (name == "alpha"):
        raise DivergenceError(f"generator {name} with alpha {alpha}: alpha is given for the generator alpha, and for no other")
    if alpha is not None and not 0 < alpha < 1:
        raise DivergenceError(
            f"alpha is {alpha:g}, expected above 0 and below 1: at 0 use the generator reverse_kl, at 1 forward_kl"
        )
    x = log_ratio if name == "nll_replay" else log_ratio.clamp(-LARGEST_LOG_RATIO, LARGEST_LOG_RATIO)
    value = _alpha(x, alpha) if alpha is not None else GENERATORS[name](x)
    return value if ceiling is None else value.clamp(max=ceiling)


def beyond_range(log_ratio: torch.Tensor) -> torch.Tensor:
    """Mask of the tokens whose log ratio is cut: they have left the reference too far to be pulled."""
    return log_ratio.detach().abs() > LARGEST_LOG_RATIO


def js_definition(log_ratio: torch.Tensor, *, sampled_from: str = "reference") -> torch.Tensor:
    """One half of the Jensen-Shannon divergence by its definition, per token: k3 of KL(sampler || m), m = (pi + ref) / 2.

    log_ratio = log pi - log ref at tokens sampled from the reference, or from the policy (which then takes the reference
    model online); the two halves' expected values add up to that of the generator js, 2 JSD. The ablation of DPH-RL.
    Raises DivergenceError for another sampler.
    """
    if sampled_from not in ("reference", "policy"):
        raise DivergenceError(f"sampled_from is {sampled_from!r}, expected reference or policy")
    x = log_ratio.clamp(-LARGEST_LOG_RATIO, LARGEST_LOG_RATIO)
    above = torch.expm1(x if sampled_from == "reference" else -x) / 2
    return above - torch.log1p(above)


def full_reverse_kl(logprobs: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """KL(pi || ref) over the whole vocabulary at each position, with its true gradient: the control to k2 and k3.

    Both (..., vocabulary), log-softmax; result (...). Infinite where pi has mass on a token of reference probability 0.
    """
    present = ~torch.isneginf(logprobs)
    logs = torch.where(present, logprobs, torch.zeros_like(logprobs))
    gap = torch.where(present, logs - reference, torch.zeros_like(logprobs))
    return (torch.where(present, logs.exp(), torch.zeros_like(logs)) * gap).sum(-1)


# Written with expm1 and log1p: exactly 0 in value and gradient at x = 0, no differences of large numbers elsewhere.
def _forward_kl(x: torch.Tensor) -> torch.Tensor:
    return torch.expm1(x) - x


def _js(x: torch.Tensor) -> torch.Tensor:
    # u x - (u + 1) log((u + 1) / 2) = -u log((1 + 1/u) / 2) - log((1 + u) / 2)
    return -torch.exp(x) * torch.log1p(torch.expm1(-x) / 2) - torch.log1p(torch.expm1(x) / 2)


def _alpha(x: torch.Tensor, alpha: float = 0.5) -> torch.Tensor:
    rest = 1 - alpha
    return (rest * torch.expm1(x) - torch.expm1(rest * x)) / (alpha * rest)


def _reverse_kl(x: torch.Tensor) -> torch.Tensor:
    return x * torch.exp(x) - torch.expm1(x)


GENERATORS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "forward_kl": _forward_kl,
    "js": _js,
    "alpha": _alpha,
    "reverse_kl": _reverse_kl,
    "nll_replay": torch.neg,
}
