"""`assay plan`: what a run will sample, train and store, and about how long it takes, before anything runs."""

import argparse
from pathlib import Path

from assay.params import load_params
from assay.rounds.plan import estimate_run, format_estimate

HELP = "print rows, tokens, disk, minutes and appeals of the run that params.yaml describes; runs nothing"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--root", type=Path, default=Path(), help="project folder (default: here)")
    parser.add_argument("--fused", action="store_true", help="of the fused pipeline")


def run(arguments: argparse.Namespace) -> int:
    params = load_params(arguments.root)
    print(format_estimate(estimate_run(params, arguments.root, fused=arguments.fused)))
    return 0
