"""Verifiers: three-valued verdicts on answers, and how wrong the verifiers themselves are.

Names are imported when they are first used: worker processes import this package too, and must not wait for Arrow and pydantic.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from assay.verifiers.appeal_rows import estimate_appeals
    from assay.verifiers.appeals_estimator import AppealsEstimator
    from assay.verifiers.channel import Channel
    from assay.verifiers.extract import answer_format, extract_answer
    from assay.verifiers.judge import Judge, check_gold, is_correct
    from assay.verifiers.judges import open_judge
    from assay.verifiers.noise import Confusion, estimate_noise
    from assay.verifiers.noise_state import NoiseState
    from assay.verifiers.observation import observe
    from assay.verifiers.spec import VERIFIERS, VerifierSpec, judge_one
    from assay.verifiers.verdicts import REASONS, Finding, Verdict, VerifierError
    from assay.verifiers.verify import pool_for, verify_trajectories

__all__ = [
    "REASONS",
    "VERIFIERS",
    "AppealsEstimator",
    "Channel",
    "Confusion",
    "Finding",
    "Judge",
    "NoiseState",
    "Verdict",
    "VerifierError",
    "VerifierSpec",
    "answer_format",
    "check_gold",
    "estimate_appeals",
    "estimate_noise",
    "extract_answer",
    "is_correct",
    "judge_one",
    "observe",
    "open_judge",
    "pool_for",
    "verify_trajectories",
]

_MODULES = {
    "appeal_rows": ("estimate_appeals",),
    "appeals_estimator": ("AppealsEstimator",),
    "channel": ("Channel",),
    "extract": ("answer_format", "extract_answer"),
    "judge": ("Judge", "check_gold", "is_correct"),
    "judges": ("open_judge",),
    "noise_state": ("NoiseState",),
    "observation": ("observe",),
    "noise": ("Confusion", "estimate_noise"),
    "spec": ("VERIFIERS", "VerifierSpec", "judge_one"),
    "verdicts": ("REASONS", "Finding", "Verdict", "VerifierError"),
    "verify": ("pool_for", "verify_trajectories"),
}
_HOMES = {name: f"{__name__}.{module}" for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
