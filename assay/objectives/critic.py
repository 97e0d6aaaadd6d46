"""The critic's side of PPO: its clipped loss, and how much of the returns it explains.

The targets are the returns of `advantages.generalized_advantage`. A loss is element-wise, so that it is aggregated over a whole
optimizer step as policy losses are (`policy.numerator`, `policy.denominator` with token_mean).
"""

from dataclasses import dataclass

import torch


class CriticError(ValueError):
    """Values, returns or options of a critic that do not fit together."""


@dataclass(frozen=True)
class ValueLoss:
    """A critic's loss for each token, and where its clip was active."""

    loss: torch.Tensor
    """(rows, tokens), to be minimised; bears the gradient."""
    clipped: torch.Tensor
    """The clipped error is the larger one: the value has left its range towards the return, and there is no gradient."""


def clipped_value(values: torch.Tensor, old_values: torch.Tensor, returns: torch.Tensor, *, clip: float | None = 0.5) -> ValueLoss:
    """0.5 max((V - R)^2, (clip(V, V_old - clip, V_old + clip) - R)^2), per token.

    values, old_values (before the first update on this batch), returns: (rows, tokens). clip is absolute, in units of the reward: it suits
    rewards of order 1. None: the plain squared error. Source: PPO as released (arXiv 2005.12729 section 3); clip 0.5 in RISE and VSRM.
    Raises CriticError for shapes that differ or a clip that is not above 0.
    """
    if not values.shape == old_values.shape == returns.shape:
        raise CriticError(f"values {tuple(values.shape)}, old values {tuple(old_values.shape)} and returns {tuple(returns.shape)} differ")
    error = (values - returns) ** 2
    if clip is None:
        return ValueLoss(0.5 * error, torch.zeros_like(error, dtype=torch.bool))
    if not clip > 0:
        raise CriticError(f"the clip of values is {clip}, expected a number above 0, or None")
    near = torch.minimum(torch.maximum(values, old_values - clip), old_values + clip)
    near_error = (near - returns) ** 2
    return ValueLoss(0.5 * torch.maximum(error, near_error), (near_error > error).detach())


def explained_variance(values: torch.Tensor, returns: torch.Tensor, mask: torch.Tensor) -> float | None:
    """1 - Var(R - V) / Var(R) over unmasked tokens: 1 a perfect critic, 0 one that is no better than a constant, below 0 a worse one.

    None where the returns do not vary: there is nothing to explain. Watched during a critic's warm-up.
    """
    if not values.shape == returns.shape == mask.shape:
        raise CriticError(f"values {tuple(values.shape)}, returns {tuple(returns.shape)} and mask {tuple(mask.shape)} differ")
    truth, guess = returns[mask.bool()].double(), values[mask.bool()].double()
    if truth.numel() < 2 or not (spread := float(truth.var(correction=0))) > 0:
        return None
    return 1 - float((truth - guess).var(correction=0)) / spread
