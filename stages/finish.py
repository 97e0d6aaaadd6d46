"""Sample and verify the last policy on held-out tasks."""

from pathlib import Path

from assay.params import load_execution
from assay.rounds import describe, open_sampler, sample, scratch_folder, verify
from assay.trajectories import read_table, write_shard
from stages import CONFIG, SCRATCH, TASKS, iteration_argument, stage, stage_params


def main() -> None:
    n = iteration_argument()
    out, params, policy, tasks = Path("data/finish"), stage_params("finish"), Path(f"models/{n}/policy"), TASKS / "tasks.parquet"
    with scratch_folder(SCRATCH, "finish", [CONFIG / "finish.json", tasks, policy]) as scratch:
        execution = load_execution()
        with open_sampler(params, policy, execution) as sampler:
            sample(sampler, tasks, params, n, ("evaluation",), out, scratch)
        trajectories = read_table("trajectories", out)
        verdicts, estimates = verify(read_table("tasks", tasks), trajectories, params, execution.verifier_workers)
        write_shard(out / "verdicts.parquet", "verdicts", verdicts)
        write_shard(out / "noise_estimates.parquet", "noise_estimates", estimates)
        print(describe(verdicts, estimates))


if __name__ == "__main__":
    stage(main)
