"""Iteration k of the fused pipeline: many rounds of sampling, verifying and updating in one process."""

from pathlib import Path

from assay.params import load_execution, with_abstain_limit
from assay.rounds import scratch_folder
from assay.rounds.journal import Journal
from assay.rounds.round_report import live_watch
from assay.rounds.train import Places, train
from assay.verifiers.noise_state import FILE
from stages import (
    CONFIG,
    PRESAMPLE,
    SCRATCH,
    TASKS,
    data_folder,
    iteration_argument,
    noise_folder,
    policy_folder,
    stage,
    stage_code,
    stage_name,
    stage_params,
)


def main() -> None:
    k = iteration_argument()
    params, tasks, data = with_abstain_limit(stage_params("train")), TASKS / "tasks.parquet", data_folder()
    model, reference = policy_folder(k), Path("models/0/policy")
    inputs = [CONFIG / "train.json", PRESAMPLE, tasks, model, reference, noise_folder(k)]
    with scratch_folder(SCRATCH, stage_name(), inputs, stage_code()) as scratch:
        places = Places(
            tasks, model, reference, data / "train" / str(k), policy_folder(k + 1), scratch, data / "gates" / str(k),
            noise_folder(k) / FILE, noise_folder(k + 1) / FILE, PRESAMPLE,
        )  # fmt: skip
        done = Journal(scratch).completed()
        if done:
            print(f"going on after round {done} of {params.fused.rounds}", flush=True)
        watch = live_watch(data / "dvclive" / str(k), done, lambda line: print(line, flush=True))
        train(params, k, places, load_execution(), watch)


if __name__ == "__main__":
    stage(main)
