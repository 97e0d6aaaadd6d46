"""The training engine's forward pass: log-probabilities and entropies of completion tokens, and of nothing else."""

import torch
from torch import nn

from assay.objectives.entropy import likelihood_and_entropy
from assay.training.batching import Tokens


class ForwardError(RuntimeError):
    """A model whose output head does not work as that of a causal language model of transformers."""


def completion_likelihood(
    model: nn.Module, head: nn.Module, tokens: Tokens, temperature: float, *, entropy_gradient: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probability of each completion token and entropy of the distribution it was drawn from, float32, in nats.

    Two tensors (rows, longest completion), 0 where there is no token. Logits are divided by the temperature first, as the
    sampler did. Arguments and errors as for `completion_logits`.
    """
    return likelihood(completion_logits(model, head, tokens), tokens, temperature, entropy_gradient=entropy_gradient)


def likelihood(
    logits: torch.Tensor, tokens: Tokens, temperature: float, *, entropy_gradient: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same from the logits."""
    found, entropy = likelihood_and_entropy(logits, tokens.ids, temperature, entropy_gradient=entropy_gradient)
    return tokens.spread(found), tokens.spread(entropy)


def completion_logits(model: nn.Module, head: nn.Module, tokens: Tokens) -> torch.Tensor:
    """(completion tokens, vocabulary): the logits that each completion token was drawn from, row after row.

    model: a causal language model, possibly wrapped (DDP, PEFT, FSDP). head: its output embedding, the module that
    turns hidden states into logits. Raises ForwardError where the head cannot be restricted to some positions.

    Only the positions that predict a completion token go through the head: a hook hands it those, so that whatever
    the architecture does with its logits (soft caps, scales) is done by the architecture, and prompt logits are never
    computed.
    """

    def select(_head: nn.Module, arguments: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        hidden = arguments[0]
        return (hidden.reshape(-1, hidden.size(-1))[tokens.positions].unsqueeze(0), *arguments[1:])

    hook = head.register_forward_pre_hook(select)
    try:
        logits = model(input_ids=tokens.input_ids, use_cache=False).logits
    finally:
        hook.remove()
    if logits.shape[:2] != (1, len(tokens.ids)):
        raise ForwardError(
            f"the model gave logits of shape {tuple(logits.shape)} for {len(tokens.ids)} completion tokens: its output "
            f"head ({type(head).__name__}) is not called on hidden states, which this trainer needs"
        )
    return logits[0]
