"""Judges of appeals behind one interface: another verifier, an endpoint, a model in this process, or the oracle with known errors.

What judges have in common is in `base`; where each runs, and what it costs, is its own affair. A judge that cannot decide abstains.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from assay.isolation import Pool
from assay.params.execution import ExecutionParams
from assay.params.noise import AppealsParams, EndpointJudge, LocalJudge, SimulatedJudge, SymbolicJudge
from assay.params.verification import VerificationParams
from assay.verifiers.judges.base import AppealJudge, Case, Cost

__all__ = ["AppealJudge", "Case", "Cost", "open_judge"]


@contextmanager
def open_judge(
    params: AppealsParams, verification: VerificationParams, execution: ExecutionParams, pool: Pool | None, seed: int
) -> Iterator[AppealJudge]:
    """The judge that `params.judge` names, closed at the end of the block.

    pool: workers for a symbolic judge; None: it has its own. seed: of the run, for the simulated judge's errors. Raises VerifierError
    (a ValueError) for what a person must correct: no address, an address that is none, no such model. An endpoint that is down is no
    such thing: its judge abstains.
    """
    judge = params.judge
    with ExitStack() as held:
        made: AppealJudge
        if isinstance(judge, SymbolicJudge):
            from assay.verifiers.cascade import open_pool
            from assay.verifiers.judges.symbolic import SymbolicAppeals

            workers = pool or held.enter_context(open_pool(verification, execution.verifier_workers, [judge.verifier]))
            made = SymbolicAppeals(judge, workers, verification.max_answer_characters)
        elif isinstance(judge, EndpointJudge):
            from assay.verifiers.judges.endpoint import EndpointAppeals

            made = EndpointAppeals(judge, execution.judge, verification.max_answer_characters)
        elif isinstance(judge, LocalJudge):
            from assay.verifiers.judges.local import LocalAppeals

            made = LocalAppeals(judge, execution, verification.max_answer_characters)
        elif isinstance(judge, SimulatedJudge):
            from assay.verifiers.judges.simulated import SimulatedAppeals

            made = SimulatedAppeals(judge, seed)
        else:
            raise TypeError(f"no judge for parameters of type {type(judge).__name__}")
        held.callback(made.close)
        yield made
