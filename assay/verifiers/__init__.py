"""Verifiers: three-valued verdicts on answers, and how wrong the verifiers themselves are.

Names are imported when they are first used: worker processes import this package too, and must not wait for Arrow and pydantic.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from assay.verifiers.extract import answer_format, extract_answer
    from assay.verifiers.judge import Judge, check_gold, is_correct
    from assay.verifiers.noise import Confusion, estimate_noise, wilson
    from assay.verifiers.spec import VERIFIERS, VerifierSpec, judge_one
    from assay.verifiers.verdicts import REASONS, Finding, Verdict, VerifierError
    from assay.verifiers.verify import pool_for, verify_trajectories

__all__ = [
    "REASONS",
    "VERIFIERS",
    "Confusion",
    "Finding",
    "Judge",
    "Verdict",
    "VerifierError",
    "VerifierSpec",
    "answer_format",
    "check_gold",
    "estimate_noise",
    "extract_answer",
    "is_correct",
    "judge_one",
    "pool_for",
    "verify_trajectories",
    "wilson",
]

_MODULES = {
    "extract": ("answer_format", "extract_answer"),
    "judge": ("Judge", "check_gold", "is_correct"),
    "noise": ("Confusion", "estimate_noise", "wilson"),
    "spec": ("VERIFIERS", "VerifierSpec", "judge_one"),
    "verdicts": ("REASONS", "Finding", "Verdict", "VerifierError"),
    "verify": ("pool_for", "verify_trajectories"),
}
_HOMES = {name: f"{__name__}.{module}" for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
