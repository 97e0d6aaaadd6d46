"""Sample and verify the last policy on held-out tasks; a gate stops the pipeline before its report."""

from assay.params import load_execution, with_abstain_limit
from assay.rounds import finish, scratch_folder
from stages import CONFIG, SCRATCH, TASKS, data_folder, iteration_argument, policy_folder, stage, stage_code, stage_name, stage_params


def main() -> None:
    n, data = iteration_argument(), data_folder()
    params, policy, tasks = with_abstain_limit(stage_params("finish")), policy_folder(n) / "policy", TASKS / "tasks.parquet"
    with scratch_folder(SCRATCH, stage_name(), [CONFIG / "finish.json", tasks, policy], stage_code()) as scratch:
        finish(params, n, tasks, policy, data / "finish", scratch, load_execution(), data / "gates/finish")


if __name__ == "__main__":
    stage(main)
