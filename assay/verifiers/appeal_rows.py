"""Rows of `noise_estimates` where answers are appealed: the estimate of this batch, the averages over batches, and warnings.

Everything that a correction reads later stands in the row, so that the batch can be assembled again from the tables alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from assay.environments import Task
from assay.params.noise import AppealsParams, JudgeRates
from assay.trajectories import to_table
from assay.verifiers.appeals_estimator import (
    AppealCounts,
    AppealsEstimator,
    Estimate,
    JudgeErrors,
    measured_judge_errors,
    residual_rates,
    smooth,
)
from assay.verifiers.noise import Key, Said, base_row, grouped
from assay.verifiers.noise_state import Average, NoiseState
from assay.verifiers.observation import Asked

Row = dict[str, Any]


def estimate_appeals(
    verdicts: pa.Table,
    tasks: Mapping[str, Task],
    trajectories: pa.Table,
    params: AppealsParams,
    state: NoiseState,
    asked: Asked | None,
) -> tuple[pa.Table, NoiseState]:
    """`noise_estimates` of observed verdicts, and the state after them. asked: None where nothing was appealed; then rows are those
    of `estimate_noise`, with the average of the rewards' deviation."""
    averages, rows = dict(state.averages), []
    for key, says in sorted(grouped(verdicts, tasks, trajectories).items()):
        before = averages.get(key[2:], Average())
        row, after = base_row(key, says), _with_deviation(before, says, params.decay)
        if asked is not None:
            after = _appealed(row, key, says, params, after, asked)
        row["smoothed_deviation"] = after.deviation
        averages[key[2:]] = after
        rows.append(row)
    return to_table("noise_estimates", rows), NoiseState(averages)


def _appealed(row: Row, key: Key, says: Sequence[Said], params: AppealsParams, average: Average, asked: Asked) -> Average:
    """Put the estimate from appeals into the row; the averages after it."""
    counts = _counts(says, params)
    average = _judged(average, says)
    judge = _errors(params, average)
    if judge is None:  # worse than none: its verdicts are no evidence
        judge, counts = JudgeErrors(), replace(
            counts, appealed=0, upheld=0, abstained=counts.appealed + counts.abstained,
            audited=0, refused=0, audit_abstained=counts.audited + counts.audit_abstained,
        )  # fmt: skip
    estimator = AppealsEstimator(
        alpha=params.alpha, beta=params.beta, confidence=params.confidence, assumed_false_positive_rate=params.assumed_false_positive_rate
    )  # fmt: skip
    found = estimator.estimate(counts, judge)
    enough = _enough(counts, found, params)
    after = _averaged(average, found, params, counts, enough)
    carried = average.false_negative if average.false_negative is not None else params.initial_false_negative_rate
    audit = params.audit_probability > 0
    residual: tuple[float | None, float | None] = (None, None)
    if params.recover and after.false_negative is not None:
        put = counts.appealed + counts.abstained
        decided = params.probability * (counts.appealed / put if put else 1.0)  # what the judge leaves open is not recovered
        residual = residual_rates(after.false_negative, after.false_positive or 0.0, decided, judge)
    row |= {
        "against": "judge",
        "n": counts.appealed + counts.audited,
        "rule_positives": counts.rule_positives, "rule_negatives": counts.rule_negatives, "examined_negatives": counts.appealed,
        "false_negatives": found.false_negatives or 0.0,
        "false_negative_rate": found.false_negative_rate,
        "false_negative_low": found.false_negative_low, "false_negative_high": found.false_negative_high,
        "false_positive_rate": found.false_positive_rate if audit else params.assumed_false_positive_rate,
        "false_positive_low": found.false_positive_low if audit else None,
        "false_positive_high": found.false_positive_high if audit else None,
        "false_positive_source": "audit" if audit else "assumed",
        "smoothed_rate": after.false_negative, "carried_rate": carried,
        "smoothed_false_positive_rate": after.false_positive, "carried_false_positive_rate": average.false_positive,
        "appeal_probability": params.probability, "upheld_negatives": counts.upheld, "examined_positives": counts.audited,
        "refused_positives": counts.refused, "judge_abstentions": counts.abstained + counts.audit_abstained, "judge": asked.name,
        "judge_true_positive_rate": judge.true_positive, "judge_false_positive_rate": judge.false_positive,
        "judge_calls": asked.calls.get(key[2], 0), "judge_tokens": asked.tokens.get(key[2], 0),
        "residual_false_negative_rate": residual[0], "residual_false_positive_rate": residual[1],
        "enough": enough,
    }  # fmt: skip
    row["warning"] = warning(row, params.determinant_limit)
    return after


