"""Table `steps`: what each reasoning step changes in the chance of a right answer, from the verdicts on continuations (VSRM)."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from assay.environments import Task
from assay.environments.chain_arithmetic.effects import is_chain, read_trace
from assay.params.stepwise import Stepwise
from assay.rewards.boxes import closed_boxes
from assay.rewards.stepwise import StepwiseError, step_accuracies, step_rewards
from assay.trajectories import to_table


def step_table(
    states: pa.Table, trajectories: pa.Table, verdicts: pa.Table, option: Stepwise, *, boxed: bool = False,
    tasks: Mapping[str, Task] | None = None,
) -> pa.Table:  # fmt: skip
    """One row per step, trajectory by trajectory in the order of `states`.

    states: as the rollout wrote them. trajectories: continuations among others. verdicts: of the continuations; the rule's are read, as
    injected noise left them. boxed: an answer counts only in a closed box (rewards.levels.boxed), here as for
    solutions. tasks: of the solutions; where their environment has an oracle of steps (chain arithmetic), it says of each what it does.
    Raises StepwiseError for a state that lacks any of its continuations, for one without a verdict, and for continuations of another
    policy than the solution's: accuracies hold for the policy that wrote the steps.
    """
    if len(states) == 0:
        return to_table("steps", [])
    rule = verdicts.filter(pc.equal(verdicts["role"], "rule"))
    texts = dict(zip(trajectories["trajectory_id"].to_pylist(), trajectories["text"].to_pylist(), strict=True)) if boxed else {}
    said = {
        name: None if verdict == "abstain" else (verdict == "correct") != turned and (not boxed or bool(closed_boxes(texts.get(name, ""))))
        for name, verdict, turned in zip(*(rule[column].to_pylist() for column in ("trajectory_id", "verdict", "flipped")), strict=True)
    }
    columns = ("trajectory_id", "kind", "parent_id", "policy", "sample_index")
    policies: dict[str, str] = {}
    truths = {} if tasks is None else _oracle_effects(states, trajectories, tasks)
    found: dict[str, dict[int, bool | None]] = defaultdict(dict)
    sampled_by: dict[str, set[str]] = defaultdict(set)
    for name, kind, parent, policy, index in zip(*(trajectories[column].to_pylist() for column in columns), strict=True):
        if kind == "continuation":
            if name not in said:
                raise StepwiseError(f"continuation {name} of solution {parent} has no verdict of the rule: run the verify stage again")
            found[parent][index] = said[name]
            sampled_by[parent].add(policy)
        else:
            policies[name] = policy
    rows: list[dict[str, Any]] = []
    for own in _by_trajectory(states.to_pylist()):
        name, each = own[0]["trajectory_id"], own[0]["continuations"]
        if sampled_by[name] - {policies.get(name)}:
            raise StepwiseError(
                f"solution {name} has continuations of another policy than its own ({policies.get(name)}): run the rollout stage again"
            )
        given = [[found[name][index] for index in range(j * each, (j + 1) * each) if index in found[name]] for j in range(len(own))]
        missing = sum(each - len(state) for state in given)
        if missing:
            first = next(j for j, state in enumerate(given) if len(state) < each)
            raise StepwiseError(
                f"solution {name} lacks {missing} of its {each * len(own)} continuations, the first of state {first}: its accuracies would "
                "rest on fewer; run the rollout stage again"
            )
        accuracies = step_accuracies(given)
        decided = [sum(verdict is not None for verdict in state) for state in given]
        steps = step_rewards(accuracies, gamma=option.gamma, window=option.window, epsilon=option.epsilon)
        for j, step in enumerate(steps):
            shared = ("trajectory_id", "iteration", "round", "marker", "char_start", "char_end", "first_token", "last_token")
            rows.append({key: own[j][key] for key in shared} | {
                "step": j, "decided_before": decided[j], "decided_after": decided[j + 1], "accuracy_before": accuracies[j],
                "accuracy_after": accuracies[j + 1], "difference": step.difference, "distance": step.distance, "reward": step.reward,
                "effect": step.effect(option.epsilon), "oracle_effect": truths.get((name, j)),
            })  # fmt: skip
    return to_table("steps", rows)


def _oracle_effects(states: pa.Table, trajectories: pa.Table, tasks: Mapping[str, Task]) -> dict[tuple[str, int], str]:
    """(trajectory id, step) -> what the step does to the running result, for tasks of chain arithmetic."""
    known = zip(*(trajectories[column].to_pylist() for column in ("trajectory_id", "task_id", "text")), strict=True)
    wanted = set(states["trajectory_id"].to_pylist())
    written = {name: (tasks[task].meta, text) for name, task, text in known if name in wanted and is_chain(tasks[task].meta)}
    found: dict[tuple[str, int], str] = {}
    for own in _by_trajectory(states.to_pylist()):
        name, starts = own[0]["trajectory_id"], [row["char_start"] for row in own[:-1]]
        if name in written and starts:
            meta, text = written[name]
            # Steps stand in the thinking, so that without a tag before them the prompt has opened it.
            reading = read_trace(text, meta, starts, opened_by_prompt="<think>" not in text[: starts[0]])
            found |= {(name, step): check.effect for step, check in enumerate(reading.rechecks)}
    return found


def _by_trajectory(states: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Rows of each trajectory, in the order of their states."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in states:
        groups.setdefault(row["trajectory_id"], []).append(row)
    return [sorted(rows, key=lambda row: row["state"]) for rows in groups.values()]
