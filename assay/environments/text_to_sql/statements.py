"""Which statements may be executed: one query that reads tables and computes from what it read, and nothing else.

A list of what is allowed, over DuckDB's own syntax tree, so that what a later version adds is refused until it is known. DuckDB's
settings and the read-only transaction of `databases` and `execution` stand behind it.
"""

import json
from dataclasses import dataclass
from typing import Any

NODES = frozenset({"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"})
PARTS = frozenset({
    "BASE_TABLE", "SUBQUERY", "JOIN", "TABLE_FUNCTION", "EMPTY", "EXPRESSION_LIST", "ORDER_MODIFIER", "LIMIT_MODIFIER",
    "LIMIT_PERCENT_MODIFIER", "DISTINCT_MODIFIER", "ORDER_DEFAULT", "ORDER_ASCENDING", "ORDER_DESCENDING", "ASCENDING", "DESCENDING",
})  # fmt: skip
"""What may stand in a query beside expressions."""
TABLE_FUNCTIONS = frozenset({"range", "generate_series", "unnest", "repeat"})
VOLATILE = frozenset({
    "ago", "currval", "error", "gen_random_uuid", "get_block_size", "get_current_time", "get_current_timestamp", "getenv",
    "getvariable", "in_search_path", "json_execute_serialized_sql", "nextval", "now", "random", "reservoir_quantile", "session_user",
    "setseed", "setval", "shobj_description", "sleep_ms", "stats", "today", "transaction_timestamp", "uuid", "uuidv4", "uuidv7",
    "vector_type", "version", "write_log",
})  # fmt: skip
"""Functions whose value is not one of the database alone, or that do something."""
BY_NAME = frozenset({"list_aggregate", "list_aggr", "array_aggregate", "array_aggr", "aggregate"})
"""Functions that call the one that their second argument names."""
FAMILIES = ("pg_", "current_", "inet_", "has_", "txid_", "read_", "duckdb_", "pragma_", "parquet_", "write_", "__internal", "icu_calendar")
"""Beginnings of further ones: the system's catalog, files, settings."""
CLOCK = frozenset({
    "current_catalog", "current_date", "current_role", "current_schema", "current_time", "current_timestamp", "current_user", "localtime",
    "localtimestamp", "session_user",
})  # fmt: skip
"""Names without brackets whose value is of the clock or of the connection."""
CATALOG = ("pg_", "duckdb_", "sqlite_", "pragma_")
"""Beginnings of the names of the system's tables."""


class Refused(Exception):
    """A statement that is not executed. `reason` is one of verifiers' REASONS."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class Statement:
    """A query that may be executed."""

    sql: str
    ordered: bool
    """Whether its outermost query says ORDER BY."""


def read(connection: Any, sql: str) -> Statement:
    """The one statement of a text. Raises Refused: unparseable (there is none), sql_syntax, too_complex (nested too deeply),
    sql_forbidden (anything but one query, or a query that does what it must not)."""
    import duckdb

    try:
        (serialized,) = connection.execute("SELECT json_serialize_sql(?)", [sql]).fetchone()
        tree = json.loads(serialized)
    except RecursionError as error:
        raise Refused("too_complex", "nested too deeply") from error
    except UnicodeEncodeError as error:
        raise Refused("sql_syntax", "not text in UTF-8") from error
    except duckdb.Error as error:
        raise Refused(_syntax_reason(str(error)), str(error)) from error
    if tree["error"]:
        if tree["error_type"] in ("not implemented", "invalid input"):
            raise Refused("sql_forbidden", "only one SELECT is executed")
        raise Refused(_syntax_reason(tree["error_message"]), tree["error_message"])
    statements = tree["statements"]
    if not statements:
        raise Refused("unparseable", "there is no statement")
    if len(statements) > 1:
        raise Refused("sql_forbidden", f"{len(statements)} statements; only one SELECT is executed")
    _check(statements[0]["node"])
    modifiers = statements[0]["node"].get("modifiers", [])
    return Statement(sql, any(modifier["type"] == "ORDER_MODIFIER" for modifier in modifiers))


def _syntax_reason(message: str) -> str:
    return "too_complex" if "depth limit" in message or "recursion" in message.lower() else "sql_syntax"


def _check(root: Any) -> None:
    """Every node of the tree, without recursion. Keys of the tree are DuckDB's own; only values come from the statement."""
    waiting = [root]
    while waiting:
        node = waiting.pop()
        if isinstance(node, list):
            waiting += node
        elif isinstance(node, dict):
            _check_node(node)
            waiting += node.values()


def _check_node(node: dict[str, Any]) -> None:
    kind = node.get("type")
    if isinstance(kind, str) and "class" not in node and "node" not in node:
        allowed = kind in NODES if kind.endswith("_NODE") else kind in PARTS or kind.endswith("_TYPE_INFO")
        if not allowed:
            raise Refused("sql_forbidden", f"{kind.removesuffix('_NODE').removesuffix('_REF')} is not allowed")
    if node.get("sample") is not None:
        raise Refused("sql_forbidden", "a sample is not repeatable")
    if kind == "TABLE_FUNCTION":
        name = str(node["function"].get("function_name", "")).lower()
        if name not in TABLE_FUNCTIONS:
            raise Refused("sql_forbidden", f"the table function {name} is not allowed")
    elif "function_name" in node:
        _check_function(str(node["function_name"]).lower(), node.get("arguments") or node.get("children") or [])
    elif kind == "COLUMN_REF":
        names = node.get("column_names") or [""]
        if len(names) == 1 and str(names[0]).lower() in CLOCK:
            raise Refused("sql_forbidden", f"{names[0]} is not repeatable")
    elif kind == "BASE_TABLE":
        name = str(node.get("table_name", "")).lower()
        schema = str(node.get("schema_name") or "main").lower()
        if schema != "main" or node.get("catalog_name") or name.startswith(CATALOG):
            raise Refused("sql_forbidden", f"the table {name} is not one of the database")


def _check_function(name: str, arguments: list[dict[str, Any]]) -> None:
    if name in BY_NAME and len(arguments) > 1:
        constant = arguments[1].get("expression", arguments[1]).get("literal")
        if not isinstance(constant, dict) or not isinstance(constant.get("text"), str):
            raise Refused("sql_forbidden", f"{name} wants the plain name of a function")
        _check_function(constant["text"].lower(), [])
    if name in VOLATILE or name.startswith(FAMILIES):
        raise Refused("sql_forbidden", f"the function {name} is not allowed")
    if name == "age" and len(arguments) == 1:
        raise Refused("sql_forbidden", "age of one argument counts until today")
