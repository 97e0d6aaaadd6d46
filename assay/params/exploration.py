"""Sections about exploration and diversity: Lp-Reg, the 80/20 rule, KL-Cov, and DPH-RL's rehearsal. Formulas: docs/methods.md."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from assay.params.base import Section

Fraction = Annotated[float, Field(gt=0, le=1)]
Scope = Literal["batch", "micro_batch"]
"""Where a statistic over tokens is taken. batch: over all that the update trains on, before its first step; depends neither on
micro-batches nor on processes. micro_batch: as released codes do, from the policy as it is."""


class LpReg(Section):
    """Lp-Reg (arXiv 2510.03222): tokens that are rare, have a negative advantage, and that the policy still holds plausible are
    pulled towards a distribution without its noise."""

    coefficient: float = Field(1.0, ge=0, allow_inf_nan=False)
    """beta; 0: off."""
    kappa: float = Field(0.02, ge=0, lt=1)
    """Noise is what has at most kappa times the largest probability (min-p)."""
    fixed_threshold: float | None = Field(None, ge=0, lt=1)
    """Noise is what has at most this probability, instead."""
    fraction: Fraction = 0.01
    """rho: the share of tokens that count as rare. The paper: 0.5 % (32B), 1 % (14B)."""
    form: Literal["sampled_k3", "sampled_k2", "forward_kl"] = "sampled_k3"
    """sampled_k3: the released code. forward_kl: eq. 6, over the whole vocabulary. sampled_k2: the reverse-KL ablation."""
    scope: Scope = "batch"
    """batch: rare among all tokens (eq. 6). micro_batch: among those of negative advantage (the code; does nothing below 2 / fraction
    of them)."""
    selector: Literal["low_probability", "high_entropy"] = "low_probability"
    """high_entropy: the ablation, the highest entropies instead."""
    sign: Literal["negative", "both", "any"] = "negative"
    """Advantages of protected tokens. both: not 0. any: no gate."""
    one_sided: bool = True
    """Only while the policy is below the target, as in the code; on-policy the same."""
    keep_dropped: bool = False
    """Ablation without a filter: noise is pulled up too."""
    ceiling: float | None = Field(None, gt=0)
    """Largest penalty of a token, without gradient beyond (10 in the code and in preset lp_reg; eq. 6 has none: 1e9)."""
    support: int = Field(64, ge=1)
    """Tokens of a target that are stored for forward_kl where a batch has several optimizer steps; a larger target is refused. At kappa
    0.02 there are fewer than 50 / largest probability."""

    @model_validator(mode="after")
    def _consistent(self) -> "LpReg":
        if self.form == "forward_kl" and self.keep_dropped:
            raise ValueError("keep_dropped has no meaning for form forward_kl, whose target is 0 on what is dropped: use sampled_k3")
        if self.selector == "high_entropy" and self.scope == "micro_batch":
            raise ValueError("selector high_entropy is taken over the batch: set scope to batch")
        if self.scope == "micro_batch" and self.sign == "any":
            raise ValueError("scope micro_batch ranks the tokens of one sign of advantage: set sign to negative or both")
        return self


class TopEntropy(Section):
    """The 80/20 rule (arXiv 2506.01939): only the tokens of highest entropy bear policy loss. Penalties are not restricted."""

    fraction: Fraction = 0.2
    """Share of the tokens that bear policy loss."""
    part: Literal["top", "bottom"] = "top"
    """bottom: the `fraction` of lowest entropy, as a control."""
    normalisation: Literal["selected", "all"] = "selected"
    """The loss is divided by the selected tokens (version 2 of the paper) or by all (version 1, TRL). The same where
    `training.loss.aggregation` is token_sum or token_sum_constant, which divide by rows."""
    scope: Scope = "batch"
    """batch: entropies of the policy before the update's first step. micro_batch: of the policy in training, ranked within each
    micro-batch."""
    mode: Literal["quantile", "count"] = "quantile"
    """quantile: at least the threshold, which selects more where entropies tie. count: exactly that many."""
    exclude_zero_advantage: bool = True
    """Tokens without advantage are not ranked: the paper's batches have none."""


class KlCov(Section):
    """KL-Cov (arXiv 2505.22617): a penalty on the tokens whose log-probability and advantage move together most. Without a clip, and
    without effect in the first step on a batch."""

    fraction: Fraction = 0.002
    """Share of the tokens that are penalised."""
    coefficient: float = Field(1.0, gt=0, allow_inf_nan=False)
    """Of the penalty."""


class Rehearsal(Section):
    """DPH-RL (arXiv 2509.07430): right answers of policy 0 to tasks that it nearly always solves are rehearsed by an f-divergence."""

    coefficient: float = Field(0.05, ge=0, allow_inf_nan=False)
    """eta; the loss is that of the policy plus eta times this. The released code mixes rows, which makes its eta about 8 times weaker.
    0: no row is rehearsed, the policy trains on the exploration tasks alone."""
    generator: Literal["forward_kl", "js", "alpha", "reverse_kl", "nll_replay", "js_definition"] = "forward_kl"
    """nll_replay: plain imitation, a control. js_definition: the ablation that also needs policy 0 on the sampled rows."""
    alpha: float | None = None
    """Of the generator alpha, above 0 and below 1."""
    rows_per_step: int = Field(256, ge=1)
    """Stored answers in each optimizer step; drawn in seeded permutations, and again where there are fewer."""
    aggregation: Literal["token_mean", "sequence_mean"] = "token_mean"
    """As in training.loss."""
    ceiling: float | None = Field(None, gt=0)
    """Largest value of a token, without gradient beyond (10 in the code for forward_kl)."""

    @model_validator(mode="after")
    def _alpha_fits(self) -> "Rehearsal":
        if (self.generator == "alpha") != (self.alpha is not None):
            raise ValueError(
                f"generator is {self.generator} and alpha {self.alpha}: alpha is given for the generator alpha, and for no other (a preset "
                "that sets it is one for that generator)"
            )
        if self.alpha is not None and not 0 < self.alpha < 1:
            raise ValueError(
                f"alpha is {self.alpha:g}, expected above 0 and below 1: at 0 it is the generator reverse_kl, at 1 forward_kl"
            )
        return self


class PresampleParams(Section):
    """Answers of policy 0 to every train task, from which tasks are divided (DPH-RL): near-perfect ones are rehearsed, the others
    explored. One further answer of each near-perfect task must be right again, and is the one that is rehearsed."""

    enabled: bool = False
    """Whether policy 0 answers every train task before training."""
    samples: int = Field(8, ge=1)
    """k; one more is sampled."""
    solved: int = Field(6, ge=1)
    """Right answers among the k that make a task near-perfect. The paper: 6 of 8 (Llama), 7 of 8 (Qwen). Where the rule abstained on
    some of the k, the same share of the others, which must be more than half."""
    recheck: bool = True
    """False: the further answer is rehearsed only where it is right, but a task stays near-perfect without it."""
    failed: Literal["explore", "drop"] = "explore"
    """What becomes of a task whose further answer is wrong, or not judged."""
    when_empty: Literal["stop", "explore"] = "stop"
    """Without a near-perfect task: stop, or train on all tasks without rehearsal (and say so)."""

    @model_validator(mode="after")
    def _can_be_reached(self) -> "PresampleParams":
        if self.solved > self.samples:
            raise ValueError(f"solved is {self.solved}, more than samples, {self.samples}: no task could be near-perfect")
        return self
