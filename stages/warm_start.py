"""Policy 0: trained on demonstrations, from scratch or after pre-training, or taken from `policy.base`."""

from pathlib import Path

from assay.rounds import first_policy, scratch_folder
from assay.verifiers import NoiseState
from assay.verifiers.noise_state import FILE
from stages import CONFIG, PRETRAINED, SCRATCH, TASKS, stage, stage_code, stage_params


def main() -> None:
    inputs = [CONFIG / "warm_start.json", TASKS, PRETRAINED]
    with scratch_folder(SCRATCH, "warm_start", inputs, stage_code()) as scratch:
        first_policy(stage_params("warm_start"), TASKS, Path("models/0"), scratch, PRETRAINED)
    NoiseState().write(Path("data/noise/0") / FILE)  # nothing is known of any verifier yet


if __name__ == "__main__":
    stage(main)
