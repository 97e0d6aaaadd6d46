"""Sections about wrong verifiers: injected noise, and appeals that measure the real one while training goes on."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from assay.params.base import Section

Rate = Annotated[float, Field(ge=0, lt=1)]
AnswerFormat = Literal["integer", "decimal", "fraction", "latex", "text", "empty"]


def check_rates(false_positive: float, false_negative: float, keys: str) -> None:
    """Raises ValueError unless the channel has an inverse (Def. 3.1: their sum is below 1)."""
    if not false_positive + false_negative < 1:  # also where one of them is not a number
        raise ValueError(
            f"{keys} are {false_positive:g} and {false_negative:g}, whose sum is not below 1: at 1 a verdict says nothing about the "
            "answer, above 1 it says the opposite, and no correction exists; lower one of them"
        )


class NoNoise(Section):
    """Training sees what the rule says."""

    type: Literal["none"] = "none"


class IndependentNoise(Section):
    """Each verdict is flipped by its own draw, whatever the answer: the channel that the theory assumes."""

    type: Literal["independent"] = "independent"
    false_positive_rate: Rate = 0.1
    """P(observed right | rule says wrong)."""
    false_negative_rate: Rate = 0.2
    """P(observed wrong | rule says right)."""

    @model_validator(mode="after")
    def _invertible(self) -> "IndependentNoise":
        check_rates(self.false_positive_rate, self.false_negative_rate, "false_positive_rate and false_negative_rate")
        return self


class FormatNoise(Section):
    """Flips that depend on how an answer is written and are the same for the same text: the channel that the theory excludes."""

    type: Literal["format"] = "format"
    false_positive_rate: Rate = 0.2
    """P(observed right | rule says wrong), of every format."""
    low_false_negative_rate: Rate = 0.05
    """Of answers in other formats."""
    high_false_negative_rate: Rate = 0.45
    """Where the answer, or the gold, is written in one of `risky`."""
    risky: tuple[AnswerFormat, ...] = ("decimal", "text", "empty")
    """Formats of an answer or a gold that have the high rate."""

    @model_validator(mode="after")
    def _invertible(self) -> "FormatNoise":
        for name in ("low", "high"):
            keys = f"false_positive_rate and {name}_false_negative_rate"
            check_rates(self.false_positive_rate, getattr(self, f"{name}_false_negative_rate"), keys)
        return self


NoiseParams = Annotated[NoNoise | IndependentNoise | FormatNoise, Field(discriminator="type")]


def turns_verdicts(noise: NoiseParams) -> bool:
    """Whether any verdict may be turned round: noise of rates 0 is none."""
    if isinstance(noise, IndependentNoise):
        return noise.false_positive_rate > 0 or noise.false_negative_rate > 0
    if isinstance(noise, FormatNoise):
        return max(noise.false_positive_rate, noise.low_false_negative_rate, noise.high_false_negative_rate) > 0
    return False


class SymbolicJudge(Section):
    """Another verifier of ours: cheap, and blind where it is."""

    type: Literal["symbolic"] = "symbolic"
    verifier: Literal["numeric", "math_verify"] = "math_verify"
    """Verifier that decides."""


class EndpointJudge(Section):
    """A language model behind an OpenAI-compatible endpoint. Where it is, is in execution.judge: that changes no result."""

    type: Literal["endpoint"] = "endpoint"
    model: str | None = None
    """Served model name; null asks the server."""
    max_tokens: int = Field(8, ge=1)
    """Of an answer; raise it for models that think first."""
    system_prompt: str | None = None
    """Null: one that asks for True or False."""


class CritiqueQuestion(Section):
    """How a policy that was trained to judge itself is asked: as in its training, by the whole solution and without the gold."""

    levels: tuple[float, float, float] = (1.0, -0.5, -1.0)
    """As in self_verification of that run, like the others."""
    template: Literal["plain", "step_by_step", "short"] = "plain"
    """See levels."""
    boxed: bool = False
    """See levels."""


class LocalJudge(Section):
    """A language model in vLLM, inside the stage's process."""

    type: Literal["local"] = "local"
    model: str
    """Hugging Face model: a local folder, or a hub name."""
    max_tokens: int = Field(8, ge=1)
    """Of an answer."""
    max_prompt_tokens: int = Field(2048, ge=64)
    """A longer case abstains (judge_unreadable)."""
    dtype: Literal["float32", "bfloat16", "float16"] = "bfloat16"
    """Of the judge's weights."""
    system_prompt: str | None = None
    """Null: one that asks for True or False."""
    critique: CritiqueQuestion | None = None
    """The model is a policy trained by self-verification (models/K/policy of such a run) and is asked for a score. Give its measured
    verification_true_positive_rate and verification_false_positive_rate as judge_rates, or `measured`: without a score the judge
    abstains, which they leave out too. The judge is greedy: measure them at self_verification.evaluation_temperature 0. Give system_prompt
    as policy.system_prompt was."""


