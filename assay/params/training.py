"""Sections about the update: advantage, policy loss, regularisers, optimizer."""

import math
from typing import Annotated, Any, Literal, get_args

from pydantic import AllowInfNan, Field, model_validator

from assay.params.base import Section
from assay.params.exploration import KlCov, LpReg, Rehearsal, TopEntropy
from assay.params.grpo import check_grpo_fields
from assay.params.noise import Rate, check_rates
from assay.params.policy import LoraParams

Beta = Annotated[float, Field(ge=0, lt=1)]
_Scale = Annotated[float, AllowInfNan(True)]
"""Checked with what else it may be, in one sentence."""


class GroupZScore(Section):
    """GRPO: (reward - group mean) / (group standard deviation + epsilon)."""

    type: Literal["group_zscore"] = "group_zscore"
    epsilon: float = Field(1e-6, ge=0, allow_inf_nan=False)
    """Added to the standard deviation."""
    divide_by_std: bool = True
    """False: Dr. GRPO, the mean is subtracted and nothing divided."""


class LeaveOneOut(Section):
    """RLOO: reward minus the mean of the other rewards of the group."""

    type: Literal["leave_one_out"] = "leave_one_out"


class ReinforcePlusPlus(Section):
    """REINFORCE++: returns-to-go, whitened over all unmasked tokens of the batch."""

    type: Literal["reinforce_plus_plus"] = "reinforce_plus_plus"
    gamma: float = Field(1.0, ge=0, le=1)
    """Discount of later rewards."""


class Generalized(Section):
    """PPO: generalized advantage estimation over token rewards, whitened over the batch. Needs training.critic."""

    type: Literal["generalized"] = "generalized"
    gamma: float = Field(1.0, ge=0, le=1)
    """Discount of later rewards."""
    lam: float = Field(1.0, ge=0, le=1)
    """Lambda of generalized advantage estimation."""


Estimated = Literal["estimated"]
"""The smoothed estimate of appeals (verification.appeals), of the row's environment."""
ChannelRate = Rate | Estimated


class Direct(Section):
    """The matched control of `forward`: reward / scale, no baseline. Of any rewards."""

    type: Literal["direct"] = "direct"
    scale: float = Field(1.0, gt=0, allow_inf_nan=False)
    """Rewards are divided by it."""


class Corrected(Section):
    """What the corrections for a noisy verifier share."""

    false_positive_rate: ChannelRate = "estimated"
    """P(observed right | wrong): a number, or `estimated`."""
    false_negative_rate: ChannelRate = "estimated"
    """P(observed wrong | right). A number is taken as it is: with `verification.appeals.recover` give what is left after recovery."""
    minimum_determinant: float = Field(0.05, gt=0, lt=1)
    """An estimated 1 - both rates (1 - the false-negative one, where that alone is divided by) is raised to this, and
    flagged: below it variance explodes. (The paper has a minimum but gives no number.) Rates that are given as numbers are taken as they
    are, so there it is refused."""
    lag: Literal[0, 1] = 0
    """1: estimates as they were before the batch they are used on, so that they do not depend on it. Refused where nothing is estimated."""

    @model_validator(mode="after")
    def _invertible(self) -> "Corrected":
        false_positive, false_negative = self.false_positive_rate, self.false_negative_rate
        if not isinstance(false_positive, str) and not isinstance(false_negative, str):
            check_rates(false_positive, false_negative, "false_positive_rate and false_negative_rate")
        return self

    @model_validator(mode="after")
    def _divides(self) -> "Corrected":
        scale = getattr(self, "scale", 1.0)
        if not isinstance(scale, str) and not (math.isfinite(scale) and scale > 0):
            *most, last = ["a number above 0", *get_args(get_args(type(self).model_fields["scale"].annotation)[1])]
            raise ValueError(f"scale is {scale:g}, expected {', '.join(most)} or {last}")
        return self

    @model_validator(mode="after")
    def _without_idle_options(self) -> "Corrected":
        if "estimated" in (self.false_positive_rate, self.false_negative_rate):
            return self
        idle = ["minimum_determinant"] if self._averages_deviation() else ["minimum_determinant", "lag"]
        for name in idle:
            # By its value: a stage reads parameters in which every field is written out.
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(
                    f"{name} is {getattr(self, name):g}, but both rates are given as numbers, so that nothing is estimated and it would "
                    "do nothing: remove it, or set a rate to estimated"
                )
        return self

    def _averages_deviation(self) -> bool:
        """Whether a moving average scales the advantages, which may lag though the rates are given."""
        return False


