"""Entropy and log-likelihood from logits, in float32 and in chunks: beside the logits and their gradient, both in the
type they came in, about one chunk is held."""

from collections.abc import Callable

import torch
from torch.utils.checkpoint import checkpoint

CHUNK_ELEMENTS = 2**26
"""Logits handled at once: 256 MiB in float32."""


def entropy(logits: torch.Tensor, temperature: float = 1.0) -> torch.Tensor:
    """H = -sum_v p log p in nats of softmax(logits / temperature), 0 log 0 = 0. logits: (..., vocabulary) -> (...)."""
    flat = logits.reshape(-1, logits.size(-1))
    return _chunked(lambda part: _entropy(_log_softmax(part, temperature)), flat).reshape(logits.shape[:-1])


def likelihood_and_entropy(
    logits: torch.Tensor, ids: torch.Tensor, temperature: float = 1.0, *, entropy_gradient: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """log p(id) and entropy at each position, of the distribution that was sampled: softmax(logits / temperature).

    logits: (tokens, vocabulary), any floating type. ids: (tokens,). Returns two float32 tensors (tokens,), in nats. The
    entropy bears a gradient only if asked for. In several chunks the softmax is computed again in the backward pass,
    not kept.
    """

    def both(part: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
        logs = _log_softmax(part, temperature)
        likelihood = logs.gather(-1, chosen.unsqueeze(-1)).squeeze(-1)
        return torch.stack([likelihood, _entropy(logs if entropy_gradient else logs.detach())])

    result = _chunked(both, logits, ids)
    return result[0], result[1] if entropy_gradient else result[1].detach()


def _log_softmax(logits: torch.Tensor, temperature: float) -> torch.Tensor:
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
