"""`assay rebuild`: make the warehouse again from the shards."""

import argparse
from pathlib import Path

from assay.cli.sync import progress

HELP = "make the warehouse again from the shards in DVC's cache"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--root", type=Path, default=Path(), help="project folder (default: here)")


def run(arguments: argparse.Namespace) -> int:
    from assay.trajectories.warehouse_sync import rebuild

    report, lost = rebuild(arguments.root, progress())
    print(report)
    if lost:
        shown = ", ".join(lost[:5]) + (" ..." if lost[5:] else "")
        print(f"note: DVC's cache no longer has all shards of {len(lost)} versions ({shown}); the old file, which has")
        print("them, is kept as data/trajectories.previous.duckdb")
    return 0
