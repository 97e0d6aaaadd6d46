"""`assay sync`: bring the warehouse up to date."""

import argparse
import sys
from pathlib import Path

HELP = "bring the warehouse, data/trajectories.duckdb, up to date with commits, experiments and imports"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--root", type=Path, default=Path(), help="project folder (default: here)")
    parser.add_argument("--quiet", action="store_true", help="print warnings only")


def run(arguments: argparse.Namespace) -> int:
    from assay.trajectories.warehouse_sync import sync

    report = sync(arguments.root, progress=progress())
    if report.needs_attention or not arguments.quiet:
        print(report)
    return 0


def progress():
    """Shows what is read, on one line of a terminal; nothing elsewhere."""
    if not sys.stderr.isatty():
        return None

    def show(line: str) -> None:
        print(f"\r\033[K{line[:100]}", end="\r", file=sys.stderr, flush=True)

    return show
