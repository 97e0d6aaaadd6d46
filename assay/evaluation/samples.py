"""Evaluation samples as parallel arrays: what every metric is computed from, without a Python loop over rows."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from assay.evaluation.estimators import EvaluationError
from assay.evaluation.tokens import flat

WRONG, CORRECT, ABSTAIN, MISSING = 0, 1, 2, 3
CODES = {"wrong": WRONG, "correct": CORRECT, "abstain": ABSTAIN}
ROLES = ("rule", "reference", "oracle")
"""Roles of which a trajectory has at most one verdict."""
NOT_APPLICABLE = "not_applicable"
"""Reason of a verifier that cannot judge the task at all: not a failure, so never counted as an abstention."""

Codes = NDArray[np.int8]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Samples:
    """Rows of kind evaluation. All arrays have one entry per row; `task` indexes the tasks table, `policy` the list
    `iterations`.
    """

    rows: pa.Table
    """Trajectories, in the order of the arrays."""
    tasks: pa.Table
    iterations: tuple[int, ...]
    """k of every policy that was evaluated, ascending."""
    policy: NDArray[np.int64]
    task: NDArray[np.int64]
    verdicts: dict[str, Codes]
    """Role -> WRONG, CORRECT, ABSTAIN or MISSING (no verdict, or not applicable)."""
    reasons: dict[str, pa.Array]
    """Role -> the verdict's reason; null where missing."""
    tokens: NDArray[np.int64]
    """Tokens that the policy sampled, end token included; tool output is not."""
    surprisal: NDArray[np.float64]
    """Sum over those tokens of minus the sampled log-probability, nats."""
    truncated: Flags

    @cached_property
    def environment(self) -> NDArray[np.object_]:
        """Of each task (not of each row)."""
        return np.array(self.tasks["environment"].to_pylist(), dtype=object)

    @cached_property
    def split(self) -> NDArray[np.object_]:
        """Of each task."""
        return np.array(self.tasks["split"].to_pylist(), dtype=object)

    @cached_property
    def environments(self) -> tuple[str, ...]:
        """Names of the environments with evaluation samples, sorted."""
        return tuple(sorted(set(self.environment[np.unique(self.task)])))

    @cached_property
    def headline_role(self) -> dict[str, str]:
        """Environment -> the role whose verdicts make its headline: the oracle where there is one, else the rule."""
        decided = (self.verdicts["oracle"] != MISSING) if "oracle" in self.verdicts else np.zeros(len(self.task), bool)
        with_oracle = set(self.environment[np.unique(self.task[decided])])
        return {name: "oracle" if name in with_oracle else "rule" for name in self.environments}

    @cached_property
    def headline(self) -> Codes:
        """Per row: the verdict that counts. One that the oracle of its environment did not see counts as abstained."""
        if "oracle" not in self.verdicts:
            return self.verdicts["rule"]
        by_task = np.array([self.headline_role.get(name) == "oracle" for name in self.environment])
        oracle = self.verdicts["oracle"]
        return np.where(by_task[self.task], np.where(oracle == MISSING, ABSTAIN, oracle), self.verdicts["rule"]).astype(
            np.int8
        )

    def column(self, role: str) -> Codes:
        """Verdict codes of a role, `headline` included."""
        return self.headline if role == "headline" else self.verdicts[role]

    def per_task(self, policy: int, weights: NDArray | None = None, mask: Flags | None = None) -> NDArray[np.float64]:
        """Sum of `weights` (else number of rows) for each task, over the rows of one policy within `mask`."""
        chosen = self.policy == policy if mask is None else (self.policy == policy) & mask
        values = None if weights is None else weights[chosen].astype(np.float64)
        return np.bincount(self.task[chosen], weights=values, minlength=len(self.tasks)).astype(np.float64)


