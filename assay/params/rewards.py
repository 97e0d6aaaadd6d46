"""Section about what a verified solution earns, where that is not 1 for right and 0 for wrong."""

from pydantic import Field, model_validator

from assay.params.base import Section


class Levels(Section):
    """Reward of a solution by how it ends. The verdict that training sees (after injected noise and appeals) says right or wrong."""

    correct: float = Field(1.0, allow_inf_nan=False)
    """Of a right answer."""
    wrong: float = Field(0.0, allow_inf_nan=False)
    """Of a wrong one."""
    no_answer: float = Field(0.0, allow_inf_nan=False)
    """No answer: no closed box, and nothing that the verifier can read; or no box where `boxed` asks for one."""
    no_format: float | None = Field(None, allow_inf_nan=False)
    """No complete think block (tags: stepwise.open_tag and close_tag), whatever the answer. Null: think blocks are not asked for."""
    opened_by_prompt: bool | None = None
    """Whether the chat template itself ends with the open tag, so that a complete block needs the close tag alone. Null: seen from the
    end of each prompt; a value that prompts contradict is refused."""
    boxed: bool = False
    """Whether an answer that is not in a closed box counts as none."""
    readable: bool = False
    """Whether a closed box that the verifier cannot read counts as none (VSRM); else it is a wrong answer (RISE)."""

    @model_validator(mode="after")
    def _ordered(self) -> "Levels":
        if not self.correct > max(self.wrong, self.no_answer, self.no_format if self.no_format is not None else self.wrong):
            raise ValueError(f"correct is {self.correct:g}, expected more than every other level: a right answer earns the most")
        return self


class RewardParams(Section):
    """From verdicts to rewards. Without any of this, a reward is 1 or 0."""

    levels: Levels | None = None
    length_penalty: float = Field(0.0, ge=0, allow_inf_nan=False)
    """Subtracted from a solution's reward, times its tokens over sampling.max_tokens: the baseline that step rewards are compared with."""
    reference_penalty: float = Field(0.0, ge=0, allow_inf_nan=False)
    """Coefficient of the k1 estimator of KL(policy || policy 0), subtracted from the reward of every token. Only with token rewards
    (training.advantage.type reinforce_plus_plus or generalized). The paper of RISE: 0.01. Both at sampling.temperature; the policy's are
    the sampler's, where sampling.top_p is below 1 those of the training engine over the whole distribution."""
