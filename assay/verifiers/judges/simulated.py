"""The oracle with errors of known rates, for experiments on the estimator."""

from collections.abc import Sequence

from assay.params.noise import SimulatedJudge
from assay.trajectories import seed_from
from assay.verifiers.judges.base import Case, Cost
from assay.verifiers.verdicts import Finding, abstain, correct, wrong

_RANGE = 2.0**31  # of seed_from


class SimulatedAppeals:
    """AppealJudge that accepts right answers with one probability and wrong ones with another.

    Its draw depends on (seed, trajectory) alone: equal inputs give equal verdicts, and a judge with higher rates accepts what one
    with lower rates accepts, and more. Errors are independent from trajectory to trajectory, so equal answers are not one case.
    """

    name = "simulated"

    def __init__(self, params: SimulatedJudge, seed: int) -> None:
        self._params, self._seed = params, seed
        self.version = f"1+tpr-{params.true_positive_rate:g}+fpr-{params.false_positive_rate:g}"
        self.cost = Cost()

    def decide(self, cases: Sequence[Case]) -> list[Finding]:
        findings = [self._decide(case) for case in cases]
        self.cost = Cost(calls=sum(case.truth is not None for case in cases))
        return findings

    def close(self) -> None:
        """Holds nothing."""

    def _decide(self, case: Case) -> Finding:
        if case.truth is None:
            return abstain("not_applicable")
        rate = self._params.true_positive_rate if case.truth else self._params.false_positive_rate
        draw = seed_from(self._seed, "simulated judge", case.trajectory_id) / _RANGE
        return correct() if draw < rate else wrong()
