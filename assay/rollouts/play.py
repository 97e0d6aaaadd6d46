"""Tasks with tools, played turn by turn: the requests of all living episodes enter the idle engine together, their calls the workers.

Token ids are appended, never encoded again: what the policy sampled stays as it was, what tools say is encoded once and bears no loss.
A turn's seed is a hash of its episode's and its number, so that equal rows in an equal order give equal episodes.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from assay.engines import Completion, Engine, Progress, Renderer, Request
from assay.environments.tools.episodes import Episode, step
from assay.environments.tools.execution import ToolExecutor
from assay.environments.tools.record import ToolEnvironment
from assay.params.tools import EpisodeParams
from assay.rollouts.plan import PlanError, PlanRow
from assay.rollouts.rows import trajectory_rows
from assay.sandbox.tool import clean
from assay.trajectories import content_hash, schema, seed_from, to_table, token_hash


@dataclass(frozen=True)
class Start:
    """Where an episode begins: at its task's first state, or at one that another episode has reached."""

    row: PlanRow
    environment: ToolEnvironment
    prompt_ids: tuple[int, ...]
    unsolved: dict[str, tuple[str, ...]] | None = None
    """None: all that the environment has."""
    turn: int = 0
    """Turns before it. Of a later one, a single turn is played."""
    alone: bool = False
    """A single turn, which is no episode: it has no stop reason."""


@dataclass
class Played:
    """An episode and its token ids."""

    start: Start
    episode: Episode
    ids: list[int] = field(default_factory=list)
    mask: list[bool] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    turns: list[tuple[int, int]] = field(default_factory=list)
    """Of each: position of the first token, and their number."""
    before: list[tuple[dict[str, tuple[str, ...]], float]] = field(default_factory=list)
    """Unsolved and solve rate before each turn."""
    finish_reason: str = "stop"

    @property
    def context(self) -> tuple[int, ...]:
        return (*self.start.prompt_ids, *self.ids)

    def add(self, ids: Sequence[int], logprobs: Sequence[float] | None) -> None:
        """logprobs: None for what the policy has not sampled."""
        self.ids += ids
        self.mask += [logprobs is not None] * len(ids)
        self.logprobs += [0.0] * len(ids) if logprobs is None else logprobs


@dataclass(frozen=True)
class EpisodeTables:
    """Rows of the record."""

    trajectories: pa.Table
    turns: pa.Table
    tool_calls: pa.Table

    @staticmethod
    def joined(parts: Sequence["EpisodeTables"]) -> "EpisodeTables":
        names = ("trajectories", "turns", "tool_calls")
        empty = EpisodeTables(*(to_table(name, []) for name in names))
        return EpisodeTables(*(pa.concat_tables([getattr(one, name) for one in (empty, *parts)]) for name in names))


def play(
    starts: Sequence[Start], engine: Engine, renderer: Renderer, executor: ToolExecutor, params: EpisodeParams,
    progress: Progress | None = None,
) -> list[Played]:  # fmt: skip
    """Play all to their ends. Raises PlanError for a prompt that leaves no room for a turn, EngineError, IsolationError."""
    for start in starts:
        check_room(start, params)
    everyone = [Played(start, _episode(start)) for start in starts]
    living, number = everyone, 0
    while living:
        requests = [_request(one, number) for one in living]
        completions = engine.generate(requests, None if progress is None else lambda _, tokens: progress(0, tokens))
        for one, completion in zip(living, completions, strict=True):
            one.before.append((dict(one.episode.unsolved), one.episode.solve_rate))
            one.turns.append((len(one.ids), len(completion.ids)))
            one.add(completion.ids, completion.logprobs)
            one.finish_reason = completion.finish_reason
        texts = [renderer.text(completion.ids) for completion in completions]
        episodes = [one.episode for one in living]
        last = number + 1 if any(one.start.alone for one in living) else params.max_turns
        step(episodes, texts, executor, max_turns=last, echo_guard=params.echo_guard)
        for one in living:
            _go_on(one, renderer, params)
        ended = sum(one.episode.stop is not None for one in living)
        if progress is not None:
            progress(ended, 0)
        living, number = [one for one in living if one.episode.stop is None], number + 1
    return everyone


def check_room(start: Start, params: EpisodeParams) -> None:
    """Raises PlanError for a prompt after which no turn has room."""
    needed = len(start.prompt_ids) + start.row.max_tokens
    if needed > params.max_tokens:
        raise PlanError(
            f"task {start.row.task_id}: {len(start.prompt_ids)} prompt tokens and a turn of sampling.max_tokens {start.row.max_tokens} are "
            f"{needed}, more than sampling.episodes.max_tokens {params.max_tokens}: raise it"
        )


