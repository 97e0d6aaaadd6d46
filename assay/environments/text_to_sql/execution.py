"""Executing one query within limits, in a process that may be lost: processor time, memory, rows.

The limits are part of the task, so that a verdict is a function of answer and task: processor time, which does not depend on how busy
the machine is, and not the clock. What escapes them (a single call that cannot be interrupted, a crash) ends with the worker process.
"""

import resource
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from assay.environments.text_to_sql.databases import Source, connect
from assay.environments.text_to_sql.statements import Refused, read
from assay.isolation.worker import MIB, address_space

LOOK = 0.02
"""Seconds between two looks at the processor time."""
BESIDE_MIB = 64
"""Address space for what DuckDB allocates beside what it counts, and for the rows in Python."""


@dataclass(frozen=True)
class Limits:
    """What one query may take."""

    seconds: float
    """Of processor time."""
    memory_mib: int
    """Beside the data."""
    rows: int
    """Of the result."""


@dataclass(frozen=True)
class Result:
    """What came of a query: rows, or the reason why there are none."""

    rows: tuple[tuple[Any, ...], ...] = ()
    ordered: bool = False
    """Whether the query's outermost part says ORDER BY."""
    failure: str | None = None
    message: str = ""


def execute(source: Source, sql: str, limits: Limits) -> Result:
    """The result of an untrusted text on a database. Call it in a worker process.

    failure: unparseable, sql_syntax, too_complex, sql_forbidden, sql_error (names, types, values), sql_timeout, sql_memory, sql_rows.
    Raises DatabaseError where the database itself cannot be had.
    """
    connection = connect(source, limits.memory_mib)
    try:
        with _bounded(connection, limits) as expired:
            return _execute(connection, sql, limits, expired)
    finally:
        connection.close()


@lru_cache(maxsize=512)
def execute_known(source: Source, sql: str, limits: Limits) -> Result:
    """`execute` for golds, which come again with every answer to their task."""
    return execute(source, sql, limits)


def _execute(connection: Any, sql: str, limits: Limits, expired: list[bool]) -> Result:
    import duckdb

    ordered = False
    try:
        statement = read(connection, sql)
        ordered = statement.ordered
        connection.execute("BEGIN TRANSACTION READ ONLY")
        rows = tuple(connection.execute(statement.sql).fetchmany(limits.rows + 1))
    except Refused as refused:
        return Result(failure="sql_timeout" if expired else refused.reason, message=str(refused))
    except (MemoryError, duckdb.OutOfMemoryException) as error:
        return Result(failure="sql_memory", message=str(error))
    except duckdb.InterruptException:
        return Result(failure="sql_timeout", message=f"more than {limits.seconds:g} s of processor time")
    except duckdb.PermissionException as error:
        return Result(failure="sql_forbidden", message=str(error))
    except duckdb.Error as error:
        return Result(failure=_reason(str(error)), message=str(error))
    except (RuntimeError, OverflowError, ValueError) as error:  # values that Python cannot hold: dates before its first year
        return Result(failure="sql_error", message=f"{type(error).__name__}: {error}")
    finally:
        _roll_back(connection)
    if len(rows) > limits.rows:
        return Result(failure="sql_rows", message=f"more than {limits.rows} rows")
    return Result(rows, ordered)


def _reason(message: str) -> str:
    if "depth limit" in message or "recursion" in message.lower():
        return "too_complex"
    return "sql_forbidden" if "read-only mode" in message else "sql_error"


def _roll_back(connection: Any) -> None:
    import duckdb

    try:
        connection.execute("ROLLBACK")
    except duckdb.Error:
        return  # no transaction was begun


@contextmanager
def _bounded(connection: Any, limits: Limits) -> Iterator[list[bool]]:
    """Interrupts the query when its processor time is spent, and keeps the process from growing. Yields a list that is not empty
    once the time is spent."""
    began, done = time.process_time(), threading.Event()
    expired: list[bool] = []

    def watch() -> None:
        while not done.wait(LOOK):
            if time.process_time() - began > limits.seconds:
                expired.append(True)
                connection.interrupt()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    ours = address_space() + (limits.memory_mib + BESIDE_MIB) * MIB
    resource.setrlimit(resource.RLIMIT_AS, (ours if soft == resource.RLIM_INFINITY else min(soft, ours), hard))
    try:
        yield expired
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        done.set()
        watcher.join()
