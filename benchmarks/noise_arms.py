"""What the arms of benchmarks/noise_bandit.py make of a batch of verdicts: oracle and noise, corrections, and appeals.

Appeals go before a judge with errors that the estimator knows; upheld answers are rewarded (recovered), as in conf/method/appeals.yaml
and appeals_forward.yaml. `appeals` asks about every refused answer and takes the z-score; `appeals + forward` asks about a tenth, estimates
the false-negative rate from the answers, averages it over updates and takes the forward weights at the rate that recovery leaves. Its
matched control is `appeals + direct`: equal rewards, no correction.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from assay.objectives.advantages import group_zscore
from assay.objectives.corrections import backward_advantages, direct, forward_advantages, leave_one_out_control
from assay.verifiers.appeals_estimator import JudgeErrors, horvitz_thompson

JUDGE = JudgeErrors(true_positive=0.95, false_positive=0.05)
PROBABILITY = 0.1
"""q: of a refused answer to be appealed, where not all are (B.9)."""
DECAY = 0.9
"""Of the average over updates (B.9: lambda)."""
PSEUDO = 1e-5
"""Pseudo-counts alpha and beta (B.9)."""
MINIMUM_JUDGED, MINIMUM_RIGHT = 2, 1
"""Fewer in an update move no average. The pipeline's 20 and 8 are for rounds of about 1,000 answers; of the 32 and 128 answers here a tenth
is never 20, so that hardly any estimate would begin and `appeals + forward` would be `appeals + direct`."""


@dataclass(frozen=True)
class Batch:
    """Answers of one update of one arm, for all pairs of rates and seeds side by side: (rows,) each."""

    clean: np.ndarray
    """1.0 where right."""
    seen: np.ndarray
    """1.0 where the noisy rule accepts."""
    groups: np.ndarray
    fpr: np.ndarray
    fnr: np.ndarray
    asked: np.ndarray
    """Uniform that decides whether a refused answer is appealed: common to all arms, as is the next."""
    judged: np.ndarray
    """Uniform that decides the judge's error."""
    runs: int
    """Pairs of rates x seeds: rows are (runs, groups, group) flattened."""


Arm = Callable[[Batch], np.ndarray]


@dataclass(frozen=True)
class Recovered:
    """A batch after appeals; (rows,) each."""

    rewards: np.ndarray
    appealed: np.ndarray
    upheld: np.ndarray


def recover(batch: Batch, probability: float, judge: JudgeErrors = JUDGE) -> Recovered:
    """Each refused answer goes before the judge with this probability; what he accepts is rewarded."""
    appealed = (batch.seen == 0) & (batch.asked < probability)
    upheld = appealed & (batch.judged < np.where(batch.clean == 1, judge.true_positive, judge.false_positive))
    return Recovered(np.where(upheld, 1.0, batch.seen), appealed, upheld)


@dataclass
class AppealsForward:
    """Forward weights at the estimated rate of the noise that recovery leaves; one training run's state."""

    probability: float = PROBABILITY
    judge: JudgeErrors = JUDGE
    minimum_judged: int = MINIMUM_JUDGED
    minimum_right: int = MINIMUM_RIGHT
    rate: np.ndarray = field(default_factory=lambda: np.zeros(0))
    """(runs,) false-negative rate of the rule, averaged over updates; nan before the first estimate."""

    def __call__(self, batch: Batch) -> np.ndarray:
        after = recover(batch, self.probability, self.judge)
        found, enough = self.estimate(batch, after)
        before = np.full(batch.runs, np.nan) if not self.rate.size else self.rate
        moved = np.where(np.isnan(before), found, DECAY * before + (1 - DECAY) * found)
        self.rate = np.where(enough, moved, before)
        # Before any estimate: the control's advantage, as in assay/training/corrected.py.
        rate = np.repeat(self.rate, len(batch.seen) // batch.runs)
        left = np.nan_to_num(rate) * (1 - self.probability * self.judge.true_positive)
        return np.where(np.isnan(rate), direct(after.rewards), forward_advantages(after.rewards, left))

    def estimate(self, batch: Batch, after: Recovered) -> tuple[np.ndarray, np.ndarray]:
        """(runs,) the rate in this batch, and whether it rests on enough to move the average (_enough in assay/verifiers/appeal_rows.py).

        AppealsEstimator.estimate_batches without the posterior, which is for intervals: false positives assumed at their true rate.
        Rates are averaged, as in the pipeline when docs/claims/noise_bandit.md was measured; where a judge errs it now averages counts."""
        shape = (batch.runs, -1)
        accepted, appealed, upheld = (values.reshape(shape).sum(1) for values in (batch.seen, after.appealed, after.upheld))
        refused = len(batch.seen) // batch.runs - accepted
        missed = np.clip(horvitz_thompson(upheld, appealed, np.zeros_like(appealed), np.asarray(self.probability), self.judge), 0, refused)
        fpr = batch.fpr.reshape(shape)[:, 0]
        passed = np.minimum((refused - missed) * fpr / (1 - fpr), accepted)
        right = missed + accepted - passed
        enough = ((appealed == refused) | (appealed >= self.minimum_judged)) & (right >= self.minimum_right)
        return (missed + PSEUDO) / (right + 2 * PSEUDO), enough


STATELESS: dict[str, Arm] = {
    "oracle, z-score": lambda batch: group_zscore(batch.clean, batch.groups),
    "oracle, leave-one-out": lambda batch: leave_one_out_control(batch.clean, batch.groups),
    "noise, z-score": lambda batch: group_zscore(batch.seen, batch.groups),
    "noise, leave-one-out": lambda batch: leave_one_out_control(batch.seen, batch.groups),
    "noise, direct": lambda batch: direct(batch.seen),
    "backward": lambda batch: backward_advantages(batch.seen, batch.groups, batch.fpr, batch.fnr),
    "forward": lambda batch: forward_advantages(batch.seen, batch.fnr),
    "forward, scale c": lambda batch: forward_advantages(batch.seen, batch.fnr, fpr=batch.fpr, scale="determinant"),
    "appeals": lambda batch: group_zscore(recover(batch, 1.0).rewards, batch.groups),
    "appeals, q = 0.1": lambda batch: group_zscore(recover(batch, PROBABILITY).rewards, batch.groups),
    "appeals + direct": lambda batch: direct(recover(batch, PROBABILITY).rewards),
}
NAMES = (*STATELESS, "appeals + forward")


def arms() -> dict[str, Arm]:
    """By name, in the order of NAMES, for one training run: the last one carries its estimates from update to update."""
    return STATELESS | {NAMES[-1]: AppealsForward()}
