"""`assay show`: the result of the last run, as a table, and where the report is."""

import argparse
from pathlib import Path

HELP = "print pass@k per iteration with intervals, and where the report is"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--root", type=Path, default=Path(), help="project folder (default: here)")
    parser.add_argument("--fused", action="store_true", help="of the fused pipeline")


def run(arguments: argparse.Namespace) -> int:
    from assay.evaluation import EvaluationError, console_summary
    from assay.trajectories import read_table

    folder = arguments.root / "data" / ("fused/evaluate" if arguments.fused else "evaluate")
    if not (folder / "evaluations.parquet").is_file():
        raise EvaluationError(f"{folder}: no evaluation yet; run `dvc repro{' fused/dvc.yaml' if arguments.fused else ''}`")
    print(console_summary(read_table("evaluations", folder / "evaluations.parquet")))
    print(f"report: {folder / 'report.html'}")
    return 0
