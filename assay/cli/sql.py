"""`assay sql`: questions to the warehouse, one at a time or at a prompt."""

import argparse
import shutil
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TextIO

HELP = "ask the warehouse in SQL (docs/sql.md has a cookbook); without a statement: a prompt, or statements from a pipe"
FORMATS = ("table", "csv", "json", "parquet")
ROWS = 40
"""Rows that a table shows unless told otherwise."""
PROMPT, CONTINUED = "assay> ", "   ... "
PROMPT_HELP = """A statement ends with a semicolon and may take several lines.
.tables          tables, views and macros
.schema [TABLE]  columns and what they mean
.versions        versions and other names for them
.quit            leave (or Ctrl-D)"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("statement", nargs="?", help="SQL; `-` or nothing reads from a pipe")
    parser.add_argument("--format", choices=FORMATS, default="table", help="of the answer (default: table)")
    parser.add_argument("--output", type=Path, help="file for the answer; needed for parquet")
    parser.add_argument("--version", help="version, branch, tag or commit that the views show (default: current)")
    parser.add_argument("--rows", type=row_count, default=ROWS, help=f"rows that a table shows; 0: all (default: {ROWS})")
    parser.add_argument("--wide", action="store_true", help="columns of a table at full width")
    add_warehouse_arguments(parser)


def add_warehouse_arguments(parser: argparse.ArgumentParser) -> None:
    """Of the verbs that bring the warehouse up to date on the way, with `catch_up`."""
    parser.add_argument("--no-sync", action="store_true", help="leave the warehouse as it is")
    parser.add_argument("--root", type=Path, default=Path(), help="project folder (default: here)")


def row_count(text: str) -> int:
    """A number of rows, from 0 upwards."""
    count = int(text) if text.isascii() and text.isdigit() else -1
    if count < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of rows; give 0 (all) or more")
    return count


def run(arguments: argparse.Namespace) -> int:
    from assay.trajectories.warehouse_query import QueryError

    if arguments.format == "parquet" and arguments.output is None:
        raise QueryError("--format parquet needs --output FILE")
    catch_up(arguments)
    if arguments.statement not in (None, "-"):
        answer(arguments.statement, arguments)
    elif sys.stdin.isatty():
        prompt(arguments)
    else:
        answer(sys.stdin.read(), arguments)
    return 0


def catch_up(arguments: argparse.Namespace) -> None:
    """Sync, unless --no-sync; where that fails, an older warehouse still answers."""
    if arguments.no_sync:
        return
    root = arguments.root
    from assay.cli.sync import progress
    from assay.trajectories.pipelines import PipelineError
    from assay.trajectories.shards import ShardError
    from assay.trajectories.warehouse import WAREHOUSE, WarehouseError
    from assay.trajectories.warehouse_sync import sync

    try:
        with progress() as show:
            report = sync(root, progress=show)
    except (PipelineError, ShardError, WarehouseError) as error:
        if not (root / WAREHOUSE).exists():
            raise
        print(f"warning: not brought up to date: {error}", file=sys.stderr)
        return
    if report.shards or report.needs_attention:
        print(report, file=sys.stderr)


def answer(statement: str, arguments: argparse.Namespace) -> None:
    """Ask, and write each answer where it is wanted: to the terminal one below the other, to a file only one."""
    from assay.trajectories import answers
    from assay.trajectories.warehouse_query import EMPTY, QueryError, stream_each

    count = 0

    def consume(reader) -> None:
        nonlocal count
        count += 1
        if target is None:
            if count > 1 and arguments.format != "json":
                print()
            write(reader, sys.stdout, arguments)
            return
        if count > 1:
            raise QueryError("--output holds one answer, the statements give more; ask for them one at a time")
        if arguments.format == "parquet":
            answers.write_parquet(reader, target)
            return
        with target.open("w", encoding="utf-8", newline="") as out:
            write(reader, out, arguments)

    def warn(text: str) -> None:
        # Otherwise the sync before the question has said it, but for where there are trajectories.
        if arguments.no_sync or text.startswith(EMPTY):
            print(f"warning: {text}", file=sys.stderr)

    with nullcontext(None) if arguments.output is None else answers.whole_file(arguments.output) as target:
        stream_each(statement, arguments.root, consume, version=arguments.version, warn=warn)
        if arguments.output is not None and not count:
            raise QueryError("no statement gives an answer that could be written to --output")


def write(reader, out: TextIO, arguments: argparse.Namespace) -> None:
    """One answer as CSV, JSON or a table."""
    from assay.trajectories import answers

    if arguments.format == "csv":
        answers.write_csv(reader, out)
    elif arguments.format == "json":
        answers.write_json(reader, out)
    else:
        width = None if arguments.wide else shutil.get_terminal_size((120, 40)).columns
        answers.write_text(reader, out, width=width, limit=arguments.rows or None)


def prompt(arguments: argparse.Namespace) -> None:
    """Read statements and commands until the end. A mistake is said, and the prompt goes on."""
    import readline

    from assay.trajectories.answers import AnswerError
    from assay.trajectories.warehouse import WarehouseError
    from assay.trajectories.warehouse_query import QueryError

    history = arguments.root / ".assay" / "sql_history"
    history.parent.mkdir(exist_ok=True)
    if history.exists():
        readline.read_history_file(history)
    readline.set_history_length(1000)
    print("Statements end with a semicolon; .help lists the commands.")
    pending: list[str] = []
    while True:
        try:
            line = input(CONTINUED if pending else PROMPT)
        except KeyboardInterrupt:
            print()
            pending = []
            continue
        except EOFError:
            print()
            break
        if not pending and line.strip().startswith("."):
            if line.split()[0] in (".quit", ".exit"):
                break
            line = command(line.split())
            if not line:
                continue
        if pending or line.strip():
            pending.append(line)
        if not line.rstrip().endswith(";"):
            continue
        statement, pending = "\n".join(pending), []
        try:
            answer(statement, arguments)
        except (AnswerError, QueryError, WarehouseError) as error:
            print(f"error: {error}")
        except KeyboardInterrupt:
            print("interrupted")
    readline.write_history_file(history)


def command(words: list[str]) -> str:
    """What a dot command asks, as SQL; "" where it has been answered."""
    from assay.trajectories.documentation import describe
    from assay.trajectories.schemas import TABLES

    if words[0] == ".tables":
        return (
            "SELECT table_name AS name, 'table' AS kind FROM duckdb_tables() WHERE schema_name = 'main' UNION "
            "SELECT view_name, 'view' FROM duckdb_views() WHERE NOT internal UNION "
            "SELECT function_name || '(' || array_to_string(parameters, ', ') || ')', 'macro' FROM duckdb_functions() "
            "WHERE function_type LIKE '%macro' AND NOT internal ORDER BY kind DESC, name;"
        )
    if words[0] == ".versions":
        return "SELECT name, kind, version FROM version_names ORDER BY version, kind DESC, name;"
    if words[0] == ".schema":
        known = [name for name in words[1:] if name in TABLES] if words[1:] else list(TABLES)
        for name in known:
            print(describe(TABLES[name]))
        unknown = [name for name in words[1:] if name not in TABLES]
        return f"DESCRIBE {unknown[0]};" if unknown else ""
    print(PROMPT_HELP)
    return ""
