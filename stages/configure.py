"""Resolve params.yaml with its presets, check it, and give every stage its own part."""

from assay.params import load_params, write_stage_views
from stages import CONFIG, stage


def main() -> None:
    write_stage_views(load_params(), CONFIG)


if __name__ == "__main__":
    stage(main)
