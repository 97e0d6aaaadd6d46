"""Verifiers: three-valued verdicts on answers, and how wrong the verifiers themselves are."""

from assay.verifiers.cascade import judge_one
from assay.verifiers.extract import answer_format, extract_answer
from assay.verifiers.judge import Judge, check_gold, is_correct
from assay.verifiers.noise import Confusion, estimate_noise, wilson
from assay.verifiers.spec import VERIFIERS, VerifierSpec
from assay.verifiers.verdicts import REASONS, Finding, Verdict, VerifierError
from assay.verifiers.verify import verify_trajectories

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
    "verify_trajectories",
    "wilson",
]
