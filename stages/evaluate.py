"""Metrics with intervals, plots, report and cards. Arithmetic over stored, verified trajectories: no model is loaded."""

from pathlib import Path

from assay.evaluation import evaluate_run
from assay.rounds import read_record
from stages import stage, stage_params


def main() -> None:
    params = stage_params("evaluate")
    print(evaluate_run(read_record(Path("data"), len(params.iterations)), params, Path("data/evaluate")))


if __name__ == "__main__":
    stage(main)
