"""Estimators with intervals. Tasks are the clusters: samples of one task are correlated, tasks are drawn independently.

Everything here is closed-form arithmetic, so equal inputs give equal bytes. `mean_with_interval` treats a mean of
quantities in [0, 1] as a proportion: a Wilson score interval whose sample size is the *effective* one (value x (1 -
value) over the squared cluster-robust standard error) and whose quantile is Student's. Why this and not a t interval or
a bootstrap: both collapse to zero width when every task fails or every task succeeds, and both under-cover near 0 and
1, which is where a first policy and a last one often are; the score interval with an effective sample size is what
surveys use for clustered proportions (Korn and Graubard 1998, Survey Methodology 24; compared in Franco et al. 2019, J.
Survey Statistics and Methodology 7). tests/evaluation/test_evaluation_estimators.py simulates its coverage.
"""

from collections.abc import Sequence
from math import sqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray

from assay.verifiers.proportions import (
    NOTHING,
    Estimate,
    Values,
    normal_quantile,
    score_interval,
    standard_error,
    student_quantile,
    weighted_share,
    wilson,
)


class EvaluationError(ValueError):
    """Tables or numbers that cannot be evaluated. The message says which, what was expected and what to do."""


def pass_at_k(n: ArrayLike, c: ArrayLike, k: int) -> Values:
    """Unbiased probability that at least one of k samples is correct, from n samples of which c are: 1 - C(n-c, k) /
    C(n, k).

    n and c: integers of any equal (or broadcastable) shape; the result has that shape. Chen et al. 2021, Evaluating
    Large Language Models Trained on Code, section 2.1. Computed as -expm1(sum log1p(-c / (n - i))): no factorials, and
    full relative precision where c / n is tiny. Raises EvaluationError where k < 1, k > n or c is not in [0, n].
    """
    samples, correct = np.broadcast_arrays(np.asarray(n, dtype=np.float64), np.asarray(c, dtype=np.float64))
    if k < 1:
        raise EvaluationError(f"pass@{k}: k must be at least 1")
    if samples.size and samples.min() < k:
        raise EvaluationError(
            f"pass@{k} needs at least {k} samples of each task, found one with {int(samples.min())}; sample more or "
            "use a smaller k"
        )
    if np.any(correct < 0) or np.any(correct > samples):
        raise EvaluationError(f"pass@{k}: the number of correct samples must lie between 0 and the number of samples")
    log_all_wrong = np.zeros(samples.shape)
    with np.errstate(divide="ignore"):  # log1p(-1) = -inf: fewer than k samples are wrong, so one of k is right
        for i in range(k):
            log_all_wrong = log_all_wrong + np.log1p(-np.minimum(correct / (samples - i), 1.0))
    return -np.expm1(log_all_wrong)


def mean_with_interval(
    values: ArrayLike, confidence: float = 0.95, *, samples: float | None = None, bounded: bool = True
) -> Estimate:
    """Mean over tasks and its interval. `values`: one number per task (for example the share of its right samples).

    bounded: the values lie in [0, 1]; the interval is the score interval of the module's docstring. The effective size
    is kept between the number of tasks T (variance of anything in [0, 1] with mean m is at most m (1 - m)) and T x
    `samples` (samples of one task, mean over tasks: a mean of `samples` draws cannot vary less than independent ones
    do). Otherwise: Student's t interval with the standard error of the T values; its ends are nan where T is 1. Raises
    EvaluationError where bounded values leave [0, 1].
    """
    x = np.asarray(values, dtype=np.float64)
    count = len(x)
    if count == 0:
        return NOTHING
    mean = float(x.mean())
    error = standard_error(x)
    quantile = student_quantile(confidence, count - 1)
    if not bounded:
        half = quantile * error
        return Estimate(mean, mean - half, mean + half, count)
    if x.min() < 0 or x.max() > 1:
        raise EvaluationError(f"mean of shares: every value must lie in [0, 1], found {x.min():g} to {x.max():g}")
    spread, effective = mean * (1 - mean), float(count)
    largest = count * max(samples or 1.0, 1.0)
    if count == 1:  # no spread between tasks to estimate
        quantile, effective = normal_quantile(confidence), 1.0
    elif spread > 0:
        effective = min(max(spread / error**2, count), largest) if error > 0 else largest
    low, high = score_interval(mean, effective, quantile)
    return Estimate(mean, low, high, count)


def ratio_with_interval(numerators: ArrayLike, denominators: ArrayLike, confidence: float = 0.95) -> Estimate:
    """Sum of numerators over sum of denominators, one pair per task (nats and tokens, for example), with a t interval.

    The standard error is that of the linearised ratio, tasks being clusters (Cochran 1977, Sampling Techniques, 6.3).
    """
    top, bottom = np.asarray(numerators, dtype=np.float64), np.asarray(denominators, dtype=np.float64)
    count = len(top)
    if count == 0 or bottom.sum() <= 0:
        return NOTHING
    ratio = float(top.sum() / bottom.sum())
    half = student_quantile(confidence, count - 1) * standard_error((top - ratio * bottom) / bottom.mean())
    return Estimate(ratio, ratio - half, ratio + half, count)


