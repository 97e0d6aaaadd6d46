"""From what the rule says to the reward that training sees: injected noise, then appeals and audits before a judge.

Only samples that train are touched. A verdict stays as the rule gave it; what changed is in the columns flipped, appealed,
audited, upheld and observed_reward of its row, and what the judge said is a row of its own.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from assay.environments import Task
from assay.params.noise import AppealsParams, NoNoise
from assay.params.verification import VerificationParams
from assay.trajectories import to_table
from assay.verifiers.cascade import answer_in
from assay.verifiers.channel import draws_of, uniform
from assay.verifiers.judges import AppealJudge, Case
from assay.verifiers.noise import measured_kinds
from assay.verifiers.spec import VERIFIERS
from assay.verifiers.verdicts import Finding, VerifierError, wrong


@dataclass(frozen=True)
class Asked:
    """What the judge cost, by (environment, rule)."""

    name: str
    calls: dict[tuple[str, str], int] = field(default_factory=dict)
    tokens: dict[tuple[str, str], int] = field(default_factory=dict)


def observe(
    verdicts: pa.Table,
    tasks: Mapping[str, Task],
    trajectories: pa.Table,
    params: VerificationParams,
    seed: int,
    judge: AppealJudge | None = None,
) -> tuple[pa.Table, Asked | None]:
    """The verdicts of `verify_trajectories` with noise, appeals and audits, and the judge's own verdicts after them.

    verdicts: of these trajectories, in their order, role by role. judge: None where no appeal is wanted. Equal inputs give equal
    rows, as far as the judge's do. Raises VerifierError where either is asked for and the rule's score is the reward.
    """
    count = len(trajectories)
    kinds = np.asarray(trajectories["kind"].to_pylist(), dtype=str)
    trained = np.isin(kinds, measured_kinds(strict=True))
    noisy = trained | (kinds == "continuation")  # the rule is as wrong about these, of which steps are rewarded
    if count == 0 or not noisy.any() or (judge is None and isinstance(params.noise, NoNoise)):
        return verdicts, None
    rule = verdicts.slice(0, count)
    _refuse_scores(rule)
    said = np.asarray(rule["verdict"].to_pylist(), dtype=str)
    usable = trained & (said != "abstain")
    seen = said == "correct"  # what training sees, before appeals
    columns: dict[str, pa.Array] = {}
    noise = draws_of(params.noise, seed, trajectories, rule["answer"].to_pylist(), tasks)
    if noise is not None:
        channel, draws = noise
        touched = noisy & (said != "abstain")
        flipped = channel.flipped(seen, draws) & touched
        seen = seen ^ flipped
        columns["flipped"] = pa.array(flipped)
        columns["noise_draw"] = pa.array(draws, pa.float64(), mask=~touched)
    reward = seen.astype(np.float32)
    rows_of_judge, asked = None, None
    if judge is not None:
        negative, positive, drawn = _draw(params.appeals, seed, trajectories, usable, seen)
        chosen, limit = np.flatnonzero(negative | positive), params.max_answer_characters
        upheld, rows_of_judge, asked = _put_before(judge, chosen, rule, verdicts, trajectories, tasks, limit)
        if params.appeals.recover:
            reward[negative & (upheld == 1)] = 1.0
        columns |= {
            "appealed": pa.array(negative), "audited": pa.array(positive),
            "upheld": pa.array(upheld == 1, pa.bool_(), mask=upheld < 0),
            "appeal_draw": pa.array(drawn, pa.float64(), mask=~usable),
        }  # fmt: skip
    columns["observed_reward"] = pa.array(reward, pa.float32(), mask=said == "abstain")
    for name, values in columns.items():
        rule = rule.set_column(rule.schema.get_field_index(name), rule.schema.field(name), values)
    parts = [rule, verdicts.slice(count), *([] if rows_of_judge is None else [rows_of_judge])]
    return pa.concat_tables(parts), asked


def _refuse_scores(rule: pa.Table) -> None:
    """Only a reward of 0 or 1 can be turned round or recovered."""
    scored = [name for name in rule["verifier"].unique().to_pylist() if name in VERIFIERS and VERIFIERS[name].reward == "score"]
    if scored:
        raise VerifierError(
            f"the rule {scored[0]} gives its score as the reward, which neither noise turns round nor appeals recover: set "
            "verification.noise.type to none and verification.appeals.enabled to false, or choose a rule that gives 0 or 1"
        )


def _draw(
    params: AppealsParams, seed: int, trajectories: pa.Table, usable: np.ndarray, seen: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(rows,) each: appealed rule negatives, audited rule positives, and the draws. The probability moves no draw: a larger one
    adds appeals to those that there were."""
    names = ("task_id", "iteration", "round", "sample_index")
    keys = list(zip(*(trajectories[name].to_pylist() for name in names), strict=True))
    drawn = np.asarray([uniform(seed, "appeal", *key) if use else 1.0 for key, use in zip(keys, usable, strict=True)])
    negative = usable & ~seen & (drawn < params.probability)
    positive = usable & seen & (drawn < params.audit_probability)
    return negative, positive, drawn


