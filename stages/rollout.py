"""Everything that is sampled from policy k, in one engine session: training groups and held-out evaluation samples."""

from pathlib import Path

from assay.params import load_execution
from assay.rollouts.explore import tasks_to_explore
from assay.rounds import open_sampler, plan_samples, sample, scratch_folder
from stages import CONFIG, PRESAMPLE, SCRATCH, TASKS, iteration_argument, stage, stage_code, stage_params
from stages.verdict_code import read_verdict_code


def main() -> None:
    k = iteration_argument()
    params, policy, tasks = stage_params("rollout"), Path(f"models/{k}/policy"), TASKS / "tasks.parquet"
    explore = tasks_to_explore(PRESAMPLE)
    plan = plan_samples(tasks, params, k, ("solution", "evaluation"), explore)
    execution = load_execution()
    inputs = [CONFIG / "rollout.json", PRESAMPLE / "splits.parquet", tasks, policy]
    with scratch_folder(SCRATCH, f"rollout-{k}", inputs, stage_code() | read_verdict_code()) as scratch:
        with open_sampler(params, policy, execution, plan) as sampler:
            sample(sampler, plan, params, tasks, Path(f"data/rollout/{k}"), scratch, execution.verifier_workers)


if __name__ == "__main__":
    stage(main)
