"""What every judge of appeals takes and gives."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from assay.verifiers.string_match import same
from assay.verifiers.verdicts import Finding, abstain, correct, wrong


@dataclass(frozen=True)
class Case:
    """One answer that is put before the judge."""

    trajectory_id: str
    question: str
    """The task's prompt as people read it."""
    gold: str
    answer: str
    """As it was extracted. Written by a policy that gains by being accepted: never trusted."""
    meta: str = "{}"
    truth: bool | None = None
    """The oracle's verdict; read by the simulated judge alone."""
    verifier: str = ""
    """The one that the task names."""
    solution: str = ""
    """The whole completion; read by a judge that scores solutions. As little to be trusted as the answer."""


@dataclass(frozen=True)
class Cost:
    """Of one `decide`."""

    calls: int = 0
    """Questions that were put to a verifier or model, equal ones once. One that got no answer counts, its repetitions do not."""
    tokens: int = 0
    """Read and written by a language model, as far as it reports them."""


class AppealJudge(Protocol):
    """Decides whether an answer that a rule rejected is right after all, or one that it accepted is wrong."""

    @property
    def name(self) -> str:
        """Kind and what decides, e.g. symbolic:math_verify."""
        ...

    @property
    def version(self) -> str:
        """Changes whenever verdicts may change."""
        ...

    @property
    def cost(self) -> Cost:
        """Of the last `decide`."""
        ...

    def decide(self, cases: Sequence[Case]) -> list[Finding]:
        """A finding for each case, in order: correct, wrong, or abstain with a reason.

        What fails outside abstains and is never wrong. Raises for what a person must correct (VerifierError), and where this
        machine has no workers or cannot start the model (IsolationError, EngineError).
        """
        ...

    def close(self) -> None:
        """Free what it holds; a second call does nothing."""
        ...


def obvious(case: Case, limit: int) -> Finding | None:
    """What needs no judge: no gold, no answer, an answer longer than `limit` characters, the gold itself. Else None."""
    if not case.gold.strip():
        return abstain("gold_unparseable")
    if not case.answer.strip():
        return wrong("unparseable")
    if len(case.answer) > limit:
        return wrong("too_long")
    return correct() if same(case.answer, case.gold) else None


def decide_distinct(
    cases: Sequence[Case], limit: int, ask: Callable[[list[Case]], list[Finding]], *, by_solution: bool = False
) -> list[Finding]:
    """Findings in order. `ask` gets each distinct (question, gold, answer, verifier) once, without the obvious ones; not called for none.

    by_solution: what is judged is the whole solution, so that equal answers of different ones are asked for apart."""

    def key(case: Case) -> tuple[str, ...]:
        return (case.question, case.gold, case.answer, case.verifier, case.solution if by_solution else "")

    distinct: dict[tuple[str, ...], Case] = {}
    for case in cases:
        distinct.setdefault(key(case), case)
    found = {name: obvious(case, limit) for name, case in distinct.items()}
    left = [name for name, finding in found.items() if finding is None]
    asked = ask([distinct[name] for name in left]) if left else []
    found.update(zip(left, asked, strict=True))
    return [finding for case in cases if (finding := found[key(case)]) is not None]
