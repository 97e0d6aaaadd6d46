"""What solutions say of checking themselves (RISE, B1.6 of the methods), with intervals: keywords, not what a check is worth.

Of policies that judge their evaluation samples. Over the samples that the headline verifier decided, pooled as in the paper; tasks are the
clusters of the intervals.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from assay.evaluation.estimators import NOTHING, Estimate, ratio_with_interval
from assay.evaluation.samples import CORRECT, WRONG, Samples
from assay.evaluation.self_verification import pooled_share
from assay.rewards.self_verification_metrics import reflections, verifies


@dataclass(frozen=True)
class Keywords:
    """Of every evaluation sample, (rows,) each."""

    verifies: NDArray[np.bool_]
    reflections: NDArray[np.int64]


def keywords(samples: Samples) -> Keywords:
    """Every text is read once, though metrics are asked for by environment and over all."""
    texts = samples.rows["text"].to_pylist()
    return Keywords(
        np.array([verifies(text) for text in texts], dtype=bool), np.array([reflections(text) for text in texts], dtype=np.int64)
    )


def behaviour_metrics(
    samples: Samples, policy: int, chosen: NDArray[np.bool_], words: Keywords, confidence: float
) -> Iterator[tuple[str, Estimate]]:
    """Of one policy on the chosen tasks. policy: index into samples.iterations; chosen: (tasks,)."""
    decided = (samples.headline == CORRECT) | (samples.headline == WRONG)
    own = np.flatnonzero((samples.policy == policy) & chosen[samples.task] & decided)
    right = samples.headline[own] == CORRECT
    task = np.unique(samples.task[own], return_inverse=True)[1].reshape(-1)
    marked = words.verifies[own]
    telling = np.unique(task[marked], return_inverse=True)[1].reshape(-1)
    if not len(own):
        return
    yield "verification_frequency", pooled_share(marked, task, confidence)
    yield "self_verified_accuracy", pooled_share(right[marked], telling, confidence) if marked.any() else NOTHING
    yield "reflection_rate", ratio_with_interval(np.bincount(task, weights=words.reflections[own]), np.bincount(task), confidence)
