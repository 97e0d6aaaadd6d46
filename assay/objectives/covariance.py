"""KL-Cov: the few tokens whose log-probability and advantage move together most lower the entropy most; a penalty on them.

Source: "The Entropy Mechanism of Reinforcement Learning for Reasoning Language Models" (arXiv 2505.22617), KL-Cov. Its ratio is
not clipped, and on-policy its penalty has neither value nor gradient: it is a method for several updates on one batch. All
tensors (rows, tokens), logs in nats. The scope of means and shares is what is handed in (the authors': a micro-batch).
"""

import torch

from assay.objectives.policy import Surrogate, ratio
from assay.objectives.selection import check_fraction, extreme, share, valid


def covariances(logprobs: torch.Tensor, advantages: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """(A - mean A)(log pi - mean log pi) of each unmasked token, detached; 0 where masked. advantages broadcast."""
    spread = advantages.detach().expand(logprobs.shape)
    centred = []
    for name, values in (("logprobs", logprobs), ("advantages", spread)):
        chosen = valid(values, mask, name)
        centred.append(values.detach() - (chosen.double().mean().to(values.dtype) if chosen.numel() else 0.0))
    product = centred[0] * centred[1]
    return torch.where(mask, product, torch.zeros_like(product))


def highest_covariances(covariance: torch.Tensor, mask: torch.Tensor, fraction: float) -> torch.Tensor:
    """Mask of the int(fraction x tokens) largest, at least one; of equal ones the first. The authors' fraction is 0.002.

    Raises SelectionError for a fraction outside (0, 1].
    """
    check_fraction(fraction, "the fraction of tokens under KL-Cov")
    valid(covariance, mask, "covariance")
    return extreme(covariance, mask, share(fraction, int(mask.sum())), largest=True)


def kl_cov(
    logprobs: torch.Tensor,
    old_logprobs: torch.Tensor,
    advantages: torch.Tensor,
    selected: torch.Tensor,
    *,
    coefficient: float = 1.0,
) -> Surrogate:
    """-r A for every token, plus coefficient x |log pi - log pi_old| for the selected ones. Nothing is clipped."""
    loss = -ratio(logprobs, old_logprobs) * advantages
    gap = (logprobs - old_logprobs).abs()
    loss = loss + torch.where(selected, coefficient * gap, torch.zeros_like(gap))
    none = torch.zeros_like(loss, dtype=torch.bool)
    return Surrogate(loss, none, none)
