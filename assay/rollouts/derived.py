"""What is sampled from a policy because of what it has sampled: critiques of its solutions (RISE), continuations of its thinking (VSRM).

Both belong to the engine session of the solutions, and to the same policy. Prompts are made of token ids here: a continuation's are
those of its solution as they were sampled, never encoded again.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from assay.engines import Renderer
from assay.environments import Task
from assay.params import Params
from assay.params.self_verification import SelfVerification
from assay.params.stepwise import Stepwise
from assay.rewards.critique_selection import choose_for_critique
from assay.rewards.self_verification import Levels, critique_group, fitted_critique_prompt
from assay.rewards.stepwise import MARKERS, PARITY, Rules, segment, states, step_tokens, token_offsets
from assay.rollouts.plan import PlanRow
from assay.trajectories import content_hash, seed_from, to_table

DERIVED_FROM = (
    "trajectory_id", "iteration", "round", "policy", "task_id", "group_id", "kind", "prompt_ids", "completion_ids", "text",
)  # fmt: skip
"""Columns of trajectories that are read: log-probabilities and masks are half of the tokens' memory."""
Levelled = Callable[[pa.Table], Sequence[float | None]]
"""Level that each of some solutions earned, None where nothing is decided."""


@dataclass(frozen=True)
class Derived:
    """A second plan."""

    plan: list[PlanRow] = field(default_factory=list)
    states: pa.Table = field(default_factory=lambda: to_table("states", []))
    """What the continuations start from."""
    notes: tuple[str, ...] = ()


def derives_anything(params: Params) -> bool:
    """Whether critiques or continuations are sampled of what has been sampled."""
    return params.self_verification.samples_anything or params.stepwise.continuations > 0


def derive(
    trajectories: pa.Table, tasks: Mapping[str, Task], params: Params, renderer: Renderer, levels: Levelled | None = None,
    offline: pa.Table | None = None,
) -> Derived:  # fmt: skip
    """The rows to sample after `trajectories`, in the order of their parents: critiques, critiques of evaluation samples, continuations.

    trajectories: at least DERIVED_FROM. tasks: of the trajectories. levels: needed for a stratified selection. offline: solutions of
    another policy that are judged in place of these: an ablation. Raises SelfVerificationError, e.g. for fewer solutions than are to be
    judged.
    """
    own = params.self_verification
    parts: list[PlanRow] = []
    notes: list[str] = []
    solutions = trajectories.filter(pc.equal(trajectories["kind"], "solution"))
    if own.share and len(solutions):
        judged = solutions if offline is None else offline
        chosen, note = _chosen(judged, params, levels, moment=solutions["policy"][0].as_py() if offline is not None else "")
        notes += note
        size = own.group_size or params.sampling.group_size
        rows, note = _critiques(judged.take(pa.array(chosen, pa.int64())), tasks, params, renderer, "critique", size)
        moment = {name: solutions[name][0].as_py() for name in ("iteration", "round", "policy")}
        parts += rows if offline is None else [_moved(row, moment, params.seed) for row in rows]
        notes += note
    evaluated = trajectories.filter(pc.equal(trajectories["kind"], "evaluation"))
    if own.evaluation and len(evaluated):
        rows, note = _critiques(evaluated, tasks, params, renderer, "evaluation_critique", own.evaluation)
        parts += rows
        notes += note
    found = to_table("states", [])
    if params.stepwise.continuations and len(solutions):
        rows, found = continuations(solutions, params, renderer)
        parts += rows
    return Derived(parts, found, tuple(notes))


def levels_of(own: SelfVerification) -> Levels:
    """Scores that a critique gives to right, wrong and unanswered solutions."""
    return Levels(*own.levels)


def rules_of(option: Stepwise) -> Rules:
    """How traces are split."""
    return Rules(
        markers=option.markers or MARKERS, opening=option.opening, interval=option.interval, unit=option.unit,
        whole_words=not option.parity, decimal_points_end_sentences=option.parity and PARITY.decimal_points_end_sentences,
        capitalised_markers=Rules.capitalised_markers if option.markers is None else (), open_tag=option.open_tag,
        close_tag=option.close_tag,
    )  # fmt: skip


def _chosen(solutions: pa.Table, params: Params, levels: Levelled | None, moment: str) -> tuple[list[int], list[str]]:
    """Rows to be judged, and what a person should know of the choice."""
    own, notes = params.self_verification, []
    count = own.prompts(params.sampling.tasks_per_iteration)
    known: list[int] | range = range(len(solutions))
    strata: list[Any] | None = None
    if own.selection == "stratified":
        if levels is None:
            raise ValueError("a stratified selection of solutions needs their levels")
        given = levels(solutions)
        known = [row for row, level in enumerate(given) if level is not None]
        strata = [given[row] for row in known]
        if len(known) < count:
            notes.append(
                f"{len(known):,} solutions are judged instead of {count:,}: the rule decided no more, and a stratified selection needs "
                "levels"
            )
            count = len(known)
    ids, groups = (solutions[name].to_pylist() for name in ("trajectory_id", "group_id"))
    chosen = choose_for_critique(
        [f"{moment}{ids[row]}" for row in known], [groups[row] for row in known], count, seed=params.seed, how=own.selection,
        levels=strata,
    )  # fmt: skip
    return [known[index] for index in chosen], notes


