"""`assay rebuild`: make the warehouse again from the shards."""

import argparse
import sys
from pathlib import Path

from assay.cli.sync import progress

HELP = "make the warehouse again from the shards in DVC's cache"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--root", type=Path, default=Path(), help="project folder (default: here)")


def run(arguments: argparse.Namespace) -> int:
    from assay.trajectories.warehouse_sync import rebuild

    with progress() as show:
        report, lost = rebuild(arguments.root, show)
    print(report)
    if lost:
        shown = ", ".join(lost[:5]) + (" ..." if lost[5:] else "")
        print(f"note: not all shards of {len(lost)} versions ({shown}) can be found any more; the old file has them")
    if report.kept is not None:
        print(f"note: the old file is kept as {report.kept}")
    for fault in report.corrupted:
        print(f"error: {fault}", file=sys.stderr)
    return 1 if report.corrupted else 0