def paired_difference(
    before: ArrayLike, after: ArrayLike, confidence: float = 0.95, *, samples: float | None = None
) -> Estimate:
    """Mean of after - before over the same tasks, both in [0, 1] and aligned by task.

    The two score intervals are combined with the correlation of the two columns (method 10 of Newcombe 1998, Statistics
    in Medicine 17, 2635; MOVER of Zou and Donner 2008), so that the difference, too, has an honest width where both sit
    at 0 or 1.
    """
    x, y = np.asarray(before, dtype=np.float64), np.asarray(after, dtype=np.float64)
    if x.shape != y.shape:
        raise EvaluationError(f"paired difference: {x.size} tasks before and {y.size} after; pair them by task first")
    if len(x) == 0:
        return NOTHING
    a, b = (mean_with_interval(side, confidence, samples=samples) for side in (x, y))
    correlation = pearson(x, y)
    difference = b.value - a.value

    def reach(one: float, other: float) -> float:
        return sqrt(max(one**2 - 2 * correlation * one * other + other**2, 0.0))

    low = difference - reach(b.value - b.low, a.high - a.value)
    high = difference + reach(b.high - b.value, a.value - a.low)
    return Estimate(difference, max(low, -1.0), min(high, 1.0), len(x))


def keep_rate(
    base_solved: Sequence[bool] | NDArray[np.bool_],
    solved: Sequence[bool] | NDArray[np.bool_],
    confidence: float = 0.95,
) -> Estimate:
    """Share of the tasks that the base policy solves which the policy still solves: |base and policy| / |base|.

    One flag per task, solved = at least one of a fixed number of samples is right. n counts the tasks that the base
    solves. Defined for DPH-RL; the interval is Wilson's. NOTHING where the base solves none.
    """
    base, now = _flags(base_solved, solved)
    return wilson(int((base & now).sum()), int(base.sum()), confidence)


def explore_rate(
    base_solved: Sequence[bool] | NDArray[np.bool_],
    solved: Sequence[bool] | NDArray[np.bool_],
    confidence: float = 0.95,
) -> Estimate:
    """Share of the tasks that the base policy does not solve which the policy solves: |policy without base| / |not
    base|.
    """
    base, now = _flags(base_solved, solved)
    return wilson(int((~base & now).sum()), int((~base).sum()), confidence)


def keep_at_k(
    base_pass: ArrayLike, policy_pass: ArrayLike, confidence: float = 0.95, *, samples: float | None = None, k: int = 1
) -> Estimate:
    """`keep_rate` where each policy has k tries: sum(base x policy) / sum(base), of pass@k of each task by either.

    The two policies draw apart, so that of a task, which the base solves within k tries with probability a and the
    policy with b, a share a is to be kept and a x b is kept: nothing has to be drawn, k may be smaller than the number
    of samples, and at k = all samples it is `keep_rate`. The interval: as in `mean_with_interval`, with the tasks
    weighted by a; `samples` of each task, of which `k` make one set of tries, count as samples / k sets. n: tasks of
    which the base solves any. NOTHING where it solves none.
    """
    return weighted_share(*_pair(base_pass, policy_pass), confidence, (samples or 1.0) / k)


def explore_at_k(
    base_pass: ArrayLike, policy_pass: ArrayLike, confidence: float = 0.95, *, samples: float | None = None, k: int = 1
) -> Estimate:
    """`explore_rate` where each policy has k tries: sum((1 - base) x policy) / sum(1 - base); see `keep_at_k`."""
    base, policy = _pair(base_pass, policy_pass)
    return weighted_share(1 - base, policy, confidence, (samples or 1.0) / k)


def again_at_k(
    n: ArrayLike, c: ArrayLike, k: int, confidence: float = 0.95, *, samples: float | None = None
) -> tuple[Estimate, Estimate]:
    """`keep_at_k` and `explore_at_k` of a policy against itself, by two sets of k tries that share none: what chance alone keeps and
    finds, beside which those of another policy are read.

    n and c: samples of each task and how many are right, n >= 2 k. Both sets succeed with probability 2 pass@k - pass@2k,
    as one of two fails only with pass@2k - pass@k.
    """
    once, twice = pass_at_k(n, c, k), pass_at_k(n, c, 2 * k)
    with np.errstate(divide="ignore", invalid="ignore"):
        both = np.where(once > 0, np.clip((2 * once - twice) / once, 0, 1), 0.0)
        second = np.where(once < 1, np.clip((twice - once) / (1 - once), 0, 1), 0.0)
    pairs = (samples or 1.0) / (2 * k)
    return weighted_share(once, both, confidence, pairs), weighted_share(1 - once, second, confidence, pairs)


def _pair(base_pass: ArrayLike, policy_pass: ArrayLike) -> tuple[Values, Values]:
    base, policy = np.asarray(base_pass, dtype=np.float64), np.asarray(policy_pass, dtype=np.float64)
    if base.shape != policy.shape:
        raise EvaluationError(
            f"keep and explore rates compare the same tasks: {base.size} of the base, {policy.size} of the policy"
        )
    return base, policy


def _flags(base_solved: ArrayLike, solved: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    base, now = np.asarray(base_solved, dtype=bool), np.asarray(solved, dtype=bool)
    if base.shape != now.shape:
        raise EvaluationError(
            f"keep and explore rates compare the same tasks: {base.size} of the base, {now.size} of the policy"
        )
    return base, now


def pearson(x: Values, y: Values) -> float:
    """Correlation of two columns; 0 where one does not vary."""
    dx, dy = x - x.mean(), y - y.mean()
    scale = sqrt(float(dx @ dx) * float(dy @ dy))
    return float(dx @ dy) / scale if scale > 0 else 0.0
