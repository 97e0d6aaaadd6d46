"""`assay export`: the record in another tool's layout, or a policy with its card."""

import argparse
from pathlib import Path

HELP = "write a version's rollouts or tasks in the layout of TRL, verl or Hugging Face datasets, or a policy with its model card"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from assay.cli.sql import add_warehouse_arguments
    from assay.trajectories.exporters import LAYOUTS

    meaning = "; ".join(f"{name}: {text}" for name, text in LAYOUTS.items())
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--layout", choices=tuple(LAYOUTS), help=meaning)
    what.add_argument("--policy", type=int, metavar="K", help="models/K/policy with its model card as README.md, for a hub or a server")
    parser.add_argument("--output", type=Path, required=True, help="folder that is made")
    parser.add_argument("--fused", action="store_true", help="the policy of the fused pipeline")
    parser.add_argument("--version", help="version, branch, tag, commit or imported/NAME (default: current); of rows")
    parser.add_argument("--where", metavar="SQL",
                        help="rows to take, e.g. \"t.kind = 'solution' AND r.verdict = 'correct'\" (t: trajectories, "
                        "k: tasks; trl also r: verdicts of the rule, b: batches; verl: columns of tasks)")  # fmt: skip
    add_warehouse_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    from assay.cli.sql import catch_up
    from assay.trajectories.exporters import ExportError, export

    if arguments.policy is not None:
        from assay.evaluation.publishing import export_policy

        if arguments.version is not None or arguments.where is not None:
            raise ExportError("--version and --where choose rows; a policy is that of the workspace (`git checkout`, `dvc checkout`)")
        export_policy(arguments.policy, arguments.output, arguments.root, fused=arguments.fused)
        print(f"{arguments.output}: policy {arguments.policy}, with its card as README.md")
        return 0
    if arguments.fused:
        raise ExportError("--fused chooses the policy of the fused pipeline; rows of it are those of --version fused/NAME")
    catch_up(arguments)
    counts = export(
        arguments.layout, arguments.output, arguments.root, version=arguments.version, where=arguments.where or "true"
    )
    for name, count in counts.items():
        print(f"{arguments.output / name}: {count:,} rows")
    return 0
