"""Policy losses over tokens, and how they are put together over an optimizer step.

Every function is element-wise or a sum: sums and counts stay apart, so that each normaliser can be taken over the whole
optimizer step, whatever the micro-batches and processes. Shapes are (rows, tokens) unless said otherwise; logs are
natural.
"""

from dataclasses import dataclass
from typing import Literal

import torch

Aggregation = Literal["token_mean", "sequence_mean", "token_sum", "token_sum_constant"]

LARGEST_LOG_RATIO = 20.0
"""Log ratios are cut at +-20 before `exp`: e^20 is far beyond every clip, and overflow would turn into NaN gradients.
"""

LARGEST_LOG_SEQUENCE_RATIO = 10.0
"""The same for the ratio of a sequence, a geometric mean over its tokens."""


class PolicyLossError(ValueError):
    """Options of a policy loss that do not fit together."""


@dataclass(frozen=True)
class Surrogate:
    """A policy loss for each token, and where its clips were active."""

    loss: torch.Tensor
    """(rows, tokens), to be minimised; bears the gradient."""
    clipped_low: torch.Tensor
    """Ratio below 1 - clip_low with a negative advantage: no gradient there."""
    clipped_high: torch.Tensor
    """Ratio above 1 + clip_high with a positive advantage: no gradient there."""


def ratio(logprobs: torch.Tensor, old_logprobs: torch.Tensor) -> torch.Tensor:
    """exp(log pi - log pi_old), with the log ratio cut at +-20."""
    return torch.exp((logprobs - old_logprobs).clamp(-LARGEST_LOG_RATIO, LARGEST_LOG_RATIO))


def clipped(
    logprobs: torch.Tensor,
    old_logprobs: torch.Tensor,
    advantages: torch.Tensor,
    *,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    dual_clip: float | None = None,
) -> Surrogate:
    """-min(r A, clip(r, 1 - clip_low, 1 + clip_high) A) with r = pi / pi_old; for A < 0 never above dual_clip x |A|.

    Sources: PPO (arXiv 1707.06347) eq. 7; clip-higher, clip_high > clip_low: DAPO (arXiv 2503.14476) eq. 10; dual clip:
    Ye et al. 2020 (arXiv 1912.09729) eq. 5. advantages broadcast against the tokens. Raises PolicyLossError where
    dual_clip would cut below the upper clip.
    """
    if dual_clip is not None and dual_clip <= 1 + clip_high:
        raise PolicyLossError(f"dual_clip is {dual_clip}, which must be above 1 + clip_high = {1 + clip_high}")
    r = ratio(logprobs, old_logprobs)
    loss = torch.maximum(-r * advantages, -r.clamp(1 - clip_low, 1 + clip_high) * advantages)
    if dual_clip is not None:
        loss = torch.where(advantages < 0, torch.minimum(loss, -dual_clip * advantages), loss)
    with torch.no_grad():
        low, high = (r < 1 - clip_low) & (advantages < 0), (r > 1 + clip_high) & (advantages > 0)
    return Surrogate(loss, low, high)


def dual_clipped(
    logprobs: torch.Tensor,
    old_logprobs: torch.Tensor,
    advantages: torch.Tensor,
    *,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    dual_clip: float = 3.0,
) -> Surrogate:
    """`clipped` with a dual clip, by default that of its source (Ye et al. 2020, arXiv 1912.09729, section 4: c = 3)."""
    return clipped(logprobs, old_logprobs, advantages, clip_low=clip_low, clip_high=clip_high, dual_clip=dual_clip)


def sequence_clipped(
    logprobs: torch.Tensor,
    old_logprobs: torch.Tensor,
    advantages: torch.Tensor,
    mask: torch.Tensor,
    *,
    clip_low: float = 3e-4,
    clip_high: float = 4e-4,
) -> Surrogate:
    """GSPO: -min(s A, clip(s, 1 - clip_low, 1 + clip_high) A) with one ratio for each row, s = exp(mean over its unmasked
    tokens of log pi - log pi_old).

    In its token form, s times a factor of value 1 that bears the token's gradient: loss (rows, tokens), so that advantages
    may differ by token, and each token's gradient is -s A. Aggregated by sequence_mean it is the sequence form exactly. The
    log of s is cut at +-10. Clips lie far closer to 1 than for token ratios, whose noise a mean of logs averages out.
    Source: GSPO (arXiv 2507.18071) eq. 5, 7, token form eq. 13, 14.
    """
    gap = logprobs.detach() - old_logprobs
    kept = torch.where(mask, gap, torch.zeros_like(gap))
    log_s = kept.sum(-1, keepdim=True) / mask.sum(-1, keepdim=True).clamp(min=1)
    log_token = torch.where(mask, logprobs - logprobs.detach(), torch.zeros_like(logprobs)) + log_s
    s = torch.exp(log_token.clamp(-LARGEST_LOG_SEQUENCE_RATIO, LARGEST_LOG_SEQUENCE_RATIO))
    loss = torch.maximum(-s * advantages, -s.clamp(1 - clip_low, 1 + clip_high) * advantages)
    with torch.no_grad():
        low, high = (s < 1 - clip_low) & (advantages < 0), (s > 1 + clip_high) & (advantages > 0)
    return Surrogate(loss, low, high)


def numerator(values: torch.Tensor, mask: torch.Tensor, aggregation: Aggregation) -> torch.Tensor:
    """The part of an aggregate that adds up over micro-batches and processes: a scalar.

    values, mask: (rows, tokens). sequence_mean sums each row's mean over its unmasked tokens (a row without any counts
    0); the others sum over unmasked tokens.
    """
    # A masked value may be anything, also infinite: it is replaced, not multiplied by 0.
    kept = torch.where(mask, values, torch.zeros((), dtype=values.dtype, device=values.device))
    if aggregation == "sequence_mean":
        return (kept.sum(-1) / mask.sum(-1).clamp(min=1)).sum()
    return kept.sum()


def denominator(aggregation: Aggregation, *, rows: int, tokens: int, max_tokens: int) -> float:
    """What the numerator of a whole optimizer step is divided by.

    token_mean: tokens (DAPO; TRL's dapo). sequence_mean: rows (GRPO; TRL's grpo). token_sum: rows (LUSPO; TRL's luspo).
    token_sum_constant: rows x max_tokens (Dr. GRPO; TRL's dr_grpo), so that a long answer is not weighted down.
    """
    counts = {
        "token_mean": tokens,
        "sequence_mean": rows,
        "token_sum": rows,
        "token_sum_constant": rows * max_tokens,
    }
    return float(max(counts[aggregation], 1))
