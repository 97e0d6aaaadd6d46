"""Verdicts over the trajectories of iteration k, appeals, and the estimate of the rule's noise."""

from pathlib import Path

from assay.environments import tasks_from_table
from assay.params import load_execution
from assay.rounds import describe, open_bench, verify
from assay.trajectories import read_table, write_shard
from assay.verifiers import NoiseState
from assay.verifiers.columns import VERIFIED_COLUMNS
from assay.verifiers.noise_state import FILE
from stages import TASKS, iteration_argument, noise_folder, stage, stage_params


def main() -> None:
    k = iteration_argument()
    out = Path(f"data/verify/{k}")
    tasks = tasks_from_table(read_table("tasks", TASKS / "tasks.parquet"))
    rollout = Path(f"data/rollout/{k}")
    trajectories = read_table("trajectories", rollout, columns=VERIFIED_COLUMNS)
    states, turns, calls = (read_table(name, rollout) for name in ("states", "turns", "tool_calls"))
    params, execution = stage_params("verify"), load_execution()
    with open_bench(tasks, params, execution) as bench:
        state = NoiseState.read(noise_folder(k) / FILE)
        done = verify(tasks, trajectories, params, execution, bench, state, states=states, turns=turns, tool_calls=calls)
    write_shard(out / "verdicts.parquet", "verdicts", done.verdicts)
    write_shard(out / "steps.parquet", "steps", done.steps)
    write_shard(out / "noise_estimates.parquet", "noise_estimates", done.noise_estimates)
    done.state.write(noise_folder(k + 1) / FILE)
    print(describe(done.verdicts, done.noise_estimates))


if __name__ == "__main__":
    stage(main)
