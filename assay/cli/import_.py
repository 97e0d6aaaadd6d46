"""`assay import`: foreign rollouts into the record."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HELP = "read rollouts of another tool (JSON lines: prompt, completion, gold), to be verified and queried"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from assay.cli.sql import add_warehouse_arguments

    optional = "prompt_ids, completion_ids, logprobs, reward, finish_reason, environment, split, verifier, meta"
    parser.add_argument("file", type=Path, help=f"JSON lines: prompt, completion(s), gold; optional: {optional}")
    parser.add_argument("--name", required=True, help="the rollouts become version imported/NAME")
    parser.add_argument("--columns", nargs="+", default=[], metavar="KEY=OTHER", help="keys named otherwise in the file")
    parser.add_argument("--environment", help="of rows that do not say (default: NAME)")
    parser.add_argument("--split", default="eval", choices=("train", "eval", "ood"), help="of rows that do not say")
    parser.add_argument("--verifier", default="math_verify", help="of rows that do not say (default: math_verify)")
    parser.add_argument("--replace", action="store_true", help="in place of an import of this name")
    add_warehouse_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    from assay.cli.sql import catch_up
    from assay.trajectories.importers import ImportFailure, import_rollouts
    from assay.verifiers import VERIFIERS

    columns = {}
    for pair in arguments.columns:
        key, _, other = pair.partition("=")
        if not other:
            raise ImportFailure(f"--columns {pair}: expected KEY=OTHER, e.g. gold=answer")
        columns[key] = other
    counts = import_rollouts(
        arguments.file, arguments.name, arguments.root, make_task, columns=columns, environment=arguments.environment,
        split=arguments.split, verifier=arguments.verifier, replace=arguments.replace,
        verifiers=(*VERIFIERS, *_functions(arguments.root)),
    )  # fmt: skip
    version = f"imported/{arguments.name}"
    print(f"{version}: " + ", ".join(f"{count:,} {table}" for table, count in counts.items()))
    catch_up(arguments)
    print(f"judge with: assay verify {version}")
    print(f'ask with: assay sql --version {version} "SELECT count(*) FROM trajectories"')
    return 0


def make_task(environment: str, split: str, prompt: Any, gold: str, verifier: str, meta: Any) -> Mapping[str, Any]:
    """Row of `tasks`, as the environments make it: the same question gets the same id."""
    from assay.environments import Task

    return Task.create(environment, split, prompt, gold, verifier, meta=meta).to_row()


def _functions(root: Path) -> list[str]:
    """Names of the user's functions, which a task may name as its verifier; none without parameters that can be read, for an import needs
    none."""
    from assay.params import ParameterError, load_params

    try:
        return list(load_params(root).verification.functions)
    except ParameterError:
        return []
