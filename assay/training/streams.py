"""What a loss term sees of a micro-batch and of its optimizer step, and what it gives back."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from assay.objectives.policy import denominator
from assay.params import Params


class TermError(ValueError):
    """A term that lacks a stream."""


@dataclass(frozen=True)
class Support:
    """Lp-Reg's targets at some completion tokens of a micro-batch, over the tokens that they keep."""

    index: torch.Tensor
    """(completion tokens,) row in the others, -1 where none is stored."""
    ids: torch.Tensor
    """(n, K)."""
    logprobs: torch.Tensor
    """(n, K), -inf beyond the target's size."""

    def to(self, device: torch.device | str) -> "Support":
        return Support(self.index.to(device), self.ids.to(device), self.logprobs.to(device))


@dataclass(frozen=True)
class TokenStreams:
    """One micro-batch as a term sees it. All (rows, tokens) float32 unless said otherwise; 0 where there is no
    token."""

    mask: torch.Tensor
    """bool: the token was sampled by the policy and bears loss."""
    logprobs: torch.Tensor
    """Of the policy in training; the only stream with a gradient, beside `entropies` where a term asks for that."""
    entropies: torch.Tensor
    """Of the next-token distribution at sampling temperature, nats."""
    old_logprobs: torch.Tensor
    """Training engine's, before the first step of this update."""
    sampled_logprobs: torch.Tensor
    """Sampler's."""
    advantages: torch.Tensor
    reference_logprobs: torch.Tensor | None
    """Training engine's under policy 0; None where no term needs them."""
    rehearsal: torch.Tensor
    """(rows,) bool: the mask of such rows is for the rehearsal's term alone."""
    selected: torch.Tensor | None = None
    """bool: the 80/20 rule's tokens, where its scope is the batch."""
    proxy_logprobs: torch.Tensor | None = None
    """Of Lp-Reg's target, from the policy before the first step; -inf where the token is noise."""
    candidates: torch.Tensor | None = None
    """bool: Lp-Reg's rare tokens, where they do not depend on the policy in training."""
    logits: torch.Tensor | None = None
    """(completion tokens, vocabulary), where a term asks for it; bears the gradient."""
    present: torch.Tensor | None = None
    """bool: where the completion tokens are; given with `logits`."""
    support: Support | None = None
    """Lp-Reg's stored targets, for its full form in later steps."""

    @property
    def policy_mask(self) -> torch.Tensor:
        """bool: bears policy loss and penalties; rows that are rehearsed do not."""
        return self.mask & ~self.rehearsal.unsqueeze(-1)


@dataclass(frozen=True)
class StepTotals:
    """Counts of one optimizer step, over all micro-batches and processes."""

    rows: int
    """Trained on by their advantage."""
    tokens: int
    """Of them, bearing loss."""
    denominator_rows: int
    """That the loss is divided by: the same, or all that were sampled (filter.denominator)."""
    denominator_tokens: int
    max_tokens: int
    """sampling.max_tokens."""
    selected_tokens: int | None = None
    """By the 80/20 rule over the batch."""
    low_probability_threshold: float | None = None
    """delta of Lp-Reg over the batch."""
    rehearsal_rows: int = 0
    """Rehearsed, which no other count includes."""
    rehearsal_tokens: int = 0


@dataclass(frozen=True)
class TermOutput:
    """A term's part of the loss, and what it measured."""

    loss: torch.Tensor
    """Scalar; its sum over micro-batches and processes is the term's loss of the optimizer step."""
    measures: dict[str, tuple[torch.Tensor, float]] = field(default_factory=dict)
    """Name -> (detached sum, what the step's sum is divided by)."""


Term = Callable[[TokenStreams, StepTotals], TermOutput]


def divisor(params: Params, totals: StepTotals) -> float:
    """What the step's sum of a term is divided by, as the policy loss is aggregated."""
    return denominator(
        params.training.loss.aggregation,
        rows=totals.denominator_rows,
        tokens=totals.denominator_tokens,
        max_tokens=totals.max_tokens,
    )
