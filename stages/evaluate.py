"""Metrics with intervals, plots, report and cards. Arithmetic over stored, verified trajectories: no model is loaded."""

from pathlib import Path

from assay.engines import load_renderer
from assay.evaluation import evaluate_run
from assay.rounds import read_record
from stages import stage, stage_params


def main() -> None:
    params = stage_params("evaluate")
    renderer = load_renderer(Path("models/0/policy"), params.policy)  # the tokenizer alone, to show prompts as the policy reads them
    print(evaluate_run(read_record(Path("data"), len(params.iterations)), params, Path("data/evaluate"), renderer=renderer))


if __name__ == "__main__":
    stage(main)
