"""Metrics with intervals, plots, report and cards. Arithmetic over stored, verified trajectories: no model is loaded."""

from pathlib import Path

from assay.engines import load_renderer
from assay.evaluation import evaluate_run
from assay.rounds import FUSED, STAGED, read_record
from stages import PRESAMPLE, TASKS, data_folder, is_fused, stage, stage_params


def main() -> None:
    params, data = stage_params("evaluate"), data_folder()
    renderer = load_renderer(Path("models/0/policy"), params.policy)  # the tokenizer alone, to show prompts as the policy reads them
    record = read_record(TASKS / "tasks.parquet", data, FUSED if is_fused() else STAGED, len(params.iterations), PRESAMPLE)
    print(evaluate_run(record, params, data / "evaluate", renderer=renderer))


if __name__ == "__main__":
    stage(main)
