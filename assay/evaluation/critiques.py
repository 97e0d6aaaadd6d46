"""Metrics of self-verification, from the critiques of evaluation samples: how well a policy judges itself, and what a vote makes of it.

The truth is the oracle's verdict on the sample where there is one, else the rule's. Accuracy is always beside balanced accuracy and the
majority class: a critic that calls everything wrong is accurate where most is wrong.
"""

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from assay.evaluation.estimators import NOTHING, Estimate, mean_with_interval
from assay.evaluation.self_verification import verification_estimates
from assay.rewards.critiques import Levels
from assay.rewards.self_verification_metrics import verification_metrics
from assay.rewards.voting import Vote, majority_vote, weighted_vote

KIND = "evaluation_critique"
VOTES = ("majority", "weighted", "weighted_constant")
"""maj@k; weighted by what critiques say, in the two readings of eq. 5 of RISE (arXiv 2505.13445)."""


@dataclass(frozen=True)
class Judged:
    """The critiques of one evaluation sample."""

    iteration: int
    task_id: str
    sample_index: int
    truth: float
    """Level of the sample."""
    says: tuple[float | None, ...]
    """Level that each critique gives."""
    says_right: float
    """Share of critiques that call the sample right."""
    answer: str | None
    """As the rule read it; None: there is none."""


def judged_samples(trajectories: pa.Table, verdicts: pa.Table) -> list[Judged]:
    """Evaluation samples with critiques whose truth is known, in the order of the record. Empty where nothing was judged."""
    critiques = trajectories.filter(pc.equal(trajectories["kind"], KIND))
    if len(critiques) == 0:
        return []
    own = verdicts.filter(pc.is_in(verdicts["trajectory_id"], critiques["trajectory_id"].combine_chunks()))
    best: dict[str, dict[str, Any]] = {}
    read = (own[c].to_pylist() for c in ("trajectory_id", "role", "verdict", "components"))
    for name, role, verdict, components in zip(*read, strict=True):
        if verdict != "abstain" and (name not in best or role == "oracle"):
            best[name] = json.loads(components)
    of_parent: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for name, parent in zip(critiques["trajectory_id"].to_pylist(), critiques["parent_id"].to_pylist(), strict=True):
        if name in best:
            of_parent[parent].append(best[name])
    samples = trajectories.filter(pc.equal(trajectories["kind"], "evaluation"))
    rule = verdicts.filter(pc.equal(verdicts["role"], "rule"))
    answers = dict(zip(rule["trajectory_id"].to_pylist(), rule["answer"].to_pylist(), strict=True))
    found = []
    columns = ("trajectory_id", "iteration", "task_id", "sample_index")
    for name, iteration, task, index in zip(*(samples[c].to_pylist() for c in columns), strict=True):
        if given := of_parent.get(name):
            says = tuple(one["says"] for one in given)
            share = float(np.mean([one["says_right"] for one in given]))
            found.append(Judged(iteration, task, index, given[0]["target"], says, share, answers.get(name) or None))
    return found


def critique_metrics(samples: list[Judged], levels: tuple[float, float, float], confidence: float) -> Iterator[tuple[str, Estimate]]:
    """Metrics of the samples of one policy. levels: self_verification.levels."""
    if not samples:
        return
    scale = Levels(*levels)
    pairs = [(said, one.truth, one.task_id) for one in samples for said in one.says]
    predicted, truth, tasks = ([pair[i] for pair in pairs] for i in range(3))
    estimates = verification_estimates(predicted, truth, tasks, scale, confidence)  # type: ignore[arg-type]
    plain = verification_metrics(predicted, truth, scale)  # type: ignore[arg-type]
    yield "verification_accuracy", estimates.binary_accuracy
    yield "verification_exact_accuracy", estimates.exact_accuracy
    yield "verification_balanced_accuracy", estimates.balanced_accuracy
    yield "verification_recall", estimates.recall
    yield "verification_specificity", estimates.specificity
    count = len(set(tasks))
    for name, value in (
        ("verification_precision", plain.precision), ("verification_matthews", plain.matthews),
        ("verification_majority_accuracy", plain.majority_accuracy), ("verification_unscored_share", plain.unscored),
    ):  # fmt: skip
        yield name, NOTHING if value is None else Estimate(value, float("nan"), float("nan"), count)
    yield from vote_metrics(samples, scale.right, confidence)


def vote_metrics(samples: list[Judged], right: float, confidence: float) -> Iterator[tuple[str, Estimate]]:
    """Share of tasks whose winning answer is right, for each of VOTES. An answer is right if its samples are."""
    by_task: dict[str, list[Judged]] = defaultdict(list)
    for one in samples:
        by_task[one.task_id].append(one)
    hits: dict[str, list[float]] = {name: [] for name in VOTES}
    for own in by_task.values():
        own.sort(key=lambda one: one.sample_index)
        good = {one.answer: one.truth == right for one in own}
        for name, vote in zip(VOTES, _votes(own), strict=True):
            hits[name].append(float(vote.answer is not None and good[vote.answer]))
    size = max(len(own) for own in by_task.values())
    for name, values in hits.items():
        yield f"vote_{name}@{size}", mean_with_interval(np.array(values), confidence)


def _votes(own: list[Judged]) -> tuple[Vote, Vote, Vote]:
    answers, scores = [one.answer for one in own], [one.says_right for one in own]
    return majority_vote(answers), weighted_vote(answers, scores), weighted_vote(answers, scores, reading="constant")
