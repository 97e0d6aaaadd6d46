"""Metrics of self-verification, from the critiques of evaluation samples: how well a policy judges itself, and what a vote makes of it.

The truth is the oracle's verdict on the sample where there is one, else the rule's. Accuracy is always beside balanced accuracy and the
majority class: a critic that calls everything wrong is accurate where most is wrong.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from assay.evaluation.estimators import NOTHING, Estimate, mean_with_interval
from assay.evaluation.self_verification import verification_estimates
from assay.params.self_verification import SelfVerification
from assay.rewards.critiques import Levels
from assay.rewards.self_verification_metrics import verification_metrics
from assay.rewards.voting import Vote, majority_vote, weighted_vote
from assay.verifiers.answer_classes import answer_class
from assay.verifiers.critiques import level_of

KIND = "evaluation_critique"
VOTES = ("majority", "weighted", "weighted_constant")
"""maj@k; weighted by what critiques say, in the two readings of eq. 5 of RISE (arXiv 2505.13445)."""


@dataclass(frozen=True)
class Judged:
    """An evaluation sample of a policy that judges its samples, and the critiques of it."""

    iteration: int
    task_id: str
    sample_index: int
    truth: float
    """Level of the sample."""
    says: tuple[float | None, ...]
    """Level that each critique gives; empty where there is none, as for a sample that is too long to be judged."""
    says_right: float
    """Share of critiques that call the sample right; 0 without critiques."""
    answer: str | None
    """Class of the answer that the rule read: equal for answers that it takes for equal. None: there is none."""


def judged_samples(trajectories: pa.Table, verdicts: pa.Table, option: SelfVerification) -> list[Judged]:
    """Evaluation samples whose truth is known, in the order of the record, of the policies that judged any. Empty where none did."""
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
    asked = set(critiques["iteration"].to_pylist())
    samples = trajectories.filter(pc.equal(trajectories["kind"], "evaluation"))
    answers, truths = _answers(samples, verdicts, option)
    found = []
    columns = ("trajectory_id", "iteration", "task_id", "sample_index")
    for name, iteration, task, index in zip(*(samples[c].to_pylist() for c in columns), strict=True):
        given = of_parent.get(name, [])
        truth = given[0]["target"] if given else truths.get(name)
        if iteration in asked and truth is not None:
            says = tuple(one["says"] for one in given)
            share = float(np.mean([one["says_right"] for one in given])) if given else 0.0
            found.append(Judged(iteration, task, index, truth, says, share, answers.get(name)))
    return found


def _answers(samples: pa.Table, verdicts: pa.Table, option: SelfVerification) -> tuple[dict[str, str], dict[str, float | None]]:
    """By trajectory id: class of the answer where there is one, and the level by the verdict that is believed."""
    texts = dict(zip(samples["trajectory_id"].to_pylist(), samples["text"].to_pylist(), strict=True))
    mine = verdicts.filter(pc.is_in(verdicts["trajectory_id"], samples["trajectory_id"].combine_chunks()))
    columns = ("trajectory_id", "role", "verifier", "verdict", "reason", "answer")
    answers: dict[str, str] = {}
    rule: dict[str, tuple[str, str]] = {}
    oracle: dict[str, str] = {}
    for name, role, verifier, verdict, reason, answer in zip(*(mine[c].to_pylist() for c in columns), strict=True):
        if role == "rule":
            rule[name] = verdict, reason
            if answer:
                answers[name] = answer_class(verifier, answer)
        elif role == "oracle" and verdict != "abstain":
            oracle[name] = verdict
    truths = {
        name: level_of(oracle.get(name, verdict), reason, texts[name], option) for name, (verdict, reason) in rule.items()
    }
    return answers, truths


def critique_metrics(samples: list[Judged], levels: tuple[float, float, float], confidence: float) -> Iterator[tuple[str, Estimate]]:
    """Metrics of the samples of one policy. levels: self_verification.levels."""
    scale = Levels(*levels)
    if not samples:
        return
    if pairs := [(said, one.truth, one.task_id) for one in samples for said in one.says]:
        yield from _rates(pairs, scale, confidence)
    silent: dict[str, list[bool]] = defaultdict(list)
    for one in samples:
        silent[one.task_id].append(not one.says)
    yield "verification_unjudged_share", mean_with_interval([np.mean(own) for own in silent.values()], confidence)
    yield from vote_metrics(samples, scale.right, confidence)


def _rates(pairs: list[tuple[float | None, float, str]], scale: Levels, confidence: float) -> Iterator[tuple[str, Estimate]]:
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
        ("verification_precision", plain.precision), ("verification_negative_precision", plain.negative_precision),
        ("verification_matthews", plain.matthews), ("verification_majority_accuracy", plain.majority_accuracy),
        ("verification_majority_exact_accuracy", plain.majority_exact_accuracy), ("verification_unscored_share", plain.unscored),
    ):  # fmt: skip
        yield name, NOTHING if value is None else Estimate(value, float("nan"), float("nan"), count)
    yield from _judge_rates(pairs, scale, confidence)


def _judge_rates(pairs: list[tuple[float | None, float, str]], scale: Levels, confidence: float) -> Iterator[tuple[str, Estimate]]:
    """Over the critiques with a score alone: without one, a policy that judges appeals abstains, and the estimate of the rule's errors
    leaves abstentions out."""
    scored = [pair for pair in pairs if pair[0] is not None]
    predicted, truth, tasks = ([pair[i] for pair in scored] for i in range(3))
    found = verification_estimates(predicted, truth, tasks, scale, confidence)  # type: ignore[arg-type]
    yield "verification_true_positive_rate", found.recall
    kept = found.specificity
    yield "verification_false_positive_rate", Estimate(1 - kept.value, 1 - kept.high, 1 - kept.low, kept.n) if kept.n else NOTHING


def vote_metrics(samples: list[Judged], right: float, confidence: float) -> Iterator[tuple[str, Estimate]]:
    """Share of tasks whose winning answer is right, for each of VOTES. An answer is right if most of its samples are: all of them, unless
    the oracle tells apart what the rule takes for equal, or an answer counts only in a box. A sample without critiques weighs as one that
    none calls right."""
    by_task: dict[str, list[Judged]] = defaultdict(list)
    for one in samples:
        by_task[one.task_id].append(one)
    hits: dict[str, list[float]] = {name: [] for name in VOTES}
    for own in by_task.values():
        own.sort(key=lambda one: one.sample_index)
        good = {answer: _mostly(one.truth == right for one in own if one.answer == answer) for answer in {one.answer for one in own}}
        for name, vote in zip(VOTES, _votes(own), strict=True):
            hits[name].append(float(vote.answer is not None and good[vote.answer]))
    size = max(len(own) for own in by_task.values())
    for name, values in hits.items():
        yield f"vote_{name}@{size}", mean_with_interval(np.array(values), confidence)


def _mostly(flags: Iterable[bool]) -> bool:
    said = list(flags)
    return 2 * sum(said) > len(said)


def _votes(own: list[Judged]) -> tuple[Vote, Vote, Vote]:
    answers, scores = [one.answer for one in own], [one.says_right for one in own]
    return majority_vote(answers), weighted_vote(answers, scores), weighted_vote(answers, scores, reading="constant")
