"""Does training widen what a policy can solve, or only sharpen it? Curves over k, each against policy 0."""

from dataclasses import dataclass

import numpy as np

from assay.evaluation.estimators import (
    NOTHING,
    Estimate,
    explore_at_k,
    keep_at_k,
    mean_with_interval,
    paired_difference,
    pass_at_k,
)
from assay.evaluation.evaluate import correct_share
from assay.evaluation.samples import Samples
from assay.params.sampling import EvaluationParams


@dataclass(frozen=True)
class Curves:
    """One policy over k. Each list has one estimate for each k; those against policy 0 are empty for policy 0."""

    iteration: int
    ks: tuple[int, ...]
    passes: tuple[Estimate, ...]
    gains: tuple[Estimate, ...] = ()
    """pass@k minus that of policy 0, paired by task."""
    kept: tuple[Estimate, ...] = ()
    explored: tuple[Estimate, ...] = ()


MOST_TASKS = 0.9
"""Share of the tasks that must have k decided samples with every policy for a curve to reach k: its ends are about the same tasks."""


def curve_ks(samples: Samples, split: str, pass_at: tuple[int, ...] = ()) -> tuple[int, ...]:
    """1, 2, 4, ... and the largest k that MOST_TASKS of the split's tasks reach: all samples, where few verdicts abstain.

    `pass_at` is added as far as that. Empty where nothing is decided.
    """
    mine = samples.split == split
    present = mine & (samples.per_task(0) > 0)
    decided = np.minimum.reduce([correct_share(samples, policy)[1] for policy in range(len(samples.iterations))])[present]
    largest = int(np.quantile(decided, 1 - MOST_TASKS, method="lower")) if len(decided) else 0
    powers = (2**i for i in range(largest.bit_length()))
    return tuple(sorted({*powers, *pass_at, largest} & set(range(1, largest + 1))))


def curves(samples: Samples, split: str, params: EvaluationParams, policies: list[int] | None = None) -> list[Curves]:
    """Curves on the tasks of one split, all environments together. policies: indices into samples.iterations; by default the
    first, the middle and the last.

    Estimates and intervals are those of the metrics pass@k, pass@k_gain, keep@k and explore@k (Chen et al. 2021; DPH-RL,
    arXiv 2509.07430): headline verdict, abstentions left out, tasks with at least k decided samples.
    """
    last = len(samples.iterations) - 1
    chosen = list(dict.fromkeys((0, round(last / 2), last))) if policies is None else policies
    mine, ks = samples.split == split, curve_ks(samples, split, params.pass_at)
    confidence, draws = params.confidence, float(params.samples)
    first_right, first_decided = (values[mine] for values in correct_share(samples, 0))
    found = []
    for policy in chosen:
        right, decided = (values[mine] for values in correct_share(samples, policy))
        passes, gains, kept, explored = [], [], [], []
        for k in ks:
            use = decided >= k
            values = pass_at_k(decided[use], right[use], k)
            passes.append(mean_with_interval(values, confidence, samples=draws) if use.any() else NOTHING)
            if policy > 0:
                both = use & (first_decided >= k)
                before, after = pass_at_k(first_decided[both], first_right[both], k), pass_at_k(decided[both], right[both], k)
                gains.append(paired_difference(before, after, confidence, samples=draws))
                kept.append(keep_at_k(before, after, confidence, samples=draws, k=k))
                explored.append(explore_at_k(before, after, confidence, samples=draws, k=k))
        found.append(Curves(samples.iterations[policy], ks, tuple(passes), tuple(gains), tuple(kept), tuple(explored)))
    return found


def diversity_sentence(found: list[Curves], first: int) -> str:
    """Paired gains of the last policy at the smallest and the largest k, and what they say together; "" for one policy or one k.

    first: iteration of the policy that gains are against.
    """
    last = found[-1]
    if not last.gains or len(last.ks) < 2 or not (last.gains[0].n and last.gains[-1].n):
        return ""
    low, high = last.gains[0], last.gains[-1]
    reads = _READS.get((_sign(low), _sign(high)), "")
    numbers = ", ".join(
        f"pass@{k} {gain.value:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]" for k, gain in ((last.ks[0], low), (last.ks[-1], high))
    )
    return f"Policy {last.iteration} minus policy {first}, paired by task: {numbers}" + (f": {reads}." if reads else ".")


_READS = {
    (1, 1): "it solves more at the first try, and more is within its reach",
    (1, 0): "it solves more at the first try; what is within its reach shows no clear change",
    (1, -1): "it solves more at the first try, and less is within its reach: training has narrowed it",
    (0, -1): "less is within its reach: training has narrowed it",
    (-1, -1): "it solves less at the first try, and less is within its reach",
    (0, 1): "more is within its reach",
}
"""Whether the intervals of the gains at the smallest and the largest k lie above 0, hold it, or lie below."""


def _sign(gain: Estimate) -> int:
    return int(np.sign(gain.value)) if gain.low > 0 or gain.high < 0 else 0
