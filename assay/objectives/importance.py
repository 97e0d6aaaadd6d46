"""Importance weights for the mismatch of sampler and trainer: the same weights give slightly different
log-probabilities in two engines.

Truncated, not corrected in full: a weight above the cap is cut, which trades a small bias for a bounded variance
(truncated importance sampling, Ionides 2008; for sampler and trainer: Yao et al. 2025). Weights are constants and
multiply the policy loss.
"""

import torch

from assay.objectives.policy import LARGEST_LOG_RATIO


def token_truncated(trainer: torch.Tensor, sampler: torch.Tensor, mask: torch.Tensor, cap: float) -> torch.Tensor:
    """min(exp(trainer - sampler), cap) for each token; 1 where masked. All (rows, tokens), logs in nats."""
    return _truncated(_gap(trainer, sampler, mask), cap)


def sequence_truncated(trainer: torch.Tensor, sampler: torch.Tensor, mask: torch.Tensor, cap: float) -> torch.Tensor:
    """min(exp(sum over the row of trainer - sampler), cap): one weight for each row, shape (rows, 1)."""
    return _truncated(_gap(trainer, sampler, mask).sum(-1, keepdim=True), cap)


def _gap(trainer: torch.Tensor, sampler: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    gap = (trainer - sampler).detach()
    return torch.where(mask, gap, torch.zeros_like(gap))


def _truncated(log_weight: torch.Tensor, cap: float) -> torch.Tensor:
    return torch.exp(log_weight.clamp(max=LARGEST_LOG_RATIO)).clamp(max=cap)
