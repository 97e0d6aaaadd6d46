"""Verdicts over trajectories, what training sees of them, and the estimate of the rule's noise. The body of the stage `verify`, and of
a fused round."""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from assay.environments import Task
from assay.isolation import Pool
from assay.params import Params
from assay.params.execution import ExecutionParams
from assay.rounds.judge_check import doubts
from assay.rounds.lines import lines
from assay.trajectories import to_table
from assay.verifiers import NoiseState, estimate_appeals, observe, open_judge, pool_for, verify_trajectories
from assay.verifiers.critiques import CRITIQUES, Outcome, critique_verdicts, outcomes
from assay.verifiers.critiques import VERIFIER as CRITIC
from assay.verifiers.judges import AppealJudge
from assay.verifiers.steps import step_table
from assay.verifiers.transcripts import Transcripts


@dataclass(frozen=True)
class Verified:
    """What verification gives."""

    verdicts: pa.Table
    noise_estimates: pa.Table
    state: NoiseState = field(default_factory=NoiseState)
    """For the next iteration or round."""
    steps: pa.Table = field(default_factory=lambda: to_table("steps", []))


@dataclass(frozen=True)
class Bench:
    """Who decides: workers for verifiers, and a judge where answers are appealed. Opened once, used for many tables."""

    pool: Pool
    judge: AppealJudge | None


@contextmanager
def open_bench(tasks: Mapping[str, Task], params: Params, execution: ExecutionParams, *, appeals: bool = True) -> Iterator[Bench]:
    """Workers and judge of these parameters, closed at the end of the block. appeals: whether samples that train will be verified."""
    with pool_for(tasks, params.verification, execution.verifier_workers) as pool:
        if not (appeals and params.verification.appeals.enabled):
            yield Bench(pool, None)
            return
        for doubt in doubts(tasks.values(), params):
            print(f"warning: {doubt.sentence}", flush=True)
        with open_judge(params.verification.appeals, params.verification, execution, pool, params.seed) as judge:
            yield Bench(pool, judge)


def verify(
    tasks: Mapping[str, Task], trajectories: pa.Table, params: Params, execution: ExecutionParams, bench: Bench, state: NoiseState,
    *, states: pa.Table | None = None, offline: Mapping[str, Outcome] | None = None, turns: pa.Table | None = None,
    tool_calls: pa.Table | None = None,
) -> Verified:  # fmt: skip
    """Tables `verdicts`, `noise_estimates` and `steps` of the given trajectories, and the state of the estimates after `state`.

    trajectories: of their columns VERIFIED_COLUMNS alone are read. states: of the solutions whose steps are judged. offline: outcomes of
    solutions of another policy that critiques judge. turns, tool_calls: what was played in turns.
    """
    say = lines("verdicts that need a worker")
    options = params.verification
    kinds = trajectories["kind"]
    judging = pc.is_in(kinds, pa.array(CRITIQUES))
    critiques, answers = trajectories.filter(judging), trajectories.filter(pc.invert(judging))
    played = None if turns is None or tool_calls is None else Transcripts.of(tasks, answers, turns, tool_calls)
    verdicts = verify_trajectories(tasks, answers, options, execution.verifier_workers, say, bench.pool, played)
    verdicts, asked = observe(verdicts, tasks, answers, options, params.seed, bench.judge)
    estimates, after = estimate_appeals(verdicts, tasks, answers, options.appeals, state, asked)
    steps = to_table("steps", [])
    if states is not None and len(states):
        boxed = params.rewards.levels is not None and params.rewards.levels.boxed
        steps = step_table(states, answers, verdicts, params.stepwise, boxed=boxed, tasks=tasks)
    if len(critiques):
        known = outcomes(answers, verdicts, params.self_verification) | dict(offline or {})
        judged = critique_verdicts(critiques, known, params.self_verification, online=offline is None)
        verdicts = pa.concat_tables([verdicts, judged])
    return Verified(verdicts, estimates, after, steps)


def describe(verdicts: pa.Table, estimates: pa.Table) -> str:
    """What people read after verification: what the rule said, and how often it is wrong where that is known."""
    said = list(zip(*_columns(verdicts, "verdict", "role", "verifier"), strict=True))
    rule = Counter(verdict for verdict, role, name in said if role == "rule" and name != CRITIC)
    total = max(rule.total(), 1)
    lines = [f"rule: {rule.total():,} verdicts, " + ", ".join(f"{rule[v] / total:.1%} {v}" for v in ("correct", "wrong", "abstain"))]
    judged = Counter(verdict for verdict, role, name in said if role == "rule" and name == CRITIC)
    if judged:
        share = judged["correct"] / judged.total()
        lines.append(f"critiques: {judged.total():,}, {share:.1%} give the score that the rule's verdict asks for")
    if flips := sum(verdicts["flipped"].to_pylist()):
        lines.append(f"injected noise turned {flips:,} of them round")
    for row in estimates.to_pylist():
        rate, low, high = (row[f"false_negative_{name}"] for name in ("rate", "low", "high"))
        known = "nothing right to measure it on" if rate is None else f"{rate:.3f} [{low:.3f}, {high:.3f}]"
        lines.append(f"{row['environment']}: false-negative rate of {row['verifier']} against {row['against']}: {known}{_appeals(row)}")
        if row["warning"]:
            lines.append(f"warning: {row['environment']}: {row['warning']}")
    return "\n".join(lines)


def _appeals(row: dict) -> str:
    if row["judge"] is None:
        return ""
    smoothed = "none yet" if row["smoothed_rate"] is None else f"{row['smoothed_rate']:.3f}"
    true = "" if row["true_false_negative_rate"] is None else f", true {row['true_false_negative_rate']:.3f}"
    return (
        f"{true}; average {smoothed}; {row['judge']} accepts {row['upheld_negatives']} of {row['examined_negatives']} appeals "
        f"among {row['rule_negatives']:,} rejected"
    )


def _columns(table: pa.Table, *names: str) -> list[list[str]]:
    return [table.column(name).to_pylist() for name in names]
