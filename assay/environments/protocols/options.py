"""What can be chosen about generated protocols."""

from dataclasses import dataclass
from typing import Literal, get_args

Type = Literal["overview", "specific", "retrieval", "planning", "troubleshooting", "constraint", "scaling", "safety"]
TYPES: tuple[Type, ...] = get_args(Type)
"""The task types of SciRecipe: two of comprehension, six of problem solving."""


@dataclass(frozen=True)
class ProtocolOptions:
    """Of `ProtocolsEnvironment`."""

    types: tuple[Type, ...] = TYPES
    """A type that is named twice is asked twice as often."""
    lines: tuple[str, ...] = ("wash", "extract", "solution", "culture")
    """Lines of work, as `grammar.LINES` names them."""
    steps: tuple[int, int] = (2, 4)
    """Smallest and largest number of steps of a gold."""
    ood_steps: tuple[int, int] | None = (5, 6)
    """The same for the out-of-distribution split; None: no such split."""
    distractors: tuple[int, int] = (1, 3)
    """Smallest and largest number of offered actions that the gold does not use."""
    noise: float = 0.0
    """Share of demonstrations that are corrupted in one step, so that a warm start leaves something to reinforcement learning."""
