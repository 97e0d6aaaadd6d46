"""Evaluation: estimators with intervals, metrics, one self-contained report, cards. Arithmetic over stored rows; no
model is loaded.
"""

from assay.evaluation.cards import dataset_card, model_card, write_cards
from assay.evaluation.console import console_summary
from assay.evaluation.estimators import (
    Estimate,
    EvaluationError,
    again_at_k,
    explore_at_k,
    explore_rate,
    keep_at_k,
    keep_rate,
    mean_with_interval,
    paired_difference,
    pass_at_k,
    ratio_with_interval,
    wilson,
)
from assay.evaluation.evaluate import evaluate
from assay.evaluation.metrics import write_evaluation
from assay.evaluation.record import RunRecord
from assay.evaluation.report import write_report
from assay.evaluation.run import evaluate_run

__all__ = [
    "Estimate",
    "EvaluationError",
    "RunRecord",
    "again_at_k",
    "console_summary",
    "dataset_card",
    "evaluate",
    "evaluate_run",
    "explore_at_k",
    "explore_rate",
    "keep_at_k",
    "keep_rate",
    "mean_with_interval",
    "model_card",
    "paired_difference",
    "pass_at_k",
    "ratio_with_interval",
    "wilson",
    "write_cards",
    "write_evaluation",
    "write_report",
]
