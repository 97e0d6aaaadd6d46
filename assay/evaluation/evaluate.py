"""Metrics with intervals: one row of `evaluations` per (iteration, environment, split, metric).

The headline verdict, by which pass@k counts, is the oracle's where the environment has one, else the rule's: the
verifier that gives the reward is not the one that is believed, where a better one exists. Abstained rows are neither
right nor wrong: they leave numerator and denominator, and are counted in `abstain_share`.
"""

from collections.abc import Iterator, Sequence
from itertools import chain

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from assay.evaluation.behaviour import behaviour_metrics, keywords
from assay.evaluation.critiques import Judged, critique_metrics, judged_samples
from assay.evaluation.estimators import (
    NOTHING,
    Estimate,
    Values,
    again_at_k,
    explore_at_k,
    explore_rate,
    keep_at_k,
    keep_rate,
    mean_with_interval,
    paired_difference,
    pass_at_k,
    ratio_with_interval,
)
from assay.evaluation.overthinking import Rechecks, overthinking_metrics, read_rechecks
from assay.evaluation.protocols import Measure, measured, protocol_measures
from assay.evaluation.samples import ABSTAIN, CORRECT, ROLES, WRONG, Samples, gather
from assay.evaluation.tool_use import tool_measures
from assay.params.sampling import EvaluationParams
from assay.params.self_verification import SelfVerification
from assay.rewards.critiques import THREE_LEVEL
from assay.trajectories import to_table

ALL = "all"
"""The name under which the environments of a split are pooled, task by task."""
SPLITS = ("eval", "ood", "train")


def evaluate(
    tasks: pa.Table,
    trajectories: pa.Table,
    verdicts: pa.Table,
    params: EvaluationParams,
    own: SelfVerification | None = None,
    *,
    opened_by_prompt: bool = False,
    samples: Samples | None = None,
) -> pa.Table:
    """Rows of `evaluations`. Tables as in the record; trajectories of other kinds than evaluation and its critiques are ignored.

    own: the section self_verification; None: its defaults. opened_by_prompt: prompts end with the open tag of the thinking. samples: of
    these tables, where they are joined already.
    Raises EvaluationError where there is nothing to evaluate, or a task or a rule verdict is missing.
    """
    samples = gather(tasks, trajectories, verdicts) if samples is None else samples
    measures = [*protocol_measures(samples, verdicts), *tool_measures(samples, verdicts)]
    own = own or SelfVerification()
    rechecks = read_rechecks(samples, opened_by_prompt=opened_by_prompt)
    return evaluate_samples(samples, params, judged_samples(trajectories, verdicts, own), own.levels, measures, rechecks)


def evaluate_samples(
    samples: Samples,
    params: EvaluationParams,
    judged: Sequence[Judged] = (),
    levels: tuple[float, float, float] = THREE_LEVEL.values,  # type: ignore[assignment]
    measures: Sequence[Measure] = (),
    rechecks: Rechecks | None = None,
) -> pa.Table:
    """The same from joined samples, and of measures that are given. Every value is exact arithmetic: no random numbers."""
    rows = []
    ids = samples.tasks["task_id"].to_pylist()
    critiques: dict[int, list[Judged]] = {}
    for one in judged:
        critiques.setdefault(one.iteration, []).append(one)
    words = keywords(samples) if judged else None
    present = np.zeros(len(samples.tasks), dtype=bool)
    present[samples.task] = True
    for split in SPLITS:
        for name in (ALL, *samples.environments):
            chosen = present & (samples.split == split) & ((samples.environment == name) | (name == ALL))
            if not chosen.any():
                continue
            here = {ids[task] for task in np.flatnonzero(chosen)} if judged else set()
            for policy, iteration in enumerate(samples.iterations):
                own = [one for one in critiques.get(iteration, ()) if one.task_id in here]
                found = chain(
                    _metrics(samples, policy, chosen, params), critique_metrics(own, levels, params.confidence),
                    behaviour_metrics(samples, policy, chosen, words, params.confidence) if own and words else (),
                    overthinking_metrics(samples, policy, chosen, rechecks, params.confidence) if rechecks else (),
                    measured(samples, policy, chosen, measures, params.confidence, float(params.samples)),
                )  # fmt: skip
                for metric, estimate in found:
                    empty = estimate.n == 0
                    rows.append(
                        {
                            "iteration": iteration,
                            "environment": name,
                            "split": split,
                            "metric": metric,
                            "value": None if empty else estimate.value,
                            "low": _number(estimate.low),
                            "high": _number(estimate.high),
                            "n": estimate.n,
                        }
                    )
    return to_table("evaluations", rows)


