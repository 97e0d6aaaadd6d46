"""`assay export`: the record in another tool's layout."""

import argparse
from pathlib import Path

HELP = "write a version's rollouts or tasks in the layout of TRL, verl or Hugging Face datasets"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from assay.cli.sql import add_warehouse_arguments
    from assay.trajectories.exporters import LAYOUTS

    meaning = "; ".join(f"{name}: {text}" for name, text in LAYOUTS.items())
    parser.add_argument("--layout", choices=tuple(LAYOUTS), required=True, help=meaning)
    parser.add_argument("--output", type=Path, required=True, help="folder that is made")
    parser.add_argument("--version", help="version, branch, tag, commit or imported/NAME (default: current)")
    parser.add_argument("--where", default="true", metavar="SQL",
                        help="rows to take, e.g. \"t.kind = 'solution' AND r.verdict = 'correct'\" (t: trajectories, "
                        "k: tasks; trl also r: verdicts of the rule, b: batches; verl: columns of tasks)")  # fmt: skip
    add_warehouse_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    from assay.cli.sql import catch_up
    from assay.trajectories.exporters import export

    catch_up(arguments)
    counts = export(
        arguments.layout, arguments.output, arguments.root, version=arguments.version, where=arguments.where
    )
    for name, count in counts.items():
        print(f"{arguments.output / name}: {count:,} rows")
    return 0
