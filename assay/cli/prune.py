"""`assay prune`: give back the disk that a run's earlier policies take."""

import argparse
from pathlib import Path

HELP = (
    "remove policies (and optimizer states) between policy 0 and the last ones, here and in DVC's cache, other commits' too (but the last "
    "of each); the record stays"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--root", type=Path, default=Path(), help="project folder (default: here)")
    parser.add_argument("--keep", type=int, required=True, metavar="N", help="the last N policies of each pipeline stay, and policy 0")
    parser.add_argument("--dry", action="store_true", help="only print what would go")


def run(arguments: argparse.Namespace) -> int:
    from assay.trajectories.prune import prune

    pruned = prune(arguments.root, arguments.keep, arguments.dry)
    if not pruned.policies:
        print("nothing to remove")
        return 0
    said = "would remove" if arguments.dry else "removed"
    print(f"{said} {', '.join(pruned.policies)}: {pruned.size / 2**30:.2f} GiB of DVC's cache")
    if not arguments.dry:
        files = sorted({" fused/dvc.yaml" if path.startswith("models/fused/") else "" for path in pruned.policies})
        commands = " and ".join(f"`dvc repro --allow-missing{file}`" for file in files)
        print(f"go on with {commands}: without that option (`make repro`, say) DVC makes them anew")
    return 0
