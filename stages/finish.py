"""Sample and verify the last policy on held-out tasks."""


from assay.environments import tasks_from_table
from assay.params import load_execution
from assay.rounds import describe, open_bench, open_sampler, plan_samples, sample_into, scratch_folder, verify
from assay.trajectories import publish_folder, read_table, write_shard
from assay.verifiers import NoiseState
from stages import CONFIG, SCRATCH, TASKS, data_folder, iteration_argument, policy_folder, stage, stage_code, stage_name, stage_params


def main() -> None:
    n = iteration_argument()
    params, policy, tasks = stage_params("finish"), policy_folder(n) / "policy", TASKS / "tasks.parquet"
    plan, execution = plan_samples(tasks, params, n, ("evaluation",)), load_execution()
    with scratch_folder(SCRATCH, stage_name(), [CONFIG / "finish.json", tasks, policy], stage_code()) as scratch:
        draft = scratch / "draft"
        known = tasks_from_table(read_table("tasks", tasks))
        with open_sampler(params, policy, execution, plan) as sampler:
            sample_into(sampler, plan, params, draft, known, execution.verifier_workers)
        trajectories, turns, calls = (read_table(name, draft) for name in ("trajectories", "turns", "tool_calls"))
        with open_bench(known, params, execution, appeals=False) as bench:
            done = verify(known, trajectories, params, execution, bench, NoiseState(), turns=turns, tool_calls=calls)
        write_shard(draft / "verdicts.parquet", "verdicts", done.verdicts)
        write_shard(draft / "noise_estimates.parquet", "noise_estimates", done.noise_estimates)
        publish_folder(draft, data_folder() / "finish")
        print(describe(done.verdicts, done.noise_estimates))


if __name__ == "__main__":
    stage(main)
