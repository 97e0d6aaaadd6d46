"""Sections about verdicts: which verifiers, within which limits, and what the gates tolerate."""

from typing import Literal

from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from assay.params.base import Section
from assay.params.functions import BUILT_IN, FunctionName, RewardFunction
from assay.params.noise import AppealsParams, NoiseParams, NoNoise
from assay.params.protocols import ProtocolReward
from assay.params.tools import ToolUseReward


class VerificationParams(Section):
    """The rule gives the reward; the reference is a stronger rule; the oracle, where an environment has one, decides exactly."""

    functions: dict[FunctionName, RewardFunction] = {}
    """Reward functions of your own, by the names that `rule` and `reference` may then have."""
    rule: str = "task"
    """`task`: the verifier that each task names; string_match, numeric, math_verify, reasoning_gym, sql_execution, protocol_score,
    or one of `functions`."""
    reference: str = "math_verify"
    """The same, or `none`. Ignored (abstains, reason not_applicable) for tasks whose answers it cannot compare."""
    oracle: bool = True
    """Store the environment's exact verdict where there is one."""
    protocol: ProtocolReward = ProtocolReward()
    """How protocol_score rewards protocols. Part of its version: other options are other verdicts."""
    timeout: float = Field(5.0, gt=0)
    """Wall-clock seconds for one verdict; beyond it the verdict is abstain(timeout)."""
    memory_mib: int = Field(1024, ge=128)
    """Address space a worker may add to its start; beyond it the verdict is abstain(memory)."""
    max_answer_characters: int = Field(4096, ge=1)
    """A longer extracted answer is wrong(too_long) without being parsed."""
    noise: NoiseParams = NoNoise()
    """Injected into the verdicts of training samples: experiments with noise of known rates."""
    appeals: AppealsParams = AppealsParams()
    tool_use: ToolUseReward = ToolUseReward()
    """Of tasks with tools."""
    abstain_limit: float = Field(0.05, ge=0, le=1)
    """Largest share of abstained verdicts of the rule, and of the rule in one of several environments, before the gate stops the
    pipeline. (`presample`, `train` and `finish` read it too, and do not run again for it.)"""

    @field_validator("functions")
    @classmethod
    def _names_of_their_own(cls, functions: dict[str, RewardFunction]) -> dict[str, RewardFunction]:
        taken = [name for name in functions if name in (*BUILT_IN, "none")]
        if taken:
            raise PydanticCustomError("taken", "{name} is the name of a verifier already; choose another", {"name": taken[0]})
        return functions

    @field_validator("rule", "reference")
    @classmethod
    def _is_known(cls, name: str, info: ValidationInfo) -> str:
        functions = info.data.get("functions")
        if functions is None:
            return name  # what is wrong with them is reported
        known = (*BUILT_IN, *(() if info.field_name == "rule" else ("none",)), *functions)
        if name not in known:
            offered = ", ".join(known)
            raise PydanticCustomError("unknown", "expected one of {known} (verification.functions adds to them)", {"known": offered})
        return name


class FilterParams(Section):
    """Which rows and groups are offered to training. Group statistics use all non-abstained rows before any is dropped."""

    zero_variance_groups: bool = True
    """Drop groups whose rewards are all equal. Under group estimators their advantages are zero, so that they bear no
    gradient of the policy loss. They are kept whatever this says where something acts on them: other advantages
    (reinforce_plus_plus, generalized, forward, direct) or groups of one, a penalty towards policy 0 or an entropy bonus,
    training.loss.kl_cov, or training.lp_reg with sign any."""
    truncated: bool = False
    """Drop completions cut at max_tokens. Length-biased: off by default."""
    duplicates: bool = False
    """Drop equal completions within a group. Biases the gradient: off by default."""
    max_mismatch: float | None = Field(None, gt=0)
    """Drop rows whose mean |sampler - trainer| log-probability differs by more (nats). Biases the gradient: off by default."""
    denominator: Literal["kept", "all"] = "kept"
    """Rows that the loss is divided by: those that are kept, or all that were sampled. The larger divisor makes smaller
    gradients; Adam nearly undoes that, max_gradient_norm does not."""