class Backward(Corrected):
    """PGBC: unbiased rewards (r - fpr) / (1 - fpr - fnr), less the mean of the group's other ones, over a scale."""

    type: Literal["backward"] = "backward"
    scale: _Scale | Literal["ema"] = 1.0
    """Fixed, or a moving average over iterations of the standard deviation of corrected rewards; never the group's own. That average
    grows as 1 over the determinant does, so that under `ema` the correction divides out: the run is that of its control."""

    def _averages_deviation(self) -> bool:
        return self.scale == "ema"


class Forward(Corrected):
    """PGFC: weights r - (1 - fnr), over a scale; no current-group baseline."""

    type: Literal["forward"] = "forward"
    false_positive_rate: ChannelRate = 0.0
    """Read only where `scale` is determinant."""
    scale: _Scale | Literal["determinant", "one_minus_false_negative_rate"] = 1.0
    """Weights are divided by it, or by an estimated 1 - both rates or 1 - the false-negative one."""
    baseline: float = Field(0.0, allow_inf_nan=False)
    """A constant, or historical, one. That of the current group would undo the correction, so there is no such option."""


class BackwardZScored(Corrected):
    """The older recipe (version 3 of the paper): backward-corrected rewards, then the group z-score. Equal to group_zscore of
    the uncorrected rewards: kept to show that."""

    type: Literal["backward_zscored"] = "backward_zscored"
    epsilon: float = Field(1e-6, ge=0, allow_inf_nan=False)
    """Added to the standard deviation."""


class ForwardZScored(Corrected):
    """The older recipe: forward weights, then the group z-score. Equal to group_zscore of the uncorrected rewards."""

    type: Literal["forward_zscored"] = "forward_zscored"
    epsilon: float = Field(1e-6, ge=0, allow_inf_nan=False)
    """Added to the standard deviation."""


AdvantageParams = Annotated[
    GroupZScore | LeaveOneOut | ReinforcePlusPlus | Generalized | Direct | Backward | Forward | BackwardZScored | ForwardZScored,
    Field(discriminator="type"),
]


class PolicyLossParams(Section):
    """Clipped surrogate and how it is aggregated over tokens."""

    clip_low: float = Field(0.2, ge=0)
    """Ratios below 1 - clip_low earn nothing more."""
    clip_high: float = Field(0.2, ge=0)
    """DAPO's clip-higher uses 0.28."""
    dual_clip: float | None = Field(None, ge=0)
    """Upper bound on ratio x |advantage| for negative advantages (3 in verl); null: as the preset says, 0: off."""
    ratio: Literal["token", "sequence"] = "token"
    """sequence: GSPO, one ratio for each row, the geometric mean of its tokens'; clips then lie far closer to 1 (3e-4)."""
    cap: float | None = Field(None, ge=1)
    """Lp-Reg: the ratio is cut to [0, cap] in place of both clips."""
    kl_cov: KlCov | None = None
    """In place of both clips."""
    aggregation: Literal["token_mean", "sequence_mean", "token_sum", "token_sum_constant"] = "token_mean"
    """token_mean: DAPO, over all tokens of the optimizer step. sequence_mean: GRPO, the mean over sequences of token
    means. token_sum: LUSPO, the mean over sequences of token sums. token_sum_constant: Dr. GRPO, token sums divided by
    rows x max_tokens.
    """

    @model_validator(mode="after")
    def _clips_in_order(self) -> "PolicyLossParams":
        if self.dual_clip and self.dual_clip <= 1 + self.clip_high:
            raise ValueError(f"dual_clip is {self.dual_clip}, which must be above 1 + clip_high = {1 + self.clip_high}")
        forms = {
            "dual_clip (0: off)": bool(self.dual_clip), "ratio sequence": self.ratio == "sequence", "cap": self.cap is not None,
            "kl_cov": self.kl_cov is not None,
        }  # fmt: skip
        asked = [name for name, on in forms.items() if on]
        if len(asked) > 1:
            raise ValueError(f"{' and '.join(asked)} are set, each of which replaces the clip of the others: choose one")
        return self


