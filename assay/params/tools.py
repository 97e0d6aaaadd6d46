"""Sections about tasks with tools (FTRL, arXiv 2508.08791): how environments are built, how they are played, how turns are rewarded."""

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from assay.params.base import ORDERED, Section
from assay.params.endpoint import Endpoint

if TYPE_CHECKING:
    from assay.params.schema import Params

TOOL_USE = "tool_use"
"""Verifier that tasks with tools name; by it they are known."""
Scenario = Literal["single_hop", "parallel_single_hop", "multi_hop", "parallel_multi_hop"]
Combination = Literal["sum", "difference", "largest", "order"]
Share = Annotated[float, Field(ge=0, le=1)]
Span = Annotated[tuple[Annotated[int, Field(ge=0, le=20)], Annotated[int, Field(ge=0, le=20)]], ORDERED]
"""Smallest and largest number."""


class ToolScaling(Section):
    """How hard environments are, where it is not as `size` says (null)."""

    merge: Share | None = None
    """Probability that two tools with overlapping functionality are integrated into one."""
    generalise: Share | None = None
    """Strategy (a): probability that a tool answers more than is asked of it."""
    parameters: Span | None = None
    """Strategy (b): parameters of a tool, mostly optional ones."""
    retype: Share | None = None
    """Strategy (c): probability that a tool takes its subject as an array or an object."""
    distractors: Span | None = None
    """Strategy (d): tools that have nothing to do with the question."""
    hops: Span | None = None
    """Length of a chain of sub-questions (multi_hop)."""
    calculator: Share | None = None
    """Probability that the last step of several chains is a tool's, where they end in numbers."""


class TemplateTools(Section):
    """Environments of an invented world, by seeded templates: no model is needed."""

    type: Literal["template"] = "template"


class EndpointTools(Endpoint):
    """A language model carries out the five stages."""

    type: Literal["endpoint"] = "endpoint"
    topics: tuple[str, ...] = ()
    """Of the questions, in turn; none: the model's own choice."""


ToolBackend = Annotated[TemplateTools | EndpointTools, Field(discriminator="type")]


class Tools(Section):
    """Questions that are answered by calling tools, turn by turn. Built automatically in five stages, or read from a file of
    published records."""

    type: Literal["tools"] = "tools"
    share: float = Field(1.0, gt=0)
    """Relative share of this environment among all tasks."""
    path: str | None = None
    """Records in FTRL's layout (.jsonl, .parquet) instead; nothing is built then. Relative paths start at the project's root."""
    backend: ToolBackend = TemplateTools()
    size: Literal["full", "tiny"] = "full"
    """full: as measured on the published test set. tiny: for a policy of some hundred thousand parameters."""
    scenarios: tuple[Scenario, ...] = Field(("single_hop", "parallel_single_hop", "multi_hop", "parallel_multi_hop"), min_length=1)
    """Taken in turn; one that is named twice is asked twice as often."""
    combinations: tuple[Combination, ...] = Field(("sum", "difference", "largest", "order"), min_length=1)
    """What the policy makes of the answers to parallel sub-questions; `order` (of names) is always possible."""
    scaling: ToolScaling = ToolScaling()
    ood: bool = True
    """Whether there is an out-of-distribution split: unseen relations and tool names, more distractors."""
    ood_distractors: int = Field(3, ge=0, le=10)
    """More of them than in the other splits."""
    shown: Literal["json", "compact"] = "json"
    """How the system message shows the tools: as JSON schemas, or each as one line, name(parameter, optional?)."""
    quoted: bool = False
    """Whether names stand in quotation marks in questions, as they do in calls."""
    noise: Share = 0.0
    """Of each kind of mistake in demonstrations: a distractor is called, a call is made twice, calls come one by one."""

    @model_validator(mode="after")
    def _needs_a_template_world(self) -> "Tools":
        if isinstance(self.backend, EndpointTools) and self.ood and self.path is None:
            raise ValueError("ood is true, but a language model knows no relations that others do not have: set ood to false")
        return self


class EpisodeParams(Section):
    """How tasks with tools are played by a policy, and what of an episode trains."""

    unit: Literal["turn", "episode"] = "turn"
    """turn: as in FTRL, each state that an episode reaches is a prompt of its own, for which sampling.group_size single turns are sampled
    and rewarded. episode: sampling.group_size whole episodes of each task, each rewarded by the sum over its turns."""
    max_turns: int = Field(20, ge=1)
    """Turns of the policy; an episode without an answer by then is wrong (tool_max_turns)."""
    max_tokens: int = Field(2048, ge=2)
    """Of an episode: prompt, turns and tool output. One without room for another turn of sampling.max_tokens ends."""
    temperature: float = Field(1.0, gt=0)
    """At which states are collected (unit turn); what trains is sampled at sampling.temperature."""
    echo_guard: bool = False
    """Whether a sub-answer that stands in a call's own arguments does not count. (It is told apart either way.)"""
    seconds: float = Field(10.0, gt=0, le=600)
    """Wall clock of one call of a tool."""
    memory_mib: int = Field(256, ge=64)
    """Of a worker that runs tools, beyond its start."""
    feedback_characters: int = Field(4096, ge=16)
    """What a tool says beyond is cut."""


class ToolUseReward(Section):
    """Reward of a turn with tools: p calls that solve q sub-answers earn 2q / (p + 1)."""

    variant: Literal["f1", "precision", "recall", "precision_times_recall"] = "f1"
    """The paper's, and its ablations q / p, q, q * q / p."""
    done_bonus: float = Field(0.5, ge=0, le=1)
    """Of a text that does not hold the answer where all is solved. (In the paper's code, not in its text.)"""


def check_tools(params: "Params") -> None:
    """Raises ValueError where tasks with tools, whose turns are rewarded by how many calls solve how much, meet a method for answers that
    are right or wrong, or one that works on single answers."""
    from assay.params.noise import NoNoise
    from assay.params.training import Corrected

    names = [name for name, section in params.environments.items() if section.type == "tools"]
    if not names:
        return
    rewards = "rewards of turns are no 0 or 1"
    taken = {
        f"verification.noise.type {params.verification.noise.type}": (not isinstance(params.verification.noise, NoNoise), rewards),
        "verification.appeals.enabled": (params.verification.appeals.enabled, rewards),
        f"training.advantage.type {params.training.advantage.type}": (isinstance(params.training.advantage, Corrected), rewards),
        "rewards.levels": (params.rewards.levels is not None, rewards),
        "presample.enabled": (params.presample.enabled, "episodes cannot be rehearsed"),
        "self_verification.share": (params.self_verification.share > 0, "episodes are not criticised"),
        "self_verification.evaluation": (params.self_verification.evaluation > 0, "episodes are not criticised"),
        "stepwise.continuations": (params.stepwise.continuations > 0, "episodes have no steps of that kind"),
    }
    for key, (on, why) in taken.items():
        if on:
            raise ValueError(f"environments.{names[0]} is played with tools, but {key} is set, and {why}: leave one of them out")
