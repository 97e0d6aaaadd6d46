"""What policy 0 can do already: answers to every train task, and the division of tasks that DPH-RL makes from them."""

from pathlib import Path

from assay.params import load_execution, with_abstain_limit
from assay.rounds import presample, scratch_folder
from assay.rounds.presample import sampling_key
from stages import PRESAMPLE, SCRATCH, TASKS, stage, stage_code, stage_params


def main() -> None:
    params, policy, tasks = with_abstain_limit(stage_params("presample")), Path("models/0/policy"), TASKS / "tasks.parquet"
    # Answers depend on less than the division does: a run that stopped for want of near-perfect tasks keeps them.
    sampled = SCRATCH / "presample-sampling.json"
    sampled.parent.mkdir(parents=True, exist_ok=True)
    sampled.write_text(sampling_key(params), encoding="utf-8")
    with scratch_folder(SCRATCH, "presample", [sampled, tasks, policy], stage_code()) as scratch:
        presample(params, tasks, policy, PRESAMPLE, scratch, load_execution(), Path("data/gates/presample"))


if __name__ == "__main__":
    stage(main)
