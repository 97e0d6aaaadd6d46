"""The loss as a sum of terms over per-token streams. The trainer knows terms, not methods: a method is streams and
terms."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from assay.objectives.divergence import penalty
from assay.objectives.importance import sequence_truncated, token_truncated
from assay.objectives.policy import clipped, denominator, numerator
from assay.params import Params


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
    """(rows,) bool."""


@dataclass(frozen=True)
class StepTotals:
    """Counts of one optimizer step, over all micro-batches and processes."""

    rows: int
    """Trained on."""
    tokens: int
    """Trained on, bearing loss."""
    denominator_rows: int
    """That the loss is divided by: the same, or all that were sampled (filter.denominator)."""
    denominator_tokens: int
    max_tokens: int
    """sampling.max_tokens."""


@dataclass(frozen=True)
class TermOutput:
    """A term's part of the loss, and what it measured."""

    loss: torch.Tensor
    """Scalar; its sum over micro-batches and processes is the term's loss of the optimizer step."""
    measures: dict[str, tuple[torch.Tensor, float]] = field(default_factory=dict)
    """Name -> (detached sum, what the step's sum is divided by)."""


Term = Callable[[TokenStreams, StepTotals], TermOutput]


@dataclass(frozen=True)
class PolicyTerm:
    """The clipped surrogate, weighted for the mismatch of sampler and trainer."""

    params: Params

    def __call__(self, streams: TokenStreams, totals: StepTotals) -> TermOutput:
        loss, importance = self.params.training.loss, self.params.training.importance
        surrogate = clipped(
            streams.logprobs,
            streams.old_logprobs,
            streams.advantages,
            clip_low=loss.clip_low,
            clip_high=loss.clip_high,
            dual_clip=loss.dual_clip,
        )
        per_token = surrogate.loss
        if importance.mode != "off":
            truncated = token_truncated if importance.mode == "token_truncated" else sequence_truncated
            per_token = per_token * truncated(
                streams.old_logprobs, streams.sampled_logprobs, streams.mask, importance.cap
            )
        total, divisor = numerator(per_token, streams.mask, loss.aggregation), _divisor(self.params, totals)
        measures = {"policy_loss": (total.detach(), divisor)}
        for name, active in (("clip_low_share", surrogate.clipped_low), ("clip_high_share", surrogate.clipped_high)):
            measures[name] = ((active & streams.mask).sum(), totals.tokens)
        return TermOutput(total / divisor, measures)


@dataclass(frozen=True)
class DivergenceTerm:
    """Penalty towards policy 0, aggregated over tokens as the policy loss is."""

    params: Params

    def __call__(self, streams: TokenStreams, totals: StepTotals) -> TermOutput:
        options = self.params.training.divergence
        if streams.reference_logprobs is None:
            raise TermError(
                "training.divergence.coefficient is above 0, but the batch has no reference_logprobs: run the filter "
                "stage again"
            )
        per_token = penalty(options.estimator)(streams.logprobs, streams.reference_logprobs)
        total = numerator(per_token, streams.mask, self.params.training.loss.aggregation)
        measured = numerator(per_token.detach(), streams.mask, "token_mean")
        loss = options.coefficient * total / _divisor(self.params, totals)
        return TermOutput(loss, {"divergence": (measured, totals.tokens)})


@dataclass(frozen=True)
class EntropyTerm:
    """Minus the mean token entropy times its coefficient, whatever the aggregation of the policy loss."""

    params: Params

    def __call__(self, streams: TokenStreams, totals: StepTotals) -> TermOutput:
        total = numerator(streams.entropies, streams.mask, "token_mean")
        divisor = denominator("token_mean", rows=0, tokens=totals.denominator_tokens, max_tokens=0)
        return TermOutput(-self.params.training.entropy_bonus * total / divisor)


class TermError(ValueError):
    """A term that lacks a stream."""


def loss_terms(params: Params) -> tuple[Term, ...]:
    """The terms that these parameters ask for. A term whose coefficient is 0 is absent, not multiplied by 0."""
    terms: list[Term] = [PolicyTerm(params)]
    if params.training.divergence.coefficient > 0:
        terms.append(DivergenceTerm(params))
    if params.training.entropy_bonus > 0:
        terms.append(EntropyTerm(params))
    return tuple(terms)


def needs_entropy_gradient(terms: tuple[Term, ...]) -> bool:
    """Whether a term differentiates the entropy, which costs memory."""
    return any(isinstance(term, EntropyTerm) for term in terms)


def _divisor(params: Params, totals: StepTotals) -> float:
    return denominator(
        params.training.loss.aggregation,
        rows=totals.denominator_rows,
        tokens=totals.denominator_tokens,
        max_tokens=totals.max_tokens,
    )