def correct_share(
    samples: Samples, policy: int, role: str = "headline"
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Per task: number of right samples, number of samples on which the role decided."""
    codes = samples.column(role)
    right = samples.per_task(policy, mask=codes == CORRECT)
    return right, right + samples.per_task(policy, mask=codes == WRONG)


def _metrics(
    samples: Samples, policy: int, chosen: NDArray[np.bool_], params: EvaluationParams
) -> Iterator[tuple[str, Estimate]]:
    """Metrics of one policy on the chosen tasks, in the order of the report."""
    confidence, draws = params.confidence, float(params.samples)
    right, decided = correct_share(samples, policy)
    first_right, first_decided = correct_share(samples, 0)
    for k in params.pass_at:
        yield f"pass@{k}", _pass(right, decided, k, chosen, confidence, draws)
    use = chosen & (decided > 0)
    yield f"avg@{params.samples}", mean_with_interval(right[use] / decided[use], confidence, samples=draws)
    if policy > 0:
        for k in params.pass_at:
            both = chosen & (decided >= k) & (first_decided >= k)
            before, after = (
                pass_at_k(first_decided[both], first_right[both], k),
                pass_at_k(decided[both], right[both], k),
            )
            yield f"pass@{k}_gain", paired_difference(before, after, confidence, samples=draws)
            yield f"keep@{k}", keep_at_k(before, after, confidence, samples=draws, k=k)
            yield f"explore@{k}", explore_at_k(before, after, confidence, samples=draws, k=k)
        both = chosen & (decided > 0) & (first_decided > 0)
        yield "keep_rate", keep_rate(first_right[both] > 0, right[both] > 0, confidence)
        yield "explore_rate", explore_rate(first_right[both] > 0, right[both] > 0, confidence)
    else:
        for k in params.pass_at:
            use = chosen & (decided >= 2 * k)
            if use.any():
                kept, explored = again_at_k(decided[use], right[use], k, confidence, samples=draws)
                yield f"keep@{k}", kept
                yield f"explore@{k}", explored
    yield from _accuracies(samples, policy, chosen, confidence, draws)
    rows = samples.per_task(policy)
    use = chosen & (rows > 0)
    yield "abstain_share", _share(samples, policy, samples.headline == ABSTAIN, use, rows, params)
    yield "abstain_share_rule", _share(samples, policy, samples.verdicts["rule"] == ABSTAIN, use, rows, params)
    yield "truncated_share", _share(samples, policy, samples.truncated, use, rows, params)
    tokens = samples.per_task(policy, samples.tokens)
    yield "length_mean", mean_with_interval(tokens[use] / rows[use], confidence, bounded=False)
    yield "entropy", ratio_with_interval(samples.per_task(policy, samples.surprisal)[use], tokens[use], confidence)


def _accuracies(
    samples: Samples, policy: int, chosen: NDArray[np.bool_], confidence: float, draws: float
) -> Iterator[tuple[str, Estimate]]:
    """Accuracy by each role that decides anything on the chosen tasks, over the samples that all of these decided.

    A role judges some environments and some answers only: over its own samples each would be about other tasks, and
    their difference would say nothing about the verifiers.
    """
    decided = {role: (codes == CORRECT) | (codes == WRONG) for role, codes in samples.verdicts.items()}
    mine = chosen[samples.task]
    present = [role for role in ROLES if role == "rule" or (role in decided and (decided[role] & mine).any())]
    by_all = np.logical_and.reduce([decided[role] for role in present])
    count = samples.per_task(policy, mask=by_all)
    use = chosen & (count > 0)
    for role in present:
        right = samples.per_task(policy, mask=by_all & (samples.verdicts[role] == CORRECT))
        share = mean_with_interval(right[use] / count[use], confidence, samples=draws) if use.any() else NOTHING
        yield f"accuracy_{role}", share


def _pass(
    right: Values, decided: Values, k: int, chosen: NDArray[np.bool_], confidence: float, draws: float
) -> Estimate:
    """Mean over the tasks that have at least k decided samples; abstentions can make them fewer, which n shows."""
    use = chosen & (decided >= k)
    return (
        mean_with_interval(pass_at_k(decided[use], right[use], k), confidence, samples=draws) if use.any() else NOTHING
    )


def _share(
    samples: Samples,
    policy: int,
    flags: NDArray[np.bool_],
    use: NDArray[np.bool_],
    rows: Values,
    params: EvaluationParams,
) -> Estimate:
    hits = samples.per_task(policy, mask=flags)
    return mean_with_interval(hits[use] / rows[use], params.confidence, samples=float(params.samples))


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