def _episode(start: Start) -> Episode:
    episode = Episode(start.environment)
    if start.unsolved is not None:
        episode.unsolved = dict(start.unsolved)
    return episode


def _request(one: Played, number: int) -> Request:
    row = one.start.row
    seed = row.seed if one.start.alone else seed_from(row.seed, "turn", number)
    return Request(one.context, seed, row.temperature, row.top_p, row.max_tokens)


def _go_on(one: Played, renderer: Renderer, params: EpisodeParams) -> None:
    """Append what the tools said, where the episode goes on. A turn that was cut has not ended, so nothing can follow it."""
    if one.finish_reason == "length":
        one.episode.stop = "overlong"
    if one.episode.stop is not None:
        return
    said = [{"role": "tool", "content": feedback.text} for feedback in one.episode.turns[-1].feedback]
    ids = renderer.continuation_ids(said)
    if len(one.start.prompt_ids) + len(one.ids) + len(ids) + one.start.row.max_tokens > params.max_tokens:
        one.episode.stop = "overlong"
    else:
        one.add(ids, None)


def tables(played: Sequence[Played], engine: Engine, renderer: Renderer, params: EpisodeParams) -> EpisodeTables:
    """Rows in the order of the episodes, turn by turn, call by call."""
    completions = [Completion(tuple(one.ids), tuple(one.logprobs), one.finish_reason) for one in played]  # type: ignore[arg-type]
    prompts = [one.start.prompt_ids for one in played]
    trajectories = trajectory_rows([one.start.row for one in played], prompts, completions, engine, renderer)
    where = schema("trajectories").get_field_index("loss_mask")
    masks = pa.array([one.mask for one in played], schema("trajectories").field(where).type)
    trajectories = trajectories.set_column(where, schema("trajectories").field(where), masks)
    turns: list[dict[str, Any]] = []
    calls: list[dict[str, Any]] = []
    for one, trajectory_id in zip(played, trajectories["trajectory_id"].to_pylist(), strict=True):
        row = one.start.row
        own = {"trajectory_id": trajectory_id, "iteration": row.iteration, "round": row.round}
        for index in range(len(one.turns)):
            turns.append(own | _turn_row(one, index, params))
            calls += [own | call for call in _call_rows(one, index)]
    return EpisodeTables(trajectories, to_table("turns", turns), to_table("tool_calls", calls))


def _turn_row(one: Played, index: int, params: EpisodeParams) -> dict[str, Any]:
    turn, episode = one.episode.turns[index], one.episode
    start, tokens = one.turns[index]
    unsolved, rate = one.before[index]
    before, solved = sum(map(len, unsolved.values())), sum(answer is not None for answer in turn.solved)
    last = index == len(one.turns) - 1
    return {
        "turn_index": one.start.turn + index,
        "state_id": content_hash(one.start.row.task_id, token_hash((*one.start.prompt_ids, *one.ids[:start]))),
        "start": start, "tokens": tokens, "text": turn.text, "content": turn.parsed.content, "sub_answers": episode.total,
        "unsolved": json.dumps({name: list(answers) for name, answers in unsolved.items()}, ensure_ascii=False),
        "unsolved_before": before, "unsolved_after": before - solved, "solve_rate": rate, "calls": len(turn.parsed.calls),
        "solved": solved, "dropped": len(turn.parsed.dropped), "echo_guard": params.echo_guard, "answered": episode.holds_answer(turn),
        "stop": episode.stop if last and not one.start.alone else None,
    }  # fmt: skip


def _call_rows(one: Played, index: int) -> list[dict[str, Any]]:
    turn, distractors = one.episode.turns[index], set(one.start.environment.distractors)
    rows = []
    for call, said, solved, echo in zip(turn.parsed.calls, turn.feedback, turn.solved, turn.echoes, strict=True):
        rows.append({
            "name": clean(call.name), "arguments": clean(json.dumps(call.arguments, ensure_ascii=False)), "raw": call.raw,
            "status": said.status,
            "feedback": said.text, "solved": solved, "echo": echo, "distractor": call.name in distractors,
        })  # fmt: skip
    for piece in turn.parsed.dropped:
        rows.append({
            "name": None, "arguments": None, "raw": piece.raw, "status": "dropped", "feedback": piece.why, "solved": None, "echo": False,
            "distractor": False,
        })  # fmt: skip
    return [{"turn_index": one.start.turn + index, "call_index": number, **row} for number, row in enumerate(rows)]