def _moved(row: PlanRow, moment: Mapping[str, Any], seed: int) -> PlanRow:
    """The critique of a solution of another policy, by this one."""
    from dataclasses import replace

    group = content_hash(row.group_id, moment["policy"])
    return replace(row, **moment, group_id=group, seed=seed_from(seed, moment["policy"], row.seed))


def _critiques(
    solutions: pa.Table, tasks: Mapping[str, Task], params: Params, renderer: Renderer, kind: str, size: int
) -> tuple[list[PlanRow], list[str]]:
    own = params.self_verification
    trains = kind == "critique"
    evaluation = params.evaluation.temperature if own.evaluation_temperature is None else own.evaluation_temperature
    temperature, top_p = (params.sampling.temperature, params.sampling.top_p) if trains else (evaluation, params.evaluation.top_p)
    ask = partial(
        fitted_critique_prompt, levels=levels_of(own), template=own.template, boxed=own.boxed, special_tokens=renderer.control_texts
    )

    def encoded(prompt: str) -> tuple[int, ...]:
        return renderer.encoded(renderer.rendered([{"role": "user", "content": prompt}]))

    prompts: dict[tuple[str, str], tuple[int, ...] | None] = {}
    rows, cut, silent = [], 0, 0
    names = ("trajectory_id", "iteration", "round", "policy", "task_id", "text")
    for parent, iteration, round_, policy, task_id, text in zip(*(solutions[name].to_pylist() for name in names), strict=True):
        if (task_id, text) not in prompts:
            fitted = ask(tasks[task_id].question, text, lambda prompt: len(encoded(prompt)) <= own.max_prompt_tokens)
            prompts[task_id, text] = None if fitted is None else encoded(fitted.text)
            cut += fitted is not None and fitted.left_out > 0
        prompt = prompts[task_id, text]
        if prompt is None:
            silent += 1
            continue
        rows += [
            PlanRow(
                iteration, round_, policy, task_id, critique_group(parent), index, kind, parent, (),
                seed_from(params.seed, "critique", parent, index), temperature, top_p, own.max_tokens or params.sampling.max_tokens, prompt,
            )
            for index in range(size)
        ]  # fmt: skip
    notes = []
    if cut:
        notes.append(
            f"{cut:,} solutions are judged without their beginning: prompts would exceed self_verification.max_prompt_tokens "
            f"({own.max_prompt_tokens})"
        )
    if silent:
        notes.append(
            f"{silent:,} solutions are not judged: even without them a prompt exceeds self_verification.max_prompt_tokens "
            f"({own.max_prompt_tokens}); raise it"
        )
    return rows, notes


def continuations(solutions: pa.Table, params: Params, renderer: Renderer) -> tuple[list[PlanRow], pa.Table]:
    """Rows that answer at once from every intermediate state of the given solutions, and the table `states`."""
    option, rules = params.stepwise, rules_of(params.stepwise)
    close = tuple(renderer.tokenizer(option.close_tag, add_special_tokens=False)["input_ids"])
    pieces: dict[int, str] = {}
    rows, found = [], []
    names = ("trajectory_id", "iteration", "round", "policy", "task_id", "prompt_ids", "completion_ids", "text")
    for parent, iteration, round_, policy, task_id, prompt, ids, text in zip(*(solutions[n].to_pylist() for n in names), strict=True):
        offsets = token_offsets(ids, renderer.text, pieces)
        opened = renderer.text(prompt[-16:]).rstrip().endswith(option.open_tag)
        segmentation = segment(text, rules, opened_by_prompt=opened, offsets=offsets)
        spans = step_tokens(text, segmentation, offsets, parity=option.parity)
        ends = [split.position for split in segmentation.splits[1:]] + [segmentation.end]
        for state, place in enumerate(states(text, segmentation, offsets, parity=option.parity)):
            step: dict[str, Any] = dict.fromkeys(("marker", "char_start", "char_end", "first_token", "last_token"))
            if state < len(spans):
                split = segmentation.splits[state]
                step = {
                    "marker": split.marker, "char_start": split.position, "char_end": ends[state], "first_token": spans[state][0],
                    "last_token": spans[state][1],
                }  # fmt: skip
            found.append({
                "trajectory_id": parent, "iteration": iteration, "round": round_, "state": state, "tokens": place.tokens,
                "closed": place.close, "continuations": option.continuations, "complete": segmentation.complete, **step,
            })  # fmt: skip
            begun = (*prompt, *ids[: place.tokens], *(close if place.close else ()))
            rows += [
                PlanRow(
                    iteration, round_, policy, task_id, content_hash("state", parent, state), index, "continuation", parent, (),
                    seed_from(params.seed, "continuation", parent, index), params.sampling.temperature, params.sampling.top_p,
                    option.max_tokens, begun,
                )
                for index in range(state * option.continuations, (state + 1) * option.continuations)
            ]  # fmt: skip
    return rows, to_table("states", found)
