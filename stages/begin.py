"""Policy 0 of the fused pipeline: a copy of the one that both share, where DVC can name it beside those that follow."""

import shutil
from pathlib import Path

from assay.rounds import scratch_folder
from assay.trajectories import publish_folder
from assay.verifiers import NoiseState
from assay.verifiers.noise_state import FILE
from stages import SCRATCH, noise_folder, policy_folder, stage


def main() -> None:
    source = Path("models/0")
    with scratch_folder(SCRATCH, "begin", [source]) as scratch:
        shutil.copytree(source, scratch / "model", dirs_exist_ok=True)
        publish_folder(scratch / "model", policy_folder(0))
    NoiseState().write(noise_folder(0) / FILE)


if __name__ == "__main__":
    stage(main)