def gather(tasks: pa.Table, trajectories: pa.Table, verdicts: pa.Table) -> Samples:
    """Join the three tables.

    Raises EvaluationError where there is nothing to evaluate, a task or a rule verdict is missing, or a trajectory has
    two verdicts of one role.
    """
    rows = trajectories.filter(pc.equal(trajectories["kind"], "evaluation")).combine_chunks()
    if not len(rows):
        raise EvaluationError(
            "no trajectory of kind evaluation: run the rollout and finish stages; tasks.eval must not be empty"
        )
    task = _index(rows["task_id"], tasks["task_id"])
    if (task < 0).any():
        lost = rows["task_id"][int(np.argmax(task < 0))].as_py()
        raise EvaluationError(
            f"trajectories name task {lost}, which the tasks table does not hold: tasks were generated again since; "
            "run `dvc repro`"
        )
    iteration = rows["iteration"].to_numpy()
    iterations, policy = np.unique(iteration, return_inverse=True)
    _one_policy_each(rows)
    codes: dict[str, Codes] = {}
    reasons: dict[str, pa.Array] = {}
    for role in ROLES:
        found = _verdicts_of(role, rows, verdicts)
        if found is not None:
            codes[role], reasons[role] = found
    if "rule" not in codes or (codes["rule"] == MISSING).any():
        bad = int(np.argmax(codes["rule"] == MISSING)) if "rule" in codes else 0
        raise EvaluationError(
            f"trajectory {rows['trajectory_id'][bad].as_py()} (iteration {iteration[bad]}) has no verdict of the rule: "
            f"run `dvc repro verify@{iteration[bad]}` (finish for the last policy)"
        )
    tokens, surprisal = _token_sums(rows)
    return Samples(
        rows,
        tasks.combine_chunks(),
        tuple(int(k) for k in iterations),
        policy.astype(np.int64),
        task,
        codes,
        reasons,
        tokens,
        surprisal,
        pc.equal(rows["finish_reason"], "length").to_numpy(),
    )


def _index(values: pa.ChunkedArray, among: pa.ChunkedArray) -> NDArray[np.int64]:
    """Position of each value among others; -1 where absent."""
    found = pc.index_in(values, value_set=among.combine_chunks())
    return pc.fill_null(found, -1).to_numpy().astype(np.int64)


def _one_policy_each(rows: pa.Table) -> None:
    """Two policies under one iteration would be averaged silently."""
    pairs = (
        rows.select(["iteration", "policy"])
        .group_by(["iteration", "policy"])
        .aggregate([])
        .sort_by([("iteration", "ascending"), ("policy", "ascending")])
    )
    seen: dict[int, str] = {}
    for row in pairs.to_pylist():
        other = seen.setdefault(row["iteration"], row["policy"])
        if other != row["policy"]:
            raise EvaluationError(
                f"iteration {row['iteration']} holds evaluation samples of policies {other} and {row['policy']}: "
                "evaluate them apart"
            )


def _verdicts_of(role: str, rows: pa.Table, verdicts: pa.Table) -> tuple[Codes, pa.Array] | None:
    """Codes and reasons of one role in the order of `rows`; None where no row has such a verdict."""
    mine = verdicts.filter(pc.equal(verdicts["role"], role))
    place = _index(mine["trajectory_id"], rows["trajectory_id"])
    mine, place = mine.filter(pa.array(place >= 0)), place[place >= 0]
    if not len(mine):
        return None
    counts = np.bincount(place, minlength=len(rows))
    if counts.max() > 1:
        twice = rows["trajectory_id"][int(np.argmax(counts > 1))].as_py()
        raise EvaluationError(
            f"trajectory {twice} has {counts.max()} verdicts of role {role}: "
            "pass the verdicts of one verifier at one version"
        )
    known = pc.index_in(mine["verdict"], value_set=pa.array(list(CODES)))
    if known.null_count:
        bad = pc.filter(mine["verdict"], pc.is_null(known))[0].as_py()
        raise EvaluationError(f"verdict {bad!r} of role {role}: expected one of {', '.join(CODES)}")
    values = np.array(list(CODES.values()), dtype=np.int8)[known.to_numpy()]
    inapplicable = pc.and_(pc.equal(mine["verdict"], "abstain"), pc.equal(mine["reason"], NOT_APPLICABLE)).to_numpy()
    if role != "rule":  # a rule that does not apply is an abstention: it gives no reward
        values = np.where(inapplicable, MISSING, values).astype(np.int8)
    codes = np.full(len(rows), MISSING, dtype=np.int8)
    codes[place] = values
    back = np.full(len(rows), -1, dtype=np.int64)
    back[place] = np.arange(len(mine))
    reasons = mine["reason"].combine_chunks().take(pa.array(back, mask=back < 0))
    return codes, reasons


def _token_sums(rows: pa.Table) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Per row: number of sampled tokens, and the sum of minus their log-probabilities."""
    mask = flat(rows["loss_mask"]).astype(bool)
    owner = pc.list_parent_indices(rows["loss_mask"].combine_chunks()).to_numpy().astype(np.int64)
    logprobs = flat(rows["sampled_logprobs"]).astype(np.float64)
    if len(logprobs) != len(mask):
        raise EvaluationError(
            "trajectories: loss_mask and sampled_logprobs differ in length; the shard is damaged, run its rollout again"
        )
    tokens = np.bincount(owner[mask], minlength=len(rows))
    surprisal = np.bincount(owner[mask], weights=-logprobs[mask], minlength=len(rows))
    return tokens.astype(np.int64), surprisal.astype(np.float64)
