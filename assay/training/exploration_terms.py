"""Lp-Reg's penalty and DPH-RL's rehearsal as terms."""

from dataclasses import dataclass

import torch

from assay.objectives.divergence import beyond_range, generator, js_definition
from assay.objectives.lp_reg import forward_kl, low_probability, lowest_of_sign, penalty, protected, proxy
from assay.objectives.policy import numerator
from assay.params import Params
from assay.params.exploration import LpReg, Rehearsal
from assay.training.streams import StepTotals, TermError, TermOutput, TokenStreams, divisor


@dataclass(frozen=True)
class LpRegTerm:
    """The penalty on protected tokens, divided as the policy loss is: by all tokens, not by the protected ones. Never restricted by
    the 80/20 rule, whose tokens are others."""

    params: Params

    @property
    def option(self) -> LpReg:
        option = self.params.training.lp_reg
        assert option is not None
        return option

    def __call__(self, streams: TokenStreams, totals: StepTotals) -> TermOutput:
        if streams.proxy_logprobs is None:
            raise TermError("training.lp_reg needs the target of the first pass, which this batch lacks: run the update again")
        option, mask = self.option, streams.policy_mask
        candidates = self._candidates(streams, mask, totals)
        held = protected(
            candidates, streams.advantages, streams.logprobs, streams.proxy_logprobs, sign=option.sign, one_sided=option.one_sided
        )
        if option.form == "forward_kl":
            if streams.support is not None and streams.present is not None:  # of tokens that could be rare there is one
                held = held & _spread(streams.support.index >= 0, streams.present)
            per_token = _full(streams, held, option, self.params.sampling.temperature)
            if option.ceiling is not None:
                per_token = per_token.clamp(max=option.ceiling)
        else:
            per_token = penalty(streams.logprobs, streams.proxy_logprobs, held, form=option.form, ceiling=option.ceiling)
        total = numerator(per_token, mask, self.params.training.loss.aggregation)
        signed = {"negative": streams.advantages < 0, "both": streams.advantages != 0}.get(option.sign, mask)
        return TermOutput(option.coefficient * total / divisor(self.params, totals), {
            "candidate_count": ((candidates & signed).sum(), 1),
            "protected_count": (held.sum(), 1),
            "protected_sum": (per_token.detach().sum(), 1),
        })  # fmt: skip

    def _candidates(self, streams: TokenStreams, mask: torch.Tensor, totals: StepTotals) -> torch.Tensor:
        option = self.option
        if streams.candidates is not None:
            return streams.candidates & mask
        if option.scope == "batch":
            assert totals.low_probability_threshold is not None
            return low_probability(streams.logprobs, mask, totals.low_probability_threshold)
        found = lowest_of_sign(streams.logprobs, streams.advantages, mask, option.fraction)
        if option.sign == "both":
            found = found | lowest_of_sign(streams.logprobs, streams.advantages, mask, option.fraction, negative=False)
        return found


def _full(streams: TokenStreams, held: torch.Tensor, option: LpReg, temperature: float) -> torch.Tensor:
    """(rows, tokens): the divergence from the whole target at protected tokens, 0 elsewhere. The target is the stored one, or in a
    batch of one step that of the policy as it is."""
    if streams.logits is None or streams.present is None:
        raise TermError("training.lp_reg.form forward_kl needs logits, which this pass did not keep")
    flat = held[streams.present]
    logs = torch.log_softmax(streams.logits[flat].float() / temperature, dim=-1)
    if streams.support is None:
        target = proxy(streams.logits.detach()[flat], option.kappa, fixed_threshold=option.fixed_threshold, temperature=temperature)
        found = forward_kl(logs, target.logprobs)
    else:
        row = streams.support.index[flat]
        found = forward_kl(logs.gather(-1, streams.support.ids[row]), streams.support.logprobs[row])
    return torch.zeros_like(streams.logprobs).masked_scatter(held & streams.present, found)


def _spread(flat: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
    """(completion tokens,) bool to (rows, tokens)."""
    return torch.zeros_like(present).masked_scatter(present, flat)


@dataclass(frozen=True)
class RehearsalTerm:
    """eta times the mean over rehearsed tokens of f(pi / policy 0): exactly, whatever the micro-batches. Reads no advantage."""

    params: Params

    def __call__(self, streams: TokenStreams, totals: StepTotals) -> TermOutput:
        option = self.params.training.rehearsal
        assert option is not None
        mask = streams.mask & streams.rehearsal.unsqueeze(-1)
        if totals.rehearsal_rows == 0:  # nothing was near-perfect (presample.when_empty: explore)
            return TermOutput(0.0 * numerator(streams.logprobs, streams.mask, "token_mean"))
        if streams.reference_logprobs is None:
            raise TermError("training.rehearsal needs reference_logprobs, which the batch lacks: run the presample and filter stages again")
        gap = torch.where(streams.mask, streams.logprobs - streams.reference_logprobs, torch.zeros_like(streams.logprobs))
        per_token = _generator(option, gap)
        rows, tokens = max(totals.rehearsal_rows, 1), max(totals.rehearsal_tokens, 1)
        total = numerator(per_token, mask, option.aggregation) / (tokens if option.aggregation == "token_mean" else rows)
        if option.generator == "js_definition":
            half = numerator(js_definition(gap, sampled_from="policy"), streams.policy_mask, "token_mean")
            total = total + half / max(totals.tokens, 1)
        seen = per_token.detach()
        return TermOutput(option.coefficient * total, {
            "rehearsal_sum": (numerator(seen, mask, "token_mean"), 1),
            "rehearsal_row_sum": (numerator(seen, mask, "sequence_mean"), 1),
            "rehearsal_beyond": ((beyond_range(gap) & mask).sum(), 1),
        })  # fmt: skip


def _generator(option: Rehearsal, gap: torch.Tensor) -> torch.Tensor:
    if option.generator == "js_definition":
        value = js_definition(gap)
        return value if option.ceiling is None else value.clamp(max=option.ceiling)
    return generator(option.generator, gap, option.alpha, ceiling=option.ceiling)
