"""Verdicts over a table of trajectories, by rule, reference and oracle. Stored trajectories are verified again the
same way."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext

import pyarrow as pa

from assay.environments import Task
from assay.isolation import Pool
from assay.isolation.pool import Progress
from assay.params.noise import SymbolicJudge
from assay.params.verification import VerificationParams
from assay.trajectories import to_table
from assay.verifiers.cascade import Question, answer_in, as_not_applicable, ask, meta_for, open_pool, resolve, settle, subject
from assay.verifiers.extract import answer_format
from assay.verifiers.spec import fits, spec_of
from assay.verifiers.transcripts import Transcripts
from assay.verifiers.verdicts import Finding, Role, VerdictName, VerifierError, abstain

NOT_APPLICABLE = abstain("not_applicable")
_REWARDS: dict[VerdictName, float | None] = {"correct": 1.0, "wrong": 0.0, "abstain": None}
NOBODY = "none"
"""Verifier of rows whose role nobody can fill, e.g. the oracle of an environment without one."""


def verify_trajectories(
    tasks: Mapping[str, Task],
    trajectories: pa.Table,
    params: VerificationParams,
    workers: int,
    progress: Progress | None = None,
    pool: Pool | None = None,
    played: Transcripts | None = None,
) -> pa.Table:
    """The `verdicts` of all trajectories: one row per (trajectory, role), all of the rule, then reference, then oracle.

    Only trajectory_id, iteration, round, task_id and text are read, so any stored trajectories can be verified again
    with other parameters. `played`: what was played in turns, without which the verifier of tasks with tools abstains.
    Rows depend on the parameters, never on `workers` (verdicts at the very edge of the time
    limit aside). `pool`: one that `pool_for` made, where many tables are verified one after the other; it stays open.
    `progress` is called with (settled, all) slow questions. Raises VerifierError for trajectories of
    unknown tasks or verifiers that do not fit, IsolationError where workers cannot be had.
    """
    texts = trajectories.column("text").to_pylist()
    played, ids = played or Transcripts(), trajectories.column("trajectory_id").to_pylist()
    task_ids = trajectories.column("task_id").to_pylist()
    _check_tasks(task_ids, tasks, trajectories)
    spoken = [played.ends.get(name, text) for name, text in zip(ids, texts, strict=True)]
    answers = _answers(spoken, [tasks[task_id] for task_id in task_ids])
    questions: dict[Role, list[Question | None]] = {}
    for role in roles(params):
        asked = {task_id: _verifier(role, tasks[task_id], params) for task_id in dict.fromkeys(task_ids)}
        questions[role] = [
            None if (who := asked[task_id]) is None
            else ask(who[0], subject(who[0], text, answer, played.whole.get(name, "")), tasks[task_id].gold, who[1])
            for name, task_id, text, answer in zip(ids, task_ids, texts, answers, strict=True)
        ]  # fmt: skip
    distinct = list(dict.fromkeys(one for of_role in questions.values() for one in of_role if one is not None))
    asked_verifiers = sorted({question.verifier for question in distinct})
    with nullcontext(pool) if pool is not None else open_pool(params, workers, asked_verifiers) as open_one:
        findings = settle(distinct, open_one, params.max_answer_characters, progress)
    limit = params.max_answer_characters
    return pa.concat_tables(
        _rows(role, trajectories, answers, _applicable(role, asked, task_ids, tasks, findings), limit)
        for role, asked in questions.items()
    )


def pool_for(tasks: Mapping[str, Task], params: VerificationParams, workers: int) -> Pool:
    """A pool for everything that verifying trajectories of these tasks can need. A context manager; not started yet."""
    names = {verifier_name(role, task, params) for role in roles(params) for task in tasks.values()}
    if params.appeals.enabled and isinstance(params.appeals.judge, SymbolicJudge):
        names.add(params.appeals.judge.verifier)
    return open_pool(params, workers, sorted(name for name in names if name is not None))


def roles(params: VerificationParams) -> tuple[Role, ...]:
    """Roles that get a row for every trajectory."""
    found: list[Role] = ["rule"]
    if params.reference != "none":
        found.append("reference")
    if params.oracle:
        found.append("oracle")
    return tuple(found)


def verifier_name(role: Role, task: Task, params: VerificationParams) -> str | None:
    """Who fills a role for a task, None where nobody can. Raises VerifierError where the rule cannot be asked."""
    if role == "oracle":
        return f"oracle:{task.meta['oracle']}" if "oracle" in task.meta else None
    configured = params.rule if role == "rule" else params.reference
    if role == "reference" and not fits(configured, task.verifier):
        return None
    name = resolve(task.verifier if configured == "task" else configured, params)
    missing = [key for key in spec_of(name).needs if key not in task.meta]
    if missing and role == "rule":
        source = f"the task names {name}" if configured == "task" else f"verification.rule is {name}"
        raise VerifierError(
            f"task {task.task_id} ({task.environment}): {source}, which reads {', '.join(missing)} from meta, "
            f"but meta has no such key; choose another verifier"
        )
    return None if missing else name


def _verifier(role: Role, task: Task, params: VerificationParams) -> tuple[str, str] | None:
    """Name of the verifier and JSON of the meta that it reads."""
    name = verifier_name(role, task, params)
    if name is None:
        return None
    return name, meta_for(name, task)


def _answers(texts: Sequence[str], tasks: Sequence[Task]) -> list[str]:
    """Each distinct text is searched once for tasks of one verifier."""
    keys = [(text, task.verifier) for text, task in zip(texts, tasks, strict=True)]
    known = {key: answer_in(key[0], task) for key, task in dict(zip(keys, tasks, strict=True)).items()}
    return [known[key] for key in keys]


def _check_tasks(task_ids: Sequence[str], tasks: Mapping[str, Task], trajectories: pa.Table) -> None:
    unknown = [row for row, task_id in enumerate(task_ids) if task_id not in tasks]
    if unknown:
        names = trajectories.column("trajectory_id")
        raise VerifierError(
            f"{len(unknown)} trajectories belong to tasks that are not given, first: row {unknown[0]}, trajectory "
            f"{names[unknown[0]]}, task {task_ids[unknown[0]]}; give the tasks that they were sampled from"
        )


def _applicable(
    role: Role,
    asked: Sequence[Question | None],
    task_ids: Sequence[str],
    tasks: Mapping[str, Task],
    findings: Mapping[Question, Finding],
) -> list[tuple[Question | None, Finding]]:
    """Each row's question with its finding. A reference that the task did not choose may not fit it: no fault of the
    gold."""
    rows: list[tuple[Question | None, Finding]] = []
    for task_id, question in zip(task_ids, asked, strict=True):
        if question is None:
            rows.append((None, NOT_APPLICABLE))
            continue
        finding = findings[question]
        foreign = role == "reference" and question.verifier != tasks[task_id].verifier
        rows.append((question, as_not_applicable(finding) if foreign else finding))
    return rows


def _rows(
    role: Role,
    trajectories: pa.Table,
    answers: Sequence[str],
    found: Sequence[tuple[Question | None, Finding]],
    limit: int,
) -> pa.Table:
    """Rows of one role, in the order of the trajectories. Distinct values are written once and then taken by
    position."""
    kinds = {key: position for position, key in enumerate(dict.fromkeys(found))}
    taken = pa.array([kinds[key] for key in found], pa.int32())
    distinct = list(kinds)
    texts = {answer: position for position, answer in enumerate(dict.fromkeys(answers))}
    spoken = pa.array([texts[answer] for answer in answers], pa.int32())
    count = len(found)

    def column(values: list, kind: pa.DataType) -> pa.Array:
        return pa.array(values, kind).take(taken)

    rewards = [_reward(question, finding) if role == "rule" else None for question, finding in distinct]
    return to_table("verdicts", pa.table({
        **{name: trajectories.column(name) for name in ("trajectory_id", "iteration", "round")},
        "verifier": column([_name(question) for question, _ in distinct], pa.string()),
        "verifier_version": column([_version(question) for question, _ in distinct], pa.string()),
        "role": pa.array([role] * count, pa.string()),
        "verdict": column([finding.verdict for _, finding in distinct], pa.string()),
        "reason": column([finding.reason for _, finding in distinct], pa.string()),
        "score": column([finding.score for _, finding in distinct], pa.float32()),
        "answer": pa.array([text[:limit] for text in texts], pa.string()).take(spoken),
        "answer_format": pa.array([answer_format(text) for text in texts], pa.string()).take(spoken),
        "components": column([finding.components for _, finding in distinct], pa.string()),
        "appealed": pa.array([False] * count, pa.bool_()),
        "audited": pa.array([False] * count, pa.bool_()),
        "upheld": pa.nulls(count, pa.bool_()),
        "flipped": pa.array([False] * count, pa.bool_()),
        "noise_draw": pa.nulls(count, pa.float64()),
        "appeal_draw": pa.nulls(count, pa.float64()),
        "observed_reward": column(rewards, pa.float32()),
    }))  # fmt: skip


def _reward(question: Question | None, finding: Finding) -> float | None:
    """What training gets before noise and appeals; None where the rule abstains."""
    own = question is not None and spec_of(question.verifier).reward == "score"
    return finding.score if own and finding.verdict != "abstain" else _REWARDS[finding.verdict]


def _name(question: Question | None) -> str:
    return NOBODY if question is None else spec_of(question.verifier).name


def _version(question: Question | None) -> str:
    return "0" if question is None else spec_of(question.verifier).version