def _counts(says: Sequence[Said], params: AppealsParams) -> AppealCounts:
    decided = [one for one in says if one.rule is not None]
    appealed = [one.upheld for one in decided if one.appealed]
    audited = [one.upheld for one in decided if one.audited]
    return AppealCounts(
        rule_positives=sum(one.rule is True for one in decided),
        rule_negatives=sum(one.rule is False for one in decided),
        probability=params.probability,
        appealed=len(appealed) - appealed.count(None),
        upheld=appealed.count(True),
        abstained=appealed.count(None),
        audit_probability=params.audit_probability,
        audited=len(audited) - audited.count(None),
        refused=audited.count(False),
        audit_abstained=audited.count(None),
    )


def _judged(average: Average, says: Sequence[Said]) -> Average:
    """With what the oracle says of the judge."""
    both = [(one.oracle, one.upheld) for one in says if one.oracle is not None and one.upheld is not None]
    return replace(
        average,
        right_accepted=average.right_accepted + both.count((True, True)),
        right_judged=average.right_judged + sum(right for right, _ in both),
        wrong_accepted=average.wrong_accepted + both.count((False, True)),
        wrong_judged=average.wrong_judged + sum(not right for right, _ in both),
    )


def _errors(params: AppealsParams, average: Average) -> JudgeErrors | None:
    """The judge's error rates that are taken out of the estimate; those of a perfect one until enough is known to measure them. None
    where measured ones show that it does not tell right from wrong."""
    if isinstance(params.judge_rates, JudgeRates):
        return JudgeErrors(params.judge_rates.true_positive, params.judge_rates.false_positive)
    counts = (average.right_accepted, average.right_judged, average.wrong_accepted, average.wrong_judged)
    try:
        return measured_judge_errors(*counts, minimum=params.minimum_judged) or JudgeErrors()
    except ValueError:
        return None


def _enough(counts: AppealCounts, found: Estimate, params: AppealsParams) -> bool:
    """Whether the false-negative rate of this batch may move the average: enough were judged, or all there were."""
    whole = counts.appealed == counts.rule_negatives
    right = (found.false_negatives or 0.0) + counts.rule_positives
    return found.false_negative_rate is not None and (whole or counts.appealed >= params.minimum_judged) and right >= params.minimum_right


def _averaged(average: Average, found: Estimate, params: AppealsParams, counts: AppealCounts, enough: bool) -> Average:
    if average.false_negative is None and params.initial_false_negative_rate is not None:
        average = replace(average, false_negative=params.initial_false_negative_rate)
    if enough and found.false_negative_rate is not None:
        average = replace(average, false_negative=smooth(average.false_negative, found.false_negative_rate, params.decay))
    if params.audit_probability == 0:
        return replace(average, false_positive=params.assumed_false_positive_rate)
    whole = counts.audited == counts.rule_positives > 0
    if found.false_positive_rate is not None and (whole or counts.audited >= params.minimum_judged):
        average = replace(average, false_positive=smooth(average.false_positive, found.false_positive_rate, params.decay))
    return average


def _with_deviation(average: Average, says: Sequence[Said], decay: float) -> Average:
    rewards = [one.reward for one in says if one.reward is not None]
    if len(rewards) < 2:
        return average
    return replace(average, deviation=smooth(average.deviation, float(np.std(rewards)), decay))


def warning(row: Row, determinant_limit: float) -> str | None:
    """What a person should look at, in one sentence; None where nothing is amiss."""
    found = []
    judged = row["examined_negatives"] + row["examined_positives"]
    if row["judge_abstentions"] > judged:
        found.append(f"{row['judge']} decided only {judged} of {judged + row['judge_abstentions']} answers that were put before it")
    if not row["enough"] and row["smoothed_rate"] is not None:
        found.append(f"too little evidence ({row['examined_negatives']} judged), so the average of {row['smoothed_rate']:.3f} stands")
    rate, low, high, carried = (row[name] for name in ("false_negative_rate", "false_negative_low", "false_negative_high", "carried_rate"))
    if row["enough"] and carried is not None and low is not None and not low <= carried <= high:
        found.append(f"the false-negative rate is {rate:.3f} [{low:.3f}, {high:.3f}], away from the average of {carried:.3f}")
    if row["smoothed_rate"] is not None:
        determinant = 1 - row["smoothed_rate"] - (row["smoothed_false_positive_rate"] or 0.0)
        if determinant < determinant_limit:
            found.append(f"1 - false-positive - false-negative rate is {determinant:.3f}, below {determinant_limit:g}: verdicts say little")
    return "; ".join(found) or None
