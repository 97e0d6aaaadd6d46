"""Entropy and log-likelihood from logits, in float32 and in chunks: beside the logits and their gradient, both in the
type they came in, about one chunk is held. And which tokens have the highest entropies (the 80/20 rule)."""

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch.utils.checkpoint import checkpoint

from assay.objectives.selection import SelectionError, check_fraction, extreme, quantile, share, valid

CHUNK_ELEMENTS = 2**26
"""Logits handled at once: 256 MiB in float32."""


def entropy(logits: torch.Tensor, temperature: float = 1.0) -> torch.Tensor:
    """H = -sum_v p log p in nats of softmax(logits / temperature), 0 log 0 = 0. logits: (..., vocabulary) -> (...)."""
    flat = logits.reshape(-1, logits.size(-1))
    return _chunked(lambda part: _entropy(tempered_log_softmax(part, temperature)), flat).reshape(logits.shape[:-1])


def likelihood_and_entropy(
    logits: torch.Tensor, ids: torch.Tensor, temperature: float = 1.0, *, entropy_gradient: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """log p(id) and entropy at each position, of the distribution that was sampled: softmax(logits / temperature).

    logits: (tokens, vocabulary), any floating type. ids: (tokens,). Returns two float32 tensors (tokens,), in nats. The
    entropy bears a gradient only if asked for. In several chunks the softmax is computed again in the backward pass,
    not kept.
    """

    def both(part: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
        logs = tempered_log_softmax(part, temperature)
        likelihood = logs.gather(-1, chosen.unsqueeze(-1)).squeeze(-1)
        return torch.stack([likelihood, _entropy(logs if entropy_gradient else logs.detach())])

    result = _chunked(both, logits, ids)
    return result[0], result[1] if entropy_gradient else result[1].detach()


def tempered_log_softmax(logits: torch.Tensor, temperature: float) -> torch.Tensor:
    """(..., vocabulary) log-probabilities in nats, float32, of logits over a temperature."""
    # Divided in float32: in a shorter type the quotient would be rounded.
    return torch.log_softmax(logits if temperature == 1 else logits.float() / temperature, dim=-1, dtype=torch.float32)


def _entropy(logs: torch.Tensor) -> torch.Tensor:
    # A token of probability 0 has log -inf: cut, so that 0 x -inf is 0 and the gradient stays finite.
    return -(logs.exp() * logs.clamp(min=-1e4)).sum(-1)


def _chunked(function: Callable[..., torch.Tensor], logits: torch.Tensor, *others: torch.Tensor) -> torch.Tensor:
    """The function over chunks of positions, joined along its last dimension; checkpointed where there are several."""
    size = max(1, CHUNK_ELEMENTS // logits.size(-1))
    if logits.size(0) <= size:
        return function(logits, *others)
    # split, not slices: the gradient of a slice is as large as all logits, zeros but for the chunk.
    parts = zip(*(tensor.split(size) for tensor in (logits, *others)), strict=True)
    return torch.cat([checkpoint(function, *part, use_reentrant=False) for part in parts], dim=-1)


def entropy_threshold(entropy: torch.Tensor, mask: torch.Tensor, fraction: float) -> float:
    """tau: the (1 - fraction)-quantile of the unmasked entropies handed in, nats. Infinite where there is none.

    Over the generation batch it is taken once, from the first pass; over a micro-batch from its own entropies. Tokens
    left out of `mask` (padding; groups without advantage) do not move it. Source: "Beyond the 80/20 Rule" (arXiv
    2506.01939 version 2) eq. 6. Raises SelectionError for a fraction outside (0, 1] and entropies that are not finite.
    """
    check_fraction(fraction, "the fraction of tokens by entropy")
    chosen = valid(entropy, mask, "entropy")
    return quantile(chosen, 1 - fraction) if chosen.numel() else math.inf


def top_entropy_mask(
    entropy: torch.Tensor,
    mask: torch.Tensor,
    fraction: float,
    *,
    part: Literal["top", "bottom"] = "top",
    mode: Literal["quantile", "count"] = "quantile",
    advantages: torch.Tensor | None = None,
    threshold: float | None = None,
) -> torch.Tensor:
    """Mask of the given fraction of the unmasked tokens with the highest (or, as a control, lowest) entropies.

    entropy: any shape, of the policy in training at sampling temperature; never differentiated. mask: bool, the same
    shape. The scope is what is handed in, unless `threshold` brings the quantile of a larger one.

    quantile: H >= tau, as TRL's; with ties it may select far more, all tokens where all are equal. count: exactly
    int(fraction x tokens), at least 1, of equal ones the first. bottom: what the top (1 - fraction) leaves, so the two
    parts divide the tokens. advantages: where given, tokens of advantage 0 (all-right and all-wrong groups, which the paper
    never has) are neither ranked nor selected. A fraction of 1 is the switch off: `mask` as it is.
    Raises SelectionError as entropy_threshold, for unknown names, and for a threshold in count mode.
    """
    check_fraction(fraction, "the fraction of tokens by entropy")
    if part not in ("top", "bottom") or mode not in ("quantile", "count"):
        raise SelectionError(f"part {part!r}, mode {mode!r}: expected top or bottom, quantile or count")
    if mode == "count" and threshold is not None:
        raise SelectionError("a threshold is given, which count mode does not use: rank the whole batch at once instead")
    mask = mask.bool()
    if fraction == 1:
        return mask
    eligible = mask if advantages is None else mask & (advantages != 0)
    upper = fraction if part == "top" else 1 - fraction
    number = valid(entropy, eligible, "entropy").numel()
    if mode == "count":
        top = extreme(entropy, eligible, share(upper, number), largest=True)
    else:
        tau = entropy_threshold(entropy, eligible, upper) if threshold is None else threshold
        top = eligible & (entropy.detach().double() >= tau)
    return top if part == "top" else eligible & ~top


def restricted(
    values: torch.Tensor, mask: torch.Tensor, selected: torch.Tensor, normalisation: Literal["selected", "all"] = "selected"
) -> tuple[torch.Tensor, torch.Tensor]:
    """Losses and the mask to aggregate them over, so that only selected tokens bear loss: for `policy.numerator`, and
    for the counts of its denominator.

    selected: divided by the selected tokens (eq. 6 of version 2). all: by all unmasked ones (version 1, and TRL), which
    makes the loss smaller by the selected share: in token_mean by one factor, in sequence_mean by one for each row.
    """
    if normalisation == "selected":
        return values, mask & selected
    if normalisation != "all":
        raise SelectionError(f"unknown normalisation {normalisation!r}; there are selected and all")
    return torch.where(selected, values, torch.zeros_like(values)), mask