class DivergenceParams(Section):
    """Penalty towards policy 0, added to the loss. Gradients differ from values, see docs/methods.md."""

    coefficient: float = Field(0.0, ge=0)
    """beta; 0: off."""
    estimator: Literal["k1", "k2", "k3"] = "k3"
    """Per-token estimators of KL(policy || policy 0) on sampled tokens (Schulman): k1 = -d, k2 = d^2/2, k3 = e^d - d -
    1, d = log ref - log pi. Minimising k2 follows the reverse KL, k3 the forward KL; k1 has no gradient, so it is
    refused.
    """

    @model_validator(mode="after")
    def _has_a_gradient(self) -> "DivergenceParams":
        if self.estimator == "k1" and self.coefficient > 0:
            raise ValueError("k1 has a gradient of zero mean, so it penalises nothing: use k2 (reverse KL) or k3 (forward KL)")
        return self


class ImportanceParams(Section):
    """Correction for the mismatch of sampler and trainer log-probabilities, a detached factor on the policy loss."""

    mode: Literal["off", "token_truncated", "sequence_truncated"] = "token_truncated"
    """token_truncated: min(trainer / sampler, cap) of each token; sequence_truncated: of the whole row."""
    cap: float = Field(2.0, gt=0)
    """Ratios trainer / sampler are truncated here."""


class CriticParams(Section):
    """The value model of PPO: a model of its own beside the policy (models/K/critic), which starts as policy 0 with a value of 0."""

    learning_rate: float | None = Field(None, gt=0)
    """Constant. Null: ten times training.learning_rate (VSRM: 1e-5 beside 1e-6; RISE: 9e-6 beside 5e-7)."""
    clip: float | None = Field(0.5, gt=0)
    """Range around the value before the update within which values are learned, in units of the reward; null: none."""
    steps: int = Field(1, ge=1)
    """Optimizer steps on the rows of each step of the policy."""
    warmup_steps: int = Field(0, ge=0)
    """First optimizer steps of a run in which the critic alone learns: the policy's learning rate is 0."""
    max_gradient_norm: float = Field(1.0, gt=0)
    """The critic's gradient is scaled down to this norm."""
    weight_decay: float = Field(0.0, ge=0)
    """Of AdamW."""


class TrainingParams(Section):
    """One `update@k`: several optimizer steps on different rows of one batch."""

    advantage: AdvantageParams = GroupZScore()
    loss: PolicyLossParams = PolicyLossParams()
    divergence: DivergenceParams = DivergenceParams()
    entropy_bonus: float = Field(0.0, ge=0)
    """Coefficient of the mean token entropy, which is added to the objective."""
    importance: ImportanceParams = ImportanceParams()
    lp_reg: LpReg | None = None
    top_entropy: TopEntropy | None = None
    rehearsal: Rehearsal | None = None
    """Needs presample.enabled."""
    steps_per_iteration: int = Field(8, ge=1)
    """Optimizer steps of one iteration; the sampled groups are divided among them, in the order of the plan, each kind evenly."""
    micro_batch_size: int = Field(256, ge=1)
    """Rows in one forward pass. Changes memory and speed, not the gradient (beyond float rounding)."""
    learning_rate: float = Field(2e-4, gt=0)
    """Of Adam: 3e-4 for small policies made from scratch, 1e-6 for pretrained ones (the presets of scale)."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """Over the whole run; linear and cosine need total_steps."""
    total_steps: int | None = Field(None, ge=1)
    """Optimizer steps of the whole run, at which linear and cosine reach 0."""
    warmup_steps: int = Field(0, ge=0)
    """First optimizer steps, over which the rate rises linearly."""
    weight_decay: float = Field(0.0, ge=0)
    """Of AdamW."""
    max_gradient_norm: float = Field(1.0, gt=0)
    """The gradient of a step is scaled down to this norm."""
    adam_betas: tuple[Beta, Beta] = (0.9, 0.999)
    """Of policy and critic."""
    critic: CriticParams | None = None
    """Needed by training.advantage.type generalized, and refused without it."""
    lora: LoraParams | None = None
    checkpoint_every: int = Field(2, ge=1)
    """Optimizer steps between two checkpoints inside the stage; a killed stage goes on from the last. At or above
    steps_per_iteration none is written: after the last step comes publication."""
    grpo: dict[str, Any] = {}
    """Further fields of TRL's GRPOConfig (report_to, bf16, gradient_checkpointing, optim ...). Fields that our own
    parameters set, and fields that would have no effect, are refused.
    """

    @model_validator(mode="after")
    def _usable_fields(self) -> "TrainingParams":
        check_grpo_fields(self.grpo)
        return self