class SimulatedJudge(Section):
    """The environment's oracle with errors of known rates: for experiments on the estimator itself. Abstains without an oracle."""

    type: Literal["simulated"] = "simulated"
    true_positive_rate: float = Field(1.0, gt=0, le=1)
    """P(judge accepts | right)."""
    false_positive_rate: Rate = 0.0
    """P(judge accepts | wrong)."""


JudgeParams = Annotated[SymbolicJudge | EndpointJudge | LocalJudge | SimulatedJudge, Field(discriminator="type")]


class JudgeRates(Section):
    """How often a judge accepts right and wrong answers that the rule has rejected."""

    true_positive: float = Field(1.0, gt=0, le=1)
    """P(judge accepts | right)."""
    false_positive: float = Field(0.0, ge=0, lt=1)
    """P(judge accepts | wrong)."""

    @model_validator(mode="after")
    def _tells_apart(self) -> "JudgeRates":
        if self.true_positive <= self.false_positive:
            raise ValueError(
                f"true_positive is {self.true_positive:g} and false_positive {self.false_positive:g}: a judge that accepts wrong answers "
                "at least as often as right ones measures nothing; give the rates of a better one"
            )
        return self


class AppealsParams(Section):
    """Rule negatives, and as an audit rule positives, are put before a judge; from its verdicts come the rule's error rates."""

    enabled: bool = False
    """Whether rejected answers go before a judge."""
    probability: float = Field(0.1, gt=0, le=1)
    """q: of each rule negative to be appealed, by a draw of its own that is stored."""
    audit_probability: float = Field(0.0, ge=0, le=1)
    """Of each rule positive to be audited, which gives the false-positive rate; 0: that rate is assumed."""
    assumed_false_positive_rate: Rate = 0.0
    """Where no audit measures it."""
    judge: JudgeParams = SymbolicJudge()
    judge_rates: JudgeRates | Literal["measured"] = JudgeRates()
    """The judge's own errors, which are taken out of the estimate. `measured`: on the judged answers that an oracle decides too, those
    of earlier iterations included."""
    recover: bool = False
    """Upheld answers get the reward of right ones. The estimate that corrections use is then that of the noise which remains."""
    decay: float = Field(0.9, ge=0, lt=1)
    """Of the moving average over iterations or rounds (lambda)."""
    alpha: float = Field(1e-5, ge=0, allow_inf_nan=False)
    """Pseudo-count of false negatives."""
    beta: float = Field(1e-5, ge=0, allow_inf_nan=False)
    """Pseudo-count of accepted right answers."""
    minimum_judged: int = Field(20, ge=1)
    """Fewer judged answers than this change no average."""
    minimum_right: int = Field(8, ge=1)
    """Nor does an estimate that rests on fewer right answers."""
    initial_false_negative_rate: Rate | None = None
    """Start of the average; null: the first estimate."""
    confidence: float = Field(0.95, gt=0, lt=1)
    """Of the intervals of the estimated rates."""
    determinant_limit: float = Field(0.2, ge=0, lt=1)
    """A warning is given where 1 - false-positive - false-negative rate falls below."""

    @model_validator(mode="after")
    def _invertible(self) -> "AppealsParams":
        if self.initial_false_negative_rate is not None:
            keys = "assumed_false_positive_rate and initial_false_negative_rate"
            check_rates(self.assumed_false_positive_rate, self.initial_false_negative_rate, keys)
        return self
