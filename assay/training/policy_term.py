"""The policy loss as a term: which surrogate, on which tokens, divided by what."""

from dataclasses import dataclass

import torch

from assay.objectives.covariance import covariances, highest_covariances, kl_cov
from assay.objectives.entropy import restricted, top_entropy_mask
from assay.objectives.importance import sequence_truncated, token_truncated
from assay.objectives.lp_reg import capped
from assay.objectives.policy import Surrogate, clipped, numerator, sequence_clipped
from assay.params import Params
from assay.params.training import PolicyLossParams
from assay.training.streams import StepTotals, TermOutput, TokenStreams, divisor


@dataclass(frozen=True)
class PolicyTerm:
    """The surrogate, weighted for the mismatch of sampler and trainer, on all tokens or on those that the 80/20 rule selects."""

    params: Params

    def __call__(self, streams: TokenStreams, totals: StepTotals) -> TermOutput:
        loss, importance = self.params.training.loss, self.params.training.importance
        mask = streams.policy_mask
        surrogate = policy_surrogate(streams, mask, loss)
        per_token = surrogate.loss
        if importance.mode != "off":
            truncated = token_truncated if importance.mode == "token_truncated" else sequence_truncated
            per_token = per_token * truncated(streams.old_logprobs, streams.sampled_logprobs, mask, importance.cap)
        measures: dict[str, tuple[torch.Tensor, float]] = {}
        by, used = divisor(self.params, totals), mask
        rule = self.params.training.top_entropy
        if rule is not None:
            selected = self._selected(streams, mask)
            per_token, used = restricted(per_token, mask, selected, rule.normalisation)
        unscaled = numerator(per_token.detach(), used, "token_mean")
        if rule is not None:
            measures |= _selection_measures(streams, selected, totals)
            if rule.normalisation == "selected" and loss.aggregation == "token_mean":
                per_token, by = self._normalised(per_token, mask, selected, totals, by)
        total = numerator(per_token, used, loss.aggregation)
        measures |= {"policy_loss": (total.detach(), by), "policy_sum": (total.detach(), 1), "policy_token_sum": (unscaled, 1)}
        for name, active in (("clip_low_share", surrogate.clipped_low), ("clip_high_share", surrogate.clipped_high)):
            measures[name] = ((active & mask).sum(), totals.tokens)
        return TermOutput(total / by, measures)

    def _selected(self, streams: TokenStreams, mask: torch.Tensor) -> torch.Tensor:
        """bool (rows, tokens): of the batch, or ranked within this micro-batch by the policy in training."""
        rule = self.params.training.top_entropy
        assert rule is not None
        if streams.selected is not None:
            return streams.selected & mask
        gate = streams.advantages if rule.exclude_zero_advantage else None
        return top_entropy_mask(streams.entropies, mask, rule.fraction, part=rule.part, mode=rule.mode, advantages=gate)

    def _normalised(
        self, per_token: torch.Tensor, mask: torch.Tensor, selected: torch.Tensor, totals: StepTotals, by: float
    ) -> tuple[torch.Tensor, float]:
        """Over the selected tokens of the step; where only each micro-batch knows its own, each is scaled by its share instead."""
        if totals.selected_tokens is not None:
            # All of them selected: the divisor as it is, so that a fraction of 1 is no change. Else its share, which of `kept` rows
            # is the number itself.
            whole = totals.selected_tokens == totals.tokens
            return per_token, by if whole else max(by * totals.selected_tokens / max(totals.tokens, 1), 1.0)
        return per_token * (mask.sum() / selected.sum().clamp(min=1)), by


def policy_surrogate(streams: TokenStreams, mask: torch.Tensor, loss: PolicyLossParams) -> Surrogate:
    """The per-token loss that `training.loss` asks for."""
    new, old, advantages = streams.logprobs, streams.old_logprobs, streams.advantages
    if loss.kl_cov is not None:
        covariance = covariances(new, advantages, mask)
        selected = highest_covariances(covariance, mask, loss.kl_cov.fraction)
        return kl_cov(new, old, advantages, selected, coefficient=loss.kl_cov.coefficient)
    if loss.ratio == "sequence":
        return sequence_clipped(new, old, advantages, mask, clip_low=loss.clip_low, clip_high=loss.clip_high)
    if loss.cap is not None:
        return capped(new, old, advantages, cap=loss.cap)
    return clipped(new, old, advantages, clip_low=loss.clip_low, clip_high=loss.clip_high, dual_clip=loss.dual_clip or None)


def _selection_measures(streams: TokenStreams, selected: torch.Tensor, totals: StepTotals) -> dict[str, tuple[torch.Tensor, float]]:
    number = selected.sum()
    return {
        "selected_tokens": (number, 1),
        "selected_share": (number, totals.tokens),
        "selected_entropy_sum": ((streams.entropies.detach() * selected).sum(), 1),
    }
