"""Why a row is not trained on: one reason for each dropped row, the first that applies."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

from assay.params import Params
from assay.params.training import Backward, BackwardZScored, ForwardZScored, GroupZScore, LeaveOneOut
from assay.training.ragged import Ragged, Streams
from assay.training.reference import needs_reference

SOLVED = "the policy solves all or none of each group: change the tasks, or raise sampling.group_size"
REASONS = ("abstained", "truncated", "zero_variance", "duplicate", "mismatch")
"""Drop reasons, in the order in which they are looked for."""

KEPT = -1


class FilterError(ValueError):
    """A filter that cannot be applied, or that leaves nothing."""


def drop_reasons(
    rewards: np.ndarray,
    groups: np.ndarray,
    truncated: np.ndarray,
    streams: Streams,
    params: Params,
    mismatch: Callable[[], np.ndarray],
) -> np.ndarray:
    """(rows,) int8: the number of the reason among REASONS, KEPT where the row is kept.

    rewards: (rows,), NaN where the rule abstained. groups: (rows,) numbers from 0. truncated: (rows,) cut at
    max_tokens. mismatch: gives (rows,) nats, called only where filter.max_mismatch is set.
    """
    dropped = np.full(len(rewards), KEPT, dtype=np.int8)

    def drop(where: np.ndarray, reason: str) -> None:
        dropped[where & (dropped == KEPT)] = REASONS.index(reason)

    drop(np.isnan(rewards), "abstained")
    if params.filter.truncated:
        drop(truncated, "truncated")
    if params.filter.zero_variance_groups and _only_advantages_bear_gradient(params):
        drop(without_variance(rewards, groups), "zero_variance")
    if params.filter.duplicates:
        drop(_duplicates(groups, streams.completions), "duplicate")
    if params.filter.max_mismatch is not None:
        drop(mismatch() > params.filter.max_mismatch, "mismatch")
    return dropped


def check_left(dropped: np.ndarray, *, may_be_solved: bool) -> None:
    """Raises FilterError where no row is left to train on. may_be_solved: not so where equal rewards within groups are the chief cause:
    what a policy meets that solves all or nothing of a few tasks, in one round and not in the next."""
    counts = np.bincount(dropped[dropped != KEPT], minlength=len(REASONS))
    if counts.sum() < len(dropped) or (may_be_solved and counts.argmax() == REASONS.index("zero_variance")):
        return
    raise FilterError(_nothing_left(dropped))


def _only_advantages_bear_gradient(params: Params) -> bool:
    """Whether a row whose group has equal rewards changes nothing but the divisor, and thresholds over the batch.

    Not so without a group baseline, where its advantage is not zero, nor with a penalty or bonus: those act on every
    row, and dropping the solved tasks would lift the tether to policy 0 exactly where the policy has become certain.
    """
    training = params.training
    group_baseline = isinstance(training.advantage, GroupZScore | LeaveOneOut | Backward | BackwardZScored | ForwardZScored)
    alone = params.sampling.group_size == 1  # then nothing is subtracted
    penalised = training.divergence.coefficient > 0 or training.entropy_bonus > 0
    if training.lp_reg is not None and training.lp_reg.coefficient > 0 and training.lp_reg.sign == "any":
        penalised = True
    if needs_reference(params) or training.loss.kl_cov is not None:
        penalised = True
    return group_baseline and not alone and not penalised


def without_variance(rewards: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """(rows,) whether all rewards of the row's group are equal; abstained rows do not count."""
    low, high = np.full(groups.max() + 1, np.inf), np.full(groups.max() + 1, -np.inf)
    seen = ~np.isnan(rewards)
    np.minimum.at(low, groups[seen], rewards[seen])
    np.maximum.at(high, groups[seen], rewards[seen])
    return (high <= low)[groups]


def _duplicates(groups: np.ndarray, completions: Ragged) -> np.ndarray:
    """(rows,) whether an earlier row of the same group has the same completion."""
    seen: set[tuple[int, bytes]] = set()
    found = np.zeros(len(groups), dtype=bool)
    for row, group in enumerate(groups):
        key = (int(group), completions[row].tobytes())
        found[row] = key in seen
        seen.add(key)
    return found


def mean_mismatch(policy: Path | None, streams: Streams, params: Params, progress: Callable[[str], None]) -> np.ndarray:
    """(rows,) mean |sampler - trainer| log-probability over tokens that bear loss, nats. Raises FilterError without
    policy."""
    if policy is None:
        raise FilterError("filter.max_mismatch needs the policy that sampled: give the folder of its model as `policy`")
    from assay.training.reference import compute_logprobs

    trainer = compute_logprobs(policy, streams, params, progress)
    gap = np.where(streams.mask.values, np.abs(trainer.values - streams.logprobs.values), 0.0)
    return streams.mask.sums(gap) / np.maximum(streams.mask.sums(), 1)


def _nothing_left(dropped: np.ndarray) -> str:
    counts = Counter(REASONS[code] for code in dropped)
    reasons = ", ".join(f"{counts[name]:,} {name}" for name in REASONS if counts[name])
    advice = {
        "zero_variance": SOLVED,
        "abstained": "look at the reasons in the verdicts table: the verifier fails",
        "truncated": "raise sampling.max_tokens, or set filter.truncated to false",
    }.get(counts.most_common(1)[0][0], "relax the filter")
    return f"all {len(dropped):,} rows were dropped ({reasons}), so there is nothing to train on: {advice}"
