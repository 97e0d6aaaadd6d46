"""Section about self-verification (RISE): the policy judges its own solutions, and is trained on that too. Formulas: docs/methods.md."""

from typing import Literal

from pydantic import Field, model_validator

from assay.params.base import Section


class SelfVerification(Section):
    """RISE (arXiv 2505.13445): critiques of the policy's own solutions of the same iteration, rewarded for agreeing with the verdict."""

    share: float = Field(0.0, ge=0, allow_inf_nan=False)
    """Solutions that are put before the policy, over the number of tasks of the iteration or fused round; 0: none. The paper: 0.125 (128 of
    the 8 solutions to each of 1,024 tasks), and up to 1 in an ablation."""
    group_size: int | None = Field(None, ge=1)
    """Critiques of each, a group of their own. Null: sampling.group_size."""
    evaluation: int = Field(0, ge=0)
    """Critiques of each evaluation sample, from which verification accuracy and weighted votes are measured; 0: none. They do not
    train, and may be sampled of a policy that was never trained to judge."""
    evaluation_temperature: float | None = Field(None, ge=0)
    """Of them; 0: greedy, the likeliest critique, of which there is one. Null: as evaluation samples (evaluation.temperature). The paper
    does not say at which it measures."""
    selection: Literal["uniform", "first_groups", "stratified"] = "uniform"
    """Which solutions. uniform: groups at random, one row of each as far as that goes; first_groups: in the order of the plan (the
    released code); stratified: as many of each score as there are, for which
    the rollout verifies its own solutions by the verifiers that tasks name, whatever verification.rule is; where these decide too few,
    fewer are judged."""
    levels: tuple[float, float, float] = (1.0, -0.5, -1.0)
    """Scores that a critique may give: to a right answer, a wrong one, and none. The last two equal: a binary scale."""
    reward: Literal["levels", "binary", "unbiased"] = "levels"
    """levels: the first level where the score is the one that the solution earned, the second for another, the third for no score.
    binary: 1 or 0. unbiased: of the rule's noise, with the rates of training.advantage (type backward); 1 or 0 on average."""
    template: Literal["plain", "step_by_step", "short"] = "plain"
    """Words in which a critique is asked for."""
    boxed: bool = False
    """Whether an answer counts only in a box, in the rubric and for the level of none."""
    max_prompt_tokens: int = Field(1024, ge=1)
    """Of a critique's prompt. The beginning of a longer solution is left out, never the instruction; what fits not even so is not
    judged."""
    max_tokens: int | None = Field(None, ge=1)
    """Longest critique. Null: sampling.max_tokens."""
    demonstrations: float = Field(0.0, ge=0, lt=1)
    """Share of the warm start's demonstrations that are critiques, of right and wrong worked answers, so that a policy made from scratch
    knows their form. Without effect where policy.base names a model that is not fine-tuned."""
    demonstrated_accuracy: float = Field(0.5, ge=0, le=1)
    """Share of them whose score is the true one; the others give another."""
    demonstrated_working: bool = False
    """Whether they answer the question (rightly) before the score: judging is then solving and comparing, in max_tokens for both."""

    @model_validator(mode="after")
    def _ordered(self) -> "SelfVerification":
        right, wrong, unanswered = self.levels
        if not right > wrong >= unanswered:
            raise ValueError(f"levels are {list(self.levels)}, expected the first above the second, and the second not below the third")
        if not all(abs(level) < 1e6 and round(level, 6) == level for level in self.levels):
            raise ValueError(f"levels are {list(self.levels)}: critiques write them, so they have at most six decimals, below 1e6")
        if self.evaluation_temperature == 0 and self.evaluation > 1:
            raise ValueError(
                f"evaluation is {self.evaluation} and evaluation_temperature 0, so that all critiques of a sample would be the same: set "
                "evaluation to 1, or a temperature above 0"
            )
        return self

    @property
    def samples_anything(self) -> bool:
        return self.share > 0 or self.evaluation > 0

    @property
    def chooses_by_verdicts(self) -> bool:
        """Whether solutions are verified while they are sampled, to choose which of them are judged."""
        return self.share > 0 and self.selection == "stratified"

    def prompts(self, tasks: int) -> int:
        """How many solutions are judged, of so many tasks."""
        return max(1, round(self.share * tasks)) if self.share else 0
