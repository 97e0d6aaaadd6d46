"""Rows of `noise_estimates` where answers are appealed: the estimate of this batch, the averages over batches, and warnings.

Everything that a correction reads later stands in the row, so that the batch can be assembled again from the tables alone.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import NormalDist
from typing import Any

import numpy as np
import pyarrow as pa

from assay.environments import Task
from assay.params.noise import AppealsParams, JudgeRates
from assay.trajectories import to_table
from assay.verifiers.appeals_estimator import (
    AppealCounts,
    AppealsEstimator,
    Counts,
    Estimate,
    JudgeErrors,
    measured_judge_errors,
    residual_rates,
    share,
    smooth,
    smooth_counts,
    unbounded_counts,
)
from assay.verifiers.noise import Key, Said, base_row, grouped
from assay.verifiers.noise_state import Average, Judged, NoiseState
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
        row["carried_deviation"] = before.deviation
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
    judge, auditor = _errors(params, average.appealed), _errors(params, average.audited)
    if judge is None:  # worse than none: its verdicts are no evidence
        counts = replace(counts, appealed=0, upheld=0, abstained=counts.appealed + counts.abstained)
    if auditor is None:
        counts = replace(counts, audited=0, refused=0, audit_abstained=counts.audited + counts.audit_abstained)
    judge, auditor = judge or JudgeErrors(), auditor or JudgeErrors()
    estimator = AppealsEstimator(
        alpha=params.alpha, beta=params.beta, confidence=params.confidence, assumed_false_positive_rate=params.assumed_false_positive_rate
    )  # fmt: skip
    found = estimator.estimate(counts, judge, auditor=auditor)
    audit = params.audit_probability > 0
    carried = (
        params.initial_false_negative_rate if average.false_negative is None else average.false_negative,
        average.false_positive if audit else params.assumed_false_positive_rate,
    )
    enough = _enough(counts, found, params)
    after = _moved(replace(average, false_negative=carried[0], false_positive=carried[1]), counts, found, enough, params, judge, auditor)
    residual = _residual(after, counts, params, judge) if params.recover else (None, None)
    measured = found.false_positive_source == "audit"
    row |= {
        "against": "judge",
        "n": counts.appealed + counts.audited,
        "rule_positives": counts.rule_positives, "rule_negatives": counts.rule_negatives, "examined_negatives": counts.appealed,
        "false_negatives": found.false_negatives,
        "false_negative_rate": found.false_negative_rate,
        "false_negative_low": found.false_negative_low, "false_negative_high": found.false_negative_high,
        "false_positive_rate": found.false_positive_rate if measured else params.assumed_false_positive_rate,
        "false_positive_low": found.false_positive_low, "false_positive_high": found.false_positive_high,
        "false_positive_source": found.false_positive_source,
        "smoothed_rate": after.false_negative, "carried_rate": carried[0],
        "smoothed_false_positive_rate": after.false_positive, "carried_false_positive_rate": carried[1],
        "appeal_probability": params.probability, "upheld_negatives": counts.upheld, "examined_positives": counts.audited,
        "refused_positives": counts.refused, "judge_abstentions": counts.abstained + counts.audit_abstained, "judge": asked.name,
        "judge_true_positive_rate": judge.true_positive, "judge_false_positive_rate": judge.false_positive,
        "judge_calls": asked.calls.get(key[2:], 0), "judge_tokens": asked.tokens.get(key[2:], 0),
        "residual_false_negative_rate": residual[0], "residual_false_positive_rate": residual[1],
        "enough": enough[0], "enough_audited": enough[1] if audit else None,
    }  # fmt: skip
    row["warning"] = warning(row, params)
    return after


def _moved(
    average: Average, counts: AppealCounts, found: Estimate, enough: tuple[bool, bool], params: AppealsParams, judge: JudgeErrors,
    auditor: JudgeErrors,
) -> Average:  # fmt: skip
    """The averages with this batch. A judge without errors: of rates, as in the paper (B.9). One with errors: of counts, from which the
    rate follows. A batch with few right answers may show fewer than none of them missed; rates, which cannot be below 0, would be too high
    on average, however many batches there are."""
    errs = judge != JudgeErrors() or (counts.audited > 0 and auditor != JudgeErrors())
    fresh = unbounded_counts(counts, judge, auditor, params.assumed_false_positive_rate)

    def moved(
        rate: float | None, held: Counts | None, of_batch: float, counted: Counts, pseudo: tuple[float, float]
    ) -> tuple[float | None, Counts | None]:
        if not errs and held is None:
            return smooth(rate, of_batch, params.decay), None
        held = smooth_counts(held, rate, counted, params.decay)
        follows = share(held, *pseudo)
        return rate if follows is None else follows, held

    if enough[0] and found.false_negative_rate is not None:
        pseudo = params.alpha, params.beta
        rate, held = moved(average.false_negative, average.negative, found.false_negative_rate, fresh[0], pseudo)
        average = replace(average, false_negative=rate, negative=held)
    if enough[1] and found.false_positive_rate is not None:
        rate, held = moved(average.false_positive, average.positive, found.false_positive_rate, fresh[1], (0.0, 0.0))
        average = replace(average, false_positive=rate, positive=held)
    return average


def _residual(after: Average, counts: AppealCounts, params: AppealsParams, judge: JudgeErrors) -> tuple[float | None, float | None]:
    """Smoothed rates of the rewards after recovery; what is not known before is not known after."""
    put = counts.appealed + counts.abstained
    decided = params.probability * (counts.appealed / put if put else 1.0)  # what the judge leaves open is not recovered
    negative, positive = residual_rates(after.false_negative or 0.0, after.false_positive or 0.0, decided, judge)
    return None if after.false_negative is None else negative, None if after.false_positive is None else positive


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
    """With what the oracle says of the judge, on appealed and on audited answers."""

    def with_pairs(before: Judged, pairs: list[tuple[bool, bool]]) -> Judged:
        right, wrong = [accepts for is_right, accepts in pairs if is_right], [accepts for is_right, accepts in pairs if not is_right]
        return before[0] + sum(right), before[1] + len(right), before[2] + sum(wrong), before[3] + len(wrong)

    both = [(one.appealed, (one.oracle, one.upheld)) for one in says if one.oracle is not None and one.upheld is not None]
    return replace(
        average,
        appealed=with_pairs(average.appealed, [pair for appealed, pair in both if appealed]),
        audited=with_pairs(average.audited, [pair for appealed, pair in both if not appealed]),
    )


def _errors(params: AppealsParams, judged: Judged) -> JudgeErrors | None:
    """The judge's error rates that are taken out of the estimate; those of a perfect one until enough is known to measure them. None
    where measured ones show that it does not tell right from wrong."""
    if isinstance(params.judge_rates, JudgeRates):
        return JudgeErrors(params.judge_rates.true_positive, params.judge_rates.false_positive)
    try:
        return measured_judge_errors(*judged, minimum=params.minimum_judged) or JudgeErrors()
    except ValueError:
        return None


def _enough(counts: AppealCounts, found: Estimate, params: AppealsParams) -> tuple[bool, bool]:
    """Whether this batch may move the averages of the false-negative and of the false-positive rate: enough were judged, or all there
    were, and enough answers were right, or wrong. The second rests on the appeals too: they tell how many of the rejected are wrong."""
    missed, passed = found.false_negatives or 0.0, found.false_positives or 0.0
    appealed = counts.appealed == counts.rule_negatives or counts.appealed >= params.minimum_judged
    audited = counts.audited > 0 and (counts.audited == counts.rule_positives or counts.audited >= params.minimum_judged)
    right, wrong = missed + counts.rule_positives - passed, passed + counts.rule_negatives - missed
    return (
        found.false_negative_rate is not None and appealed and right >= params.minimum_right,
        found.false_positive_rate is not None and appealed and audited and wrong >= params.minimum_right,
    )


def _with_deviation(average: Average, says: Sequence[Said], decay: float) -> Average:
    rewards = [one.reward for one in says if one.reward is not None]
    if len(rewards) < 2:
        return average
    return replace(average, deviation=smooth(average.deviation, float(np.std(rewards)), decay))


def warning(row: Row, params: AppealsParams) -> str | None:
    """What a person should look at, in one sentence; None where nothing is amiss."""
    found = []
    judged = row["examined_negatives"] + row["examined_positives"]
    if row["judge_abstentions"] > judged:
        found.append(f"{row['judge']} decided only {judged} of {judged + row['judge_abstentions']} answers that were put before it")
    if not row["enough"] and row["smoothed_rate"] is not None:
        found.append(f"too little evidence ({row['examined_negatives']} judged), so the average of {row['smoothed_rate']:.3f} stands")
    if row["enough"] and row["carried_rate"] is not None and _has_drifted(row, params.confidence):
        rate, low, high = (row[f"false_negative_{name}"] for name in ("rate", "low", "high"))
        found.append(f"the false-negative rate is {rate:.3f} [{low:.3f}, {high:.3f}], away from the average of {row['carried_rate']:.3f}")
    if row["smoothed_rate"] is not None:
        determinant = 1 - row["smoothed_rate"] - (row["smoothed_false_positive_rate"] or 0.0)
        if determinant < params.determinant_limit:
            limit = f"{params.determinant_limit:g}"
            found.append(f"1 - false-positive - false-negative rate is {determinant:.3f}, below {limit}: verdicts say little")
    return "; ".join(found) or None


def _has_drifted(row: Row, confidence: float) -> bool:
    """Whether the average is further from this batch's interval than chance puts two batches of one rate apart: the interval is for the
    rate that this batch has realised, and at q = 1 nothing but a point."""
    rate = row["carried_rate"]
    right = (row["false_negatives"] or 0.0) + row["rule_positives"]
    chance = NormalDist().inv_cdf((1 + confidence) / 2) * math.sqrt(rate * (1 - rate) / max(right, 1.0))
    return not row["false_negative_low"] - chance <= rate <= row["false_negative_high"] + chance
