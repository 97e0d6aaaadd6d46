"""The policy before policy 0, trained on plain texts; nothing where that is left out."""

from assay.rounds import pretrained_policy, scratch_folder
from stages import CONFIG, PRETRAINED, SCRATCH, TASKS, stage, stage_code, stage_params


def main() -> None:
    with scratch_folder(SCRATCH, "pretrain", [CONFIG / "pretrain.json", TASKS], stage_code()) as scratch:
        pretrained_policy(stage_params("pretrain"), TASKS, PRETRAINED, scratch)


if __name__ == "__main__":
    stage(main)
