"""The loss as a sum of terms over per-token streams. The trainer knows terms, not methods: a method is streams and
terms."""

from dataclasses import dataclass

from assay.objectives.divergence import penalty
from assay.objectives.policy import denominator, numerator
from assay.params import Params
from assay.training.exploration_terms import LpRegTerm, RehearsalTerm
from assay.training.policy_term import PolicyTerm
from assay.training.streams import StepTotals, Term, TermError, TermOutput, TokenStreams, divisor

__all__ = [
    "DivergenceTerm", "EntropyTerm", "LpRegTerm", "PolicyTerm", "RehearsalTerm", "StepTotals", "Term", "TermError", "TermOutput",
    "TokenStreams", "loss_terms", "needs_entropy_gradient", "needs_logits",
]  # fmt: skip


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
        total = numerator(per_token, streams.policy_mask, self.params.training.loss.aggregation)
        measured = numerator(per_token.detach(), streams.policy_mask, "token_mean")
        loss = options.coefficient * total / divisor(self.params, totals)
        return TermOutput(loss, {"divergence": (measured, totals.tokens), "divergence_sum": (measured, 1)})


@dataclass(frozen=True)
class EntropyTerm:
    """Minus the mean token entropy times its coefficient, whatever the aggregation of the policy loss."""

    params: Params

    def __call__(self, streams: TokenStreams, totals: StepTotals) -> TermOutput:
        total = numerator(streams.entropies, streams.policy_mask, "token_mean")
        by = denominator("token_mean", rows=0, tokens=totals.denominator_tokens, max_tokens=0)
        return TermOutput(-self.params.training.entropy_bonus * total / by)


def loss_terms(params: Params) -> tuple[Term, ...]:
    """The terms that these parameters ask for. A term whose coefficient is 0 is absent, not multiplied by 0."""
    terms: list[Term] = [PolicyTerm(params)]
    if params.training.divergence.coefficient > 0:
        terms.append(DivergenceTerm(params))
    if params.training.entropy_bonus > 0:
        terms.append(EntropyTerm(params))
    if params.training.lp_reg is not None and params.training.lp_reg.coefficient > 0:
        terms.append(LpRegTerm(params))
    if params.training.rehearsal is not None and params.training.rehearsal.coefficient > 0:
        terms.append(RehearsalTerm(params))
    return tuple(terms)


def needs_entropy_gradient(terms: tuple[Term, ...]) -> bool:
    """Whether a term differentiates the entropy, which costs memory."""
    return any(isinstance(term, EntropyTerm) for term in terms)


def needs_logits(terms: tuple[Term, ...]) -> bool:
    """Whether a term looks at whole distributions."""
    return any(isinstance(term, LpRegTerm) and term.option.form == "forward_kl" for term in terms)
