"""Intervals of a critic's measures, with tasks as clusters: critiques of one task's solutions are correlated.

Rates here are pooled over critiques, unlike those of `estimators`, which are means over tasks: a task may have no right solution, and so no
say in the recall. The interval is the same score interval with an effective sample size, taken from the linearised ratio (Cochran 1977,
Sampling Techniques, 6.3); that of balanced accuracy combines both rates' intervals with their correlation over tasks (MOVER, Zou and
Donner 2008).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from assay.evaluation.estimators import EvaluationError, pearson
from assay.rewards.critiques import THREE_LEVEL, Levels
from assay.rewards.self_verification_metrics import verification_metrics
from assay.verifiers.proportions import NOTHING, Estimate, Values, clustered_wilson


@dataclass(frozen=True)
class VerificationEstimates:
    """What `verification_metrics` says, pooled over critiques, and its interval over tasks; n counts the tasks that it rests on."""

    exact_accuracy: Estimate
    binary_accuracy: Estimate
    recall: Estimate
    """Of right solutions, called right; a critique without a score does not call it so."""
    specificity: Estimate
    """Of other solutions, not called right."""
    balanced_accuracy: Estimate
    majority_accuracy: float | None
    """Of a judge that looks at nothing, to be shown beside the others."""


def verification_estimates(
    predicted: Sequence[float | None],
    truth: Sequence[float],
    tasks: Sequence[str],
    levels: Levels = THREE_LEVEL,
    confidence: float = 0.95,
) -> VerificationEstimates:
    """Measures of critiques with intervals.

    predicted, truth: as verification_metrics, which says what is refused; tasks: the task of each row. A rate of which no row tells is
    NOTHING, and so is balanced accuracy then. Raises EvaluationError where the number of tasks differs from that of the rows.
    """
    metrics = verification_metrics(predicted, truth, levels)
    if len(tasks) != len(truth):
        raise EvaluationError(f"{len(truth)} critiques but {len(tasks)} tasks: give the task of each critique")
    right = np.array([level == levels.right for level in truth], dtype=bool)
    called = np.array([guess == levels.right for guess in predicted], dtype=bool)
    exact = np.array([guess == level for guess, level in zip(predicted, truth, strict=True)], dtype=bool)
    cluster = np.unique(np.asarray(tasks, dtype=str), return_inverse=True)[1].reshape(-1)
    everywhere = np.ones(len(right), dtype=bool)
    recall, recall_parts = _pooled(called, right, cluster, confidence)
    specificity, specificity_parts = _pooled(~called, ~right, cluster, confidence)
    return VerificationEstimates(
        exact_accuracy=_pooled(exact, everywhere, cluster, confidence)[0],
        binary_accuracy=_pooled(called == right, everywhere, cluster, confidence)[0],
        recall=recall,
        specificity=specificity,
        balanced_accuracy=_mean_of_two(recall, specificity, pearson(recall_parts, specificity_parts) if len(right) else 0.0),
        majority_accuracy=metrics.majority_accuracy,
    )


def pooled_share(hits: NDArray[np.bool_], cluster: NDArray[np.intp], confidence: float = 0.95) -> Estimate:
    """Share of hits among rows, with its interval over the clusters that they belong to. cluster: (rows,) from 0."""
    return _pooled(hits, np.ones(len(hits), dtype=bool), cluster, confidence)[0]


def _pooled(hits: NDArray[np.bool_], chosen: NDArray[np.bool_], cluster: NDArray[np.intp], confidence: float) -> tuple[Estimate, Values]:
    """Share of hits among the chosen rows, and each task's part in its error (0 for a task without chosen rows)."""
    clusters = int(cluster.max()) + 1 if len(cluster) else 0
    size = np.bincount(cluster, weights=chosen, minlength=clusters)
    top = np.bincount(cluster, weights=hits & chosen, minlength=clusters)
    if not size.any():
        return NOTHING, np.zeros(clusters)
    found = clustered_wilson(top, size, confidence)
    return found, (top - found.value * size) / size[size > 0].mean()


def _mean_of_two(a: Estimate, b: Estimate, correlation: float) -> Estimate:
    if not a.n or not b.n:
        return NOTHING

    def reach(one: float, other: float) -> float:
        return sqrt(max(one**2 + 2 * correlation * one * other + other**2, 0.0)) / 2

    value = (a.value + b.value) / 2
    low = value - reach(a.value - a.low, b.value - b.low)
    high = value + reach(a.high - a.value, b.high - b.value)
    return Estimate(value, max(low, 0.0), min(high, 1.0), min(a.n, b.n))
