"""A tool environment and what the stages hand on while it is built."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, get_args

from assay.params.tools import Scenario
from assay.trajectories import content_hash

SCENARIOS: tuple[Scenario, ...] = get_args(Scenario)


class ToolError(ValueError):
    """An environment, or a record of one, that cannot be used. The message says what is wrong, and where."""


@dataclass(frozen=True)
class SubQuestion:
    """A node of the question's graph: stage 1."""

    id: str
    question: str
    answer: str
    depends_on: tuple[str, ...] = ()
    relation: str = ""
    """Of the template world; empty where a language model wrote it. Likewise what follows."""
    domain: str = ""
    subject: str = ""
    """What the relation is asked of, the answers of earlier sub-questions filled in."""


@dataclass(frozen=True)
class Decomposition:
    """A question with its graph: stage 1."""

    scenario: Scenario
    question: str
    answer: str
    nodes: tuple[SubQuestion, ...]
    """In an order in which each comes after what it depends on."""

    def node(self, key: str) -> SubQuestion:
        return next(node for node in self.nodes if node.id == key)


@dataclass(frozen=True)
class Plan:
    """What a template tool knows and how its parameters mean it."""

    relations: tuple[tuple[str, str], ...]
    """(domain, relation) that it answers."""
    subjects: tuple[tuple[str, str, str], ...]
    """(domain, parameter, form): where the subject of that domain is given; form: string, array, object or numbers."""
    facts: tuple[tuple[str, str, Any], ...]
    """(relation, subject, value): all that it can say."""
    selector: str | None = None
    """Parameter that says which relation is meant."""
    extras: tuple[tuple[str, Any], ...] = ()
    """Further required parameters, with a value that is accepted."""


@dataclass(frozen=True)
class Document:
    """A tool as the policy sees it: stages 2 to 4."""

    name: str
    description: str
    parameters: dict[str, Any]
    """JSON schema of an object."""
    nodes: tuple[str, ...] = ()
    """Sub-questions that it answers; none: a distractor."""
    plan: Plan | None = None
    """None where a language model wrote it."""

    @property
    def tool(self) -> dict[str, Any]:
        """In OpenAI's format."""
        return {"type": "function", "function": {"name": self.name, "description": self.description, "parameters": self.parameters}}


@dataclass(frozen=True)
class GoldenCall:
    """The intended call for one sub-question."""

    node: str
    tool: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Deployment:
    """Stage 5: the function of one document, and the intended calls."""

    source: str
    calls: tuple[GoldenCall, ...] = ()


@dataclass(frozen=True)
class Difficulty:
    """What complexity scaling has done."""

    distractors: int = 0
    optional: int = 0
    """Parameters that need not be given."""
    type_changes: int = 0
    merges: int = 0
    """Documents that were integrated into others."""


@dataclass(frozen=True)
class ToolEnvironment:
    """A question, its tools, and the sub-answers behind them."""

    scenario: Scenario
    question: str
    answer: str | None
    tools: tuple[dict[str, Any], ...]
    """In OpenAI's format."""
    codes: dict[str, str]
    """Source of one function for each tool."""
    unsolved: dict[str, tuple[str, ...]]
    """Sub-answers by tool; distractors are not in it."""
    split: str = "train"
    solve_rate: float = 0.0
    messages: tuple[dict[str, Any], ...] = ()
    """What the policy is shown first."""
    nodes: tuple[SubQuestion, ...] = ()
    """Empty where it was read from a published record, as are the calls."""
    calls: tuple[GoldenCall, ...] = ()
    difficulty: Difficulty = field(default_factory=Difficulty)
    seed: int | None = None

    @cached_property
    def env_id(self) -> str:
        """Content hash of what the policy meets: tools, their sources, messages, what is to be solved."""
        tools, codes = (json.dumps(part, sort_keys=True) for part in (self.tools, self.codes))
        unsolved, messages = (json.dumps(part, sort_keys=True) for part in (self.unsolved, self.messages))
        return content_hash(self.scenario, self.split, messages, tools, codes, unsolved, self.answer, self.solve_rate)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the tools, in their order."""
        return tuple(tool["function"]["name"] for tool in self.tools)

    @property
    def distractors(self) -> tuple[str, ...]:
        return tuple(name for name in self.names if not self.unsolved.get(name))

    @property
    def answers(self) -> tuple[str, ...]:
        """All sub-answers, tool by tool."""
        return tuple(answer for answers in self.unsolved.values() for answer in answers)


INSTRUCTION = (
    "Answer the question with the help of the tools. Take every fact from a tool, never from memory. When a call fails, correct it and "
    "go on until you have the answer; then write the answer without calling a tool."
)


def first_messages(question: str, instruction: str = INSTRUCTION) -> tuple[dict[str, Any], ...]:
    """The one message of the user that an episode begins with."""
    return ({"role": "user", "content": f"{instruction}\n\nQuestion: {question}".strip()},)


def is_required(tool: Mapping[str, Any], parameter: str) -> bool:
    """Whether a tool in OpenAI's format demands a parameter."""
    return parameter in tool["function"]["parameters"].get("required", [])
