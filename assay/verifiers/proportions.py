"""Intervals of proportions: Wilson's, and the same with the effective number of trials where trials come in clusters.

Samples of one task are right, or wrongly rejected, together; tasks are drawn independently. So tasks are the clusters, as in
evaluation/estimators.py, which says why the score interval. Pure: equal counts give equal bytes.
"""

from dataclasses import dataclass
from math import nan, sqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A value with its interval, resting on n tasks (or rows, where a function says so). All nan where n is 0."""

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]" if self.n else "no data"


NOTHING = Estimate(nan, nan, nan, 0)


def wilson(successes: float, n: float, confidence: float = 0.95) -> Estimate:
    """Wilson score interval of a binomial proportion (Wilson 1927), of independent trials. NOTHING where n is 0."""
    if n <= 0:
        return NOTHING
    low, high = score_interval(successes / n, n, normal_quantile(confidence))
    return Estimate(successes / n, low, high, int(n))


def clustered_wilson(successes: ArrayLike, trials: ArrayLike, confidence: float = 0.95) -> Estimate:
    """Sum of successes over sum of trials, (tasks,) each, with Wilson's interval for the effective number of trials.

    That number is the trials over the design effect of the ratio (Cochran 1977, Sampling Techniques, 6.3; Korn and Graubard 1998), and at
    most the trials themselves. n: tasks with any trial. NOTHING without.
    """
    top, bottom = np.asarray(successes, dtype=np.float64), np.asarray(trials, dtype=np.float64)
    top, bottom = top[bottom > 0], bottom[bottom > 0]
    if not len(bottom):
        return NOTHING
    return weighted_share(bottom, top / bottom, confidence, float(bottom @ bottom / bottom.sum()))


def weighted_share(weights: Values, shares: Values, confidence: float, sets: float) -> Estimate:
    """Weighted mean of shares with a score interval; its effective size comes from the linearised ratio (Cochran 1977,
    6.3).

    Few tasks may bear nearly all the weight, and the residuals of those alone tell the error: Kish's number of them,
    (sum w)^2 / sum w^2, gives Student's degrees of freedom (at least 1), and the effective size is at most Kish's times
    `sets` (at least 1), as many as n samples of a task make of k without sharing any: the mean over all sets of k varies
    at most k / n as much as one of them (Hoeffding 1948, theorem 5.2), and no more certainty than that is claimed.
    Simulated, 95 % intervals of explore@k hold the truth in 91 to 99 % (with all tasks as degrees of freedom, and samples
    for sets, in 58 to 96 %).
    """
    total, count = float(weights.sum()), int((weights > 0).sum())
    if total <= 0:
        return NOTHING
    value = min(float(weights @ shares / total), 1.0)
    kish = total**2 / float(weights @ weights)
    error = standard_error(weights * (shares - value)) * len(weights) / total
    spread = value * (1 - value)
    if count == 1:
        quantile, effective = normal_quantile(confidence), 1.0
    else:
        quantile, largest = student_quantile(confidence, max(kish - 1, 1.0)), kish * max(sets, 1.0)
        effective = kish if spread <= 0 else min(max(spread / error**2, 1.0), largest) if error > 0 else largest
    low, high = score_interval(value, effective, quantile)
    return Estimate(value, low, high, count)


def score_interval(value: float, n: float, quantile: float) -> tuple[float, float]:
    """Roots of (value - p)^2 = quantile^2 p (1 - p) / n."""
    square = quantile**2 / n
    centre = (value + square / 2) / (1 + square)
    half = sqrt(square * value * (1 - value) + square**2 / 4) / (1 + square)
    # At 0 and 1 the root is exact; rounding must not move it.
    return (0.0 if value <= 0 else max(centre - half, 0.0)), (1.0 if value >= 1 else min(centre + half, 1.0))


def standard_error(x: Values) -> float:
    """Of the mean; nan of fewer than two values."""
    return float(x.std(ddof=1) / sqrt(len(x))) if len(x) > 1 else nan


def normal_quantile(confidence: float) -> float:
    """Standard deviations to either side that hold `confidence`."""
    from scipy.special import ndtri

    return float(ndtri((1 + confidence) / 2))


def student_quantile(confidence: float, degrees: float) -> float:
    """`normal_quantile` of Student's t; nan without degrees of freedom."""
    from scipy.special import stdtrit

    return float(stdtrit(degrees, (1 + confidence) / 2)) if degrees > 0 else nan
