"""What policy 0 can do already: answers to every train task, and the division of tasks that DPH-RL makes from them."""

from pathlib import Path

from assay.params import load_execution
from assay.rounds import presample, scratch_folder
from stages import CONFIG, PRESAMPLE, SCRATCH, TASKS, stage, stage_params


def main() -> None:
    params, policy, tasks = stage_params("presample"), Path("models/0/policy"), TASKS / "tasks.parquet"
    with scratch_folder(SCRATCH, "presample", [CONFIG / "presample.json", tasks, policy]) as scratch:
        presample(params, tasks, policy, PRESAMPLE, scratch, load_execution(), Path("data/gates/presample"))


if __name__ == "__main__":
    stage(main)
