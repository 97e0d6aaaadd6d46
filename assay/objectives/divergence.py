"""Divergence from a reference policy, estimated on sampled tokens. d = log ref - log pi; all values in nats.

The value of an estimator and its gradient as a loss answer different questions. For tokens sampled from pi:

| name | value        | expected value   | expected gradient as a loss                             |
|------|--------------|------------------|---------------------------------------------------------|
| k1   | -d           | KL(pi || ref)    | 0: E[grad log pi] = 0, so as a loss it is noise          |
| k2   | d^2 / 2      | about KL(pi || ref), to second order in d | that of KL(pi || ref), the reverse KL |
| k3   | e^d - d - 1  | KL(pi || ref)    | that of KL(ref || pi), the forward KL                    |

k3 is what most trainers ship under the name "KL penalty"; its pull is the forward KL's. Source: J. Schulman,
"Approximating KL divergence" (2020), for the values; the gradients follow from d/d(log pi): -(-1) = 1, -d, and 1 - e^d.
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