def _put_before(
    judge: AppealJudge, chosen: np.ndarray, rule: pa.Table, verdicts: pa.Table, trajectories: pa.Table, tasks: Mapping[str, Task],
    limit: int,
) -> tuple[np.ndarray, pa.Table, Asked]:  # fmt: skip
    """(rows,) 1 where the judge accepts, 0 where it does not, -1 where it was not asked or abstains; its rows; its cost."""
    count = len(trajectories)
    oracle = verdicts.slice(count).filter(pc.equal(verdicts.slice(count)["role"], "oracle"))
    truth = dict(zip(oracle["trajectory_id"].to_pylist(), oracle["verdict"].to_pylist(), strict=True))
    ids, task_ids, answers = rule["trajectory_id"].to_pylist(), trajectories["task_id"].to_pylist(), rule["answer"].to_pylist()
    rules, texts = rule["verifier"].to_pylist(), trajectories["text"].to_pylist()
    apart: dict[tuple[str, str], list[int]] = {}
    for row in chosen.tolist():
        apart.setdefault((tasks[task_ids[row]].environment, rules[row]), []).append(row)
    upheld, reasons = np.full(count, -1, dtype=np.int8), rule["reason"].to_pylist()
    found: dict[int, Finding] = {}
    calls, tokens = {}, {}
    for key, rows in sorted(apart.items()):
        # The record holds the beginning of an answer that is too long, which may be right by itself.
        cut = (row for row in rows if reasons[row] == "too_long" or _is_cut(answers[row], texts[row], tasks[task_ids[row]], limit))
        found |= dict.fromkeys(cut, wrong("too_long"))
        open_ones = [row for row in rows if row not in found]
        cases = [
            replace(case_of(ids[row], tasks[task_ids[row]], answers[row], truth.get(ids[row])), solution=texts[row]) for row in open_ones
        ]
        found |= zip(open_ones, judge.decide(cases), strict=True)
        for row in rows:
            upheld[row] = {"correct": 1, "wrong": 0, "abstain": -1}[found[row].verdict]
        calls[key], tokens[key] = judge.cost.calls, judge.cost.tokens
    asked = Asked(judge.name, calls, tokens)  # an endpoint that was down knows its model's name only now
    return upheld, _judge_rows(judge, [found[row] for row in chosen.tolist()], rule.take(pa.array(chosen))), asked


def _is_cut(answer: str, text: str, task: Task, limit: int) -> bool:
    """Whether an answer is only the beginning of the one in its text, which rules of whole texts do not mind."""
    return len(answer) == limit and len(answer_in(text, task)) > limit


def case_of(trajectory_id: str, task: Task, answer: str | None, truth: str | None) -> Case:
    """An answer as a judge gets it."""
    several = len(task.prompt) > 1
    question = "\n\n".join(f"{m['role']}: {m['content']}" if several else m["content"] for m in task.prompt)
    meta = json.dumps(task.meta, sort_keys=True)
    right = None if truth in (None, "abstain") else truth == "correct"
    return Case(trajectory_id, question, task.gold, answer or "", meta, right, task.verifier)


def _judge_rows(judge: AppealJudge, findings: Sequence[Finding], rule: pa.Table) -> pa.Table:
    """Rows of role judge, in the order of the rule's rows."""
    nothing = len(findings)
    table = {
        **{name: rule[name] for name in ("trajectory_id", "iteration", "round", "answer", "answer_format")},
        "verifier": [judge.name] * nothing, "verifier_version": [judge.version] * nothing, "role": ["judge"] * nothing,
        "verdict": [finding.verdict for finding in findings], "reason": [finding.reason for finding in findings],
        "score": pa.array([finding.score for finding in findings], pa.float32()),
        "components": pa.array([finding.components for finding in findings], pa.string()),
        "appealed": [False] * nothing, "audited": [False] * nothing, "upheld": pa.nulls(nothing, pa.bool_()), "flipped": [False] * nothing,
        "noise_draw": pa.nulls(nothing, pa.float64()), "appeal_draw": pa.nulls(nothing, pa.float64()),
        "observed_reward": pa.nulls(nothing, pa.float32()),
    }  # fmt: skip
    return to_table("verdicts", pa.table(table))
