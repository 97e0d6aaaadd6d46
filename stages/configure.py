"""Resolve params.yaml with its presets, check it, and give every stage its own part."""

from assay.params import load_params, write_stage_views
from assay.params.doubts import parameter_doubts
from stages import CONFIG, stage
from stages.verdict_code import write_verdict_code


def main() -> None:
    params = load_params()
    for doubt in parameter_doubts(params):
        print(f"warning: {doubt}", flush=True)
    write_stage_views(params, CONFIG)
    write_verdict_code(params)


if __name__ == "__main__":
    stage(main)
