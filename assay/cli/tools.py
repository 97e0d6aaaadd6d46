"""`assay tools`: environments with tools in the layouts of others, and a look at a file of them."""

import argparse
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from assay.environments.tools.record import ToolEnvironment

HELP = "write generated tasks with tools as published records or chats, or check a file of such records"
FORMATS = {
    "records": "FTRL's layout (.jsonl, .parquet), which environments.NAME.path reads again",
    "openai": "messages and tools of chat completions (.jsonl)",
    "trl": "prompt and tools of a conversational data set, tools as JSON text (.jsonl)",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--root", type=Path, default=Path(), help="project folder (default: here)")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    text = "write the tasks with tools that `generate` made into one file"
    export = actions.add_parser("export", help=text, description=text)
    export.add_argument("--format", choices=tuple(FORMATS), required=True, help="; ".join(f"{k}: {v}" for k, v in FORMATS.items()))
    export.add_argument("--output", type=Path, required=True, metavar="FILE", help="file that is made")
    export.add_argument("--split", choices=("train", "eval", "ood"), help="of the tasks (default: all)")
    export.add_argument("--environment", metavar="NAME", help="of the tasks (default: all that have tools)")
    text = "read a file of published records as environments.NAME.path does, and say what is in it and what is wrong with it"
    check = actions.add_parser("check", help=text, description=text)
    check.add_argument("file", type=Path, help="records in FTRL's layout (.jsonl, .parquet); relative to the project folder")
    for action in (export, check):  # before or after the action; what is not given here is not to undo what is given there
        action.add_argument("--root", type=Path, default=argparse.SUPPRESS, help="project folder (default: here)")


def run(arguments: argparse.Namespace) -> int:
    return run_check(arguments) if arguments.action == "check" else run_export(arguments)


def run_export(arguments: argparse.Namespace) -> int:
    from assay.environments import tasks_from_table
    from assay.environments.tools.record import ToolError
    from assay.environments.tools.tasks import from_task
    from assay.params.tools import TOOL_USE
    from assay.trajectories import read_table

    out, file = arguments.output, arguments.root / "data" / "tasks" / "tasks.parquet"
    if out.exists():
        raise ToolError(f"{out} exists already; choose another --output, or remove it")
    if not file.is_file():
        raise ToolError(f"{file}: there are no tasks yet; run `dvc repro generate`")
    tasks = [task for task in tasks_from_table(read_table("tasks", file)).values() if task.verifier == TOOL_USE]
    if not tasks:
        raise ToolError(f"{file}: none of the tasks has tools; choose `environment: tools` in params.yaml, or another preset that has them")
    asked = {"environment": arguments.environment, "split": arguments.split}
    wanted = [task for task in tasks if all(value in (None, getattr(task, name)) for name, value in asked.items())]
    if not wanted:
        said = ", ".join(f"--{name} {value}" for name, value in asked.items() if value is not None)
        known = sorted({f"{task.environment}/{task.split}" for task in tasks})
        raise ToolError(f"{file}: no task with tools fits {said}; there are {', '.join(known)}")
    _writer(arguments.format)(out, [from_task(task) for task in wanted])
    print(f"{out}: {len(wanted):,} environments")
    return 0


def _writer(name: str) -> Callable[[Path, list["ToolEnvironment"]], None]:
    from json import dumps

    from assay.environments.tools.export import to_openai, to_trl
    from assay.environments.tools.interchange import write, write_lines
    from assay.environments.tools.record import ToolError

    def chats(out: Path, environments: Iterable["ToolEnvironment"]) -> None:
        if out.suffix != ".jsonl":
            raise ToolError(f"--output {out}: the format {name} is written as JSON lines: name a file that ends in .jsonl")
        rows: Iterable[dict[str, Any]] = map(to_openai, environments)
        if name == "trl":  # as text: a data set would give each tool the parameters of all others
            rows = (row | {"tools": dumps(row["tools"], ensure_ascii=False)} for row in map(to_trl, environments))
        write_lines(out, rows)

    return write if name == "records" else chats


def run_check(arguments: argparse.Namespace) -> int:
    from collections import Counter

    from assay.environments.tools.interchange import read_placed
    from assay.environments.tools.published import unsound_sources
    from assay.environments.tools.record import ToolError
    from assay.environments.tools.statistics import measure, table

    file = arguments.root / arguments.file
    placed = read_placed(file)
    environments = [environment for _, environment in placed]
    if not environments:
        raise ToolError(f"{file} has no records")
    counts = Counter(environment.split for environment in environments)
    print(f"{file}: {len(environments):,} records ({', '.join(f'{split}: {count:,}' for split, count in sorted(counts.items()))})")
    for problem in unsound_sources(placed):
        print(f"warning: {problem}: every call of it fails")
    print(table(measure(environments)))
    return 0
