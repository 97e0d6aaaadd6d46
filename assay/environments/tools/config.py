"""How large and how hard environments are. `FULL` follows the measured statistics of the published test set (method file, A.1.2); `TINY` is
the same shape for a model of some hundred thousand parameters."""

from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from assay.environments.tools.record import SCENARIOS, Scenario
from assay.params.tools import Combination, EndpointTools, Tools


@dataclass(frozen=True)
class Spread:
    """A whole number in [low, high] with a given mean: low plus a binomial draw."""

    low: int
    mean: float
    high: int

    def __post_init__(self) -> None:
        if not self.low <= self.mean <= self.high:
            raise ValueError(f"a spread needs low <= mean <= high, found {self.low}, {self.mean}, {self.high}")

    def draw(self, random: Random) -> int:
        width = self.high - self.low
        return self.low + sum(random.random() < (self.mean - self.low) / width for _ in range(width))


@dataclass(frozen=True)
class Shape:
    """Of the environments of one scenario."""

    sub_answers: Spread
    distractors: Spread
    required: Spread
    """Parameters per tool that must be given."""
    merge: float
    """Probability that two tools are one: for parallel single hops, that they ask for the same relation; else, per pair of neighbours that
    share a type."""


@dataclass(frozen=True)
class ToolConfig:
    """All that template environments depend on beside the seed."""

    shapes: dict[Scenario, Shape]
    parameters: Spread
    """Per tool, required ones included."""
    generalise: float
    """Probability that a tool answers more than is asked of it."""
    retype: float
    """Probability that a tool's subject is an array or an object."""
    facts: int = 2
    """About other subjects, for each relation of a tool."""
    calculator: float = 0.5
    """Probability that the last step of several chains is a tool's, where they end in numbers."""
    scenarios: tuple[Scenario, ...] = SCENARIOS
    """Taken in turn."""
    world: str = "train"
    """train, or ood: relations, types and tool names that train does not have."""
    brief: bool = False
    """Whether names are pairs of a few short words."""
    split: str = "train"
    instruction: bool = True
    """Whether the instruction stands before the question."""
    combinations: tuple[Combination, ...] = ("sum", "difference", "largest", "order")
    """What the policy makes of parallel sub-answers."""
    quoted: bool = False
    """Whether the question's names stand in quotation marks."""
    topics: tuple[str, ...] = field(default=())
    """For a language model's questions; empty: its own choice."""

    def ood(self, more_distractors: int = 3) -> "ToolConfig":
        """The same with unseen relations and tool names, and more distractors."""
        shapes = {
            name: replace(shape, distractors=Spread(*(value + more_distractors for value in vars(shape.distractors).values())))
            for name, shape in self.shapes.items()
        }
        return replace(self, shapes=shapes, world="ood")


FULL = ToolConfig(
    shapes={
        "single_hop": Shape(Spread(1, 1, 1), Spread(4, 6.96, 10), Spread(1, 2.5, 4), 0.0),
        "parallel_single_hop": Shape(Spread(2, 2.02, 3), Spread(0, 6.12, 11), Spread(1, 2.2, 4), 0.66),
        "multi_hop": Shape(Spread(2, 5.72, 10), Spread(0, 4.62, 9), Spread(1, 1.3, 3), 0.0),
        "parallel_multi_hop": Shape(Spread(5, 7.66, 11), Spread(1, 3.72, 7), Spread(1, 1.3, 3), 0.15),
    },
    parameters=Spread(3, 7.1, 12),
    generalise=0.15,
    retype=0.1,
)
TINY = ToolConfig(
    shapes={
        "single_hop": Shape(Spread(1, 1, 1), Spread(1, 1.5, 2), Spread(1, 1, 1), 0.0),
        "parallel_single_hop": Shape(Spread(2, 2, 2), Spread(0, 1, 2), Spread(1, 1, 1), 0.5),
        "multi_hop": Shape(Spread(2, 2.3, 3), Spread(0, 0.7, 2), Spread(1, 1, 1), 0.2),
        "parallel_multi_hop": Shape(Spread(4, 4, 4), Spread(0, 0.3, 1), Spread(1, 1, 1), 0.2),
    },
    parameters=Spread(1, 1.3, 2),
    generalise=0.1,
    retype=0.0,
    facts=1,
    calculator=0.0,
    brief=True,
    instruction=False,
)


def config_of(section: Tools) -> ToolConfig:
    """What the parameters of an environment ask for: the preset of its size, and what they set otherwise."""
    preset, scaling = {"full": FULL, "tiny": TINY}[section.size], section.scaling
    asked: dict[str, Any] = {"merge": scaling.merge, "distractors": _spread(scaling.distractors)}
    own = {name: value for name, value in asked.items() if value is not None}
    shapes = {name: replace(shape, **own) for name, shape in preset.shapes.items()}
    if (hops := _spread(scaling.hops)) is not None:
        shapes["multi_hop"] = replace(shapes["multi_hop"], sub_answers=hops)
    asked = {
        "generalise": scaling.generalise, "parameters": _spread(scaling.parameters), "retype": scaling.retype,
        "calculator": scaling.calculator,
    }  # fmt: skip
    return replace(
        preset, shapes=shapes, scenarios=section.scenarios, combinations=section.combinations, quoted=section.quoted,
        topics=section.backend.topics if isinstance(section.backend, EndpointTools) else (),
        **{name: value for name, value in asked.items() if value is not None},
    )  # fmt: skip


def _spread(span: tuple[int, int] | None) -> Spread | None:
    return None if span is None else Spread(span[0], sum(span) / 2, span[1])
