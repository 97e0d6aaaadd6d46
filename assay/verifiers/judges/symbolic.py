"""Another verifier as the judge: string match, then its quick step here, then its slow step in the pool."""

from collections.abc import Sequence

from assay.isolation import Pool
from assay.params.noise import SymbolicJudge
from assay.verifiers.cascade import as_not_applicable, ask, settle
from assay.verifiers.judges.base import Case, Cost, decide_distinct
from assay.verifiers.spec import fits, spec_of
from assay.verifiers.verdicts import Finding, abstain

REVISION = "2"


class SymbolicAppeals:
    """AppealJudge over the cascade. The pool is the caller's."""

    def __init__(self, params: SymbolicJudge, pool: Pool, limit: int) -> None:
        """limit: characters of the longest answer that is read."""
        self._verifier, self._pool, self._limit = params.verifier, pool, limit
        self.name = f"symbolic:{params.verifier}"
        self.version = f"{REVISION}:{spec_of('string_match').version}:{spec_of(params.verifier).version}"
        self.cost = Cost()

    def decide(self, cases: Sequence[Case]) -> list[Finding]:
        self.cost = Cost()
        return decide_distinct(cases, self._limit, self._settle)

    def close(self) -> None:
        """Holds nothing of its own."""

    def _settle(self, cases: list[Case]) -> list[Finding]:
        questions = [
            ask(self._verifier, case.answer, case.gold, case.meta) if fits(self._verifier, case.verifier) else None for case in cases
        ]
        found = settle([question for question in questions if question is not None], self._pool, self._limit)
        self.cost = Cost(calls=len(found))
        # The task did not choose this verifier: a gold that it cannot read is not the gold's fault.
        return [abstain("not_applicable") if question is None else as_not_applicable(found[question]) for question in questions]
