"""Everything that the stage `evaluate` does, as one call."""

from pathlib import Path

from assay.evaluation.cards import write_cards
from assay.evaluation.console import console_summary
from assay.evaluation.evaluate import evaluate
from assay.evaluation.metrics import write_evaluation
from assay.evaluation.overthinking import prompts_open
from assay.evaluation.record import RunRecord
from assay.evaluation.report import write_report
from assay.evaluation.selection import Renderer
from assay.params import Params
from assay.trajectories import write_shard


def evaluate_run(
    record: RunRecord, params: Params, out: Path, report: Path | None = None, renderer: Renderer | None = None
) -> str:
    """Write evaluations.parquet, metrics.json, plots/*.csv, cards/*.md and the report below `out`; return a summary.

    report: another file for the report than out/report.html. renderer: of assay.engines.rendering; with it the report
    shows rendered prompts and colours tokens. The summary is for a terminal: pass@1 and the largest pass@k of every
    policy with intervals, and where the report is. Nothing is written before the tables have been checked.
    Raises EvaluationError, ShardError.
    """
    report = report or out / "report.html"
    opened = renderer is not None and prompts_open(record.tasks, renderer)
    evaluations = evaluate(
        record.tasks, record.trajectories, record.verdicts, params.evaluation, params.self_verification,
        opened_by_prompt=opened, samples=record.samples,
    )  # fmt: skip
    write_shard(out / "evaluations.parquet", "evaluations", evaluations)
    write_evaluation(out, evaluations, record.updates, record.noise_estimates)
    write_cards(out / "cards", record, evaluations, params)
    write_report(report, record, evaluations, params, renderer)
    return console_summary(evaluations, str(report), params.evaluation.confidence)
