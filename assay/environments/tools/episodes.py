"""Playing environments turn by turn: what the policy writes goes in, feedback and rewards come out. Many episodes are stepped at once.

As in FTRL each state that an episode reaches is a training prompt of its own: the first one, and one after each turn that made calls. A
turn without a call ends the episode.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from assay.environments.tools.execution import Feedback, Request, ToolExecutor
from assay.environments.tools.parser import ParsedTurn, parse_turn
from assay.environments.tools.record import ToolEnvironment, ToolError
from assay.rewards.tool_use import TAGS, Call, EpisodeMetrics, State, TurnReward, Variant, episode_metrics, normalise, solve, turn_reward

MAX_TURNS = 20
StopReason = Literal["answered", "max_turns", "overlong"]


@dataclass(frozen=True)
class Snapshot:
    """A state as a training prompt."""

    messages: tuple[dict[str, Any], ...]
    unsolved: dict[str, tuple[str, ...]]
    solve_rate: float


@dataclass(frozen=True)
class Turn:
    """What happened in one turn."""

    text: str
    parsed: ParsedTurn
    feedback: tuple[Feedback, ...]
    """One per call."""
    solved: tuple[str | None, ...]
    """The sub-answer that each call solved."""
    echoes: tuple[bool, ...]
    """Per call: the sub-answer in its feedback stood in its arguments."""
    reward: TurnReward | None
    """None on the test split."""


@dataclass
class Episode:
    """One environment that is being played."""

    environment: ToolEnvironment
    messages: list[dict[str, Any]] = field(init=False)
    unsolved: dict[str, tuple[str, ...]] = field(init=False)
    turns: list[Turn] = field(default_factory=list)
    states: list[Snapshot] = field(default_factory=list)
    stop: StopReason | None = None

    def __post_init__(self) -> None:
        """Raises ToolError where nothing is to be solved."""
        self.messages = [dict(message) for message in self.environment.messages]
        self.unsolved = dict(self.environment.unsolved)
        self.total = len(self.environment.answers)
        if not self.total:
            raise ToolError("an environment without unsolved sub-answers cannot be played from its start")
        self._keep()

    @property
    def solve_rate(self) -> float:
        return 1 - sum(map(len, self.unsolved.values())) / self.total

    @property
    def state(self) -> State:
        """Before the next turn, for its reward."""
        return State(self.unsolved, self.environment.answer, self.solve_rate, self.environment.split)

    @property
    def metrics(self) -> EpisodeMetrics:
        """Of the turns so far."""
        solved = sum(answer is not None for turn in self.turns for answer in turn.solved)
        return episode_metrics(solved, sum(len(turn.parsed.calls) for turn in self.turns), self.total)

    @property
    def is_answered(self) -> bool:
        """Whether the last turn is a text that holds the final answer."""
        return self.stop == "answered" and self.holds_answer(self.turns[-1])

    def holds_answer(self, turn: Turn) -> bool:
        """Whether a turn is a text, without calls or what was to be one, that holds the final answer."""
        gold, said = normalise(self.environment.answer or ""), turn.parsed.content
        return bool(gold and not turn.parsed.calls and not any(tag in said for tag in TAGS) and gold in normalise(said))

    def _keep(self) -> None:
        self.states.append(Snapshot(tuple(self.messages), dict(self.unsolved), self.solve_rate))

    def take(self, text: str, parsed: ParsedTurn, said: Sequence[Feedback], max_turns: int, variant: Variant, echo_guard: bool) -> None:
        """One turn whose calls have been executed."""
        calls = [Call(call.name, call.arguments, one.text) for call, one in zip(parsed.calls, said, strict=True)]
        matches, left = [], self.unsolved
        for call in calls:
            match, left = solve(call, left, echo_guard)
            matches.append(match)
        scored = self.environment.split != "test"
        reward = turn_reward(parsed.content, calls, self.state, variant=variant, echo_guard=echo_guard) if scored else None
        solved, echoes = tuple(match.answer for match in matches), tuple(match.echo for match in matches)
        self.turns.append(Turn(text, parsed, tuple(said), solved, echoes, reward))
        self.unsolved = left
        self.messages += turn_messages(parsed, said, len(self.turns))
        if not calls:
            self.stop = "answered"
            return
        self._keep()
        if len(self.turns) >= max_turns:
            self.stop = "max_turns"


def step(
    episodes: Sequence[Episode], texts: Sequence[str], executor: ToolExecutor,
    *, max_turns: int = MAX_TURNS, variant: Variant = "f1", echo_guard: bool = False,
) -> None:  # fmt: skip
    """One turn of each episode, all of their calls executed as one batch. Raises ToolError for an episode that has stopped."""
    if any(episode.stop for episode in episodes):
        raise ToolError("an episode that has stopped cannot take another turn")
    parsed = [parse_turn(text) for text in texts]
    requests = [
        Request(episode.environment.codes, call.name, call.arguments)
        for episode, turn in zip(episodes, parsed, strict=True)
        for call in turn.calls
    ]
    said = iter(executor.execute(requests))
    for episode, text, turn in zip(episodes, texts, parsed, strict=True):
        episode.take(text, turn, [next(said) for _ in turn.calls], max_turns, variant, echo_guard)


def turn_messages(parsed: ParsedTurn, said: Sequence[Feedback], number: int) -> list[dict[str, Any]]:
    """A turn and its feedback as messages of a chat; ids of calls follow from the turn's number, counted from 1."""
    message: dict[str, Any] = {"role": "assistant", "content": parsed.content}
    if not parsed.calls:
        return [message]
    ids = [f"call_{number}_{index}" for index in range(1, len(parsed.calls) + 1)]
    message["tool_calls"] = [
        {"id": key, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for key, call in zip(ids, parsed.calls, strict=True)
    ]
    return [message, *({"role": "tool", "content": one.text, "tool_call_id": key} for key, one in zip(ids, said, strict=True))]
