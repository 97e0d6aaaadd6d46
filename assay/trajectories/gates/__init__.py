"""Gates: Great Expectations suites over the record. Data that fails one stops the pipeline before training."""

from assay.trajectories.gates.gate import GateError, GateResult, Limits, Outcome, run_gate
from assay.trajectories.gates.suites import GATES

__all__ = ["GATES", "GateError", "GateResult", "Limits", "Outcome", "run_gate"]
