"""`assay sync`: bring the warehouse up to date."""

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

HELP = "bring the warehouse, data/trajectories.duckdb, up to date with commits, experiments and imports"

CLEAR = "\r\033[K"
"""Back to the start of the line, and empty it."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--root", type=Path, default=Path(), help="project folder (default: here)")
    parser.add_argument("--quiet", action="store_true", help="print warnings only")
    parser.add_argument("--strict", action="store_true", help="end with 1 where another process holds the warehouse and nothing was added")
    parser.add_argument("--forget", nargs="+", default=[], metavar="NAME", action="extend",
                        help="then remove runs that were never committed: workspace~1, workspace-HASH, 'workspace-*' (all)")  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    from assay.trajectories.warehouse_sync import sync

    with progress() as show:
        report = sync(arguments.root, progress=show)
    if report.needs_attention or not arguments.quiet:
        print(report)
    if arguments.forget:
        from assay.trajectories.past_runs import forget

        print(f"forgotten: {', '.join(forget(arguments.root, arguments.forget))}")
    return int(arguments.strict and report.busy is not None)


@contextmanager
def progress() -> Iterator[Callable[[str], None] | None]:
    """Shows what is read, on one line of a terminal which is empty again at the end; nothing elsewhere."""
    if not sys.stderr.isatty():
        yield None
        return
    shown = False

    def show(line: str) -> None:
        nonlocal shown
        shown = True
        print(f"{CLEAR}{line[:100]}", end="\r", file=sys.stderr, flush=True)

    try:
        yield show
    finally:
        if shown:
            print(CLEAR, end="", file=sys.stderr, flush=True)
