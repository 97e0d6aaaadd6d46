"""Reading and writing the published record layout (FTRL): flat columns, nested values as JSON strings, as JSON lines or Parquet.

Arguments of calls in messages are JSON strings too, as tools take numbers, texts and objects alike; in memory they are objects.
What these columns do not have (the graph, the intended calls, the difficulty) is lost on the way: an environment that was read back can be
trained on, but not put through the gate.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from assay.environments.tools.documents import check_schema
from assay.environments.tools.export import openai_message
from assay.environments.tools.record import SCENARIOS, Scenario, ToolEnvironment, ToolError
from assay.rewards.tool_use import normalise

COLUMNS = ("messages", "tools", "codes", "unsolved_set", "solve_rate", "data_source", "split", "answer")
SOURCE = "self/"
"""Before the scenario, in data_source."""
SPLITS = ("train", "test")
KEPT = "tool environments are kept in .jsonl or .parquet files"


def to_record(
    environment: ToolEnvironment,
    messages: Sequence[Mapping[str, Any]] | None = None,
    unsolved: Mapping[str, Sequence[str]] | None = None,
    solve_rate: float | None = None,
) -> dict[str, Any]:
    """One row. messages, unsolved and solve_rate: of a state that an episode has reached, instead of the first one. Every split but train
    is called test, as rewards refuse it."""
    left = environment.unsolved if unsolved is None else unsolved
    return {
        "messages": [openai_message(message) for message in (environment.messages if messages is None else messages)],
        "tools": json.dumps(list(environment.tools), ensure_ascii=False),
        "codes": json.dumps(environment.codes, ensure_ascii=False),
        "unsolved_set": json.dumps({name: list(answers) for name, answers in left.items()}, ensure_ascii=False),
        "solve_rate": environment.solve_rate if solve_rate is None else solve_rate,
        "data_source": f"{SOURCE}{environment.scenario}",
        "split": "train" if environment.split == "train" else "test",
        "answer": environment.answer,
    }  # fmt: skip


def from_record(row: Mapping[str, Any], where: str = "record") -> ToolEnvironment:
    """An environment, checked. Raises ToolError that names where, the column, and what is wrong with it."""
    if missing := [column for column in COLUMNS if column not in row]:
        raise ToolError(f"{where}: the column {missing[0]} is missing; expected {', '.join(COLUMNS)}")
    messages = _messages(row["messages"], where)
    tools = _tools(row["tools"], where)
    codes = _object(row["codes"], f"{where}, codes")
    names = [tool["function"]["name"] for tool in tools]
    if not all(isinstance(source, str) for source in codes.values()):
        raise ToolError(f"{where}, codes: expected the text of one function for each tool")
    if len(set(names)) < len(names) or set(names) != set(codes):
        odd = sorted(set(names) ^ set(codes)) or sorted(names)
        raise ToolError(f"{where}: tools and codes do not name the same tools, each once: see {', '.join(odd)}")
    solve_rate = row["solve_rate"]
    if not isinstance(solve_rate, (int, float)) or isinstance(solve_rate, bool) or not 0 <= solve_rate <= 1:
        raise ToolError(f"{where}, solve_rate: expected a number from 0 to 1, found {solve_rate!r}")
    unsolved = _unsolved(row["unsolved_set"], names, float(solve_rate), where)
    if not isinstance(row["split"], str) or row["split"] not in SPLITS:
        raise ToolError(f"{where}, split: expected train or test, found {row['split']!r}")
    if row["answer"] is not None and (not isinstance(row["answer"], str) or not normalise(row["answer"])):
        raise ToolError(f"{where}, answer: expected text or null, found {row['answer']!r}")
    return ToolEnvironment(
        scenario=_scenario(row["data_source"], where), question=_question(messages), answer=row["answer"], tools=tools, codes=codes,
        unsolved=unsolved, split=row["split"], solve_rate=float(solve_rate), messages=messages,
    )  # fmt: skip


def read(path: Path) -> list[ToolEnvironment]:
    """All environments of a .jsonl or .parquet file. Raises ToolError naming file and line or row."""
    return [environment for _, environment in read_placed(path)]


def read_placed(path: Path) -> list[tuple[str, ToolEnvironment]]:
    """The same, each with its place: file and line or row."""
    return [(where, from_record(row, where)) for where, row in _rows(path)]


def write(path: Path, environments: Iterable[ToolEnvironment] | Iterable[Mapping[str, Any]]) -> None:
    """Environments, or rows of `to_record`, into a .jsonl or .parquet file, whole or not at all. Raises ToolError."""
    rows = [to_record(one) if isinstance(one, ToolEnvironment) else dict(one) for one in environments]
    if path.suffix == ".parquet":
        _publish(path, lambda draft: _write_parquet(draft, [json.loads(line) for line in _lines(rows)]))
    elif path.suffix == ".jsonl":
        write_lines(path, rows)
    else:
        raise ToolError(f"{path}: {KEPT}")


def write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Rows of any layout as JSON lines, whole or not at all. Raises ToolError."""
    _publish(path, lambda draft: draft.write_bytes(b"".join(_lines(rows))))


def _lines(rows: Iterable[Mapping[str, Any]]) -> list[bytes]:
    return [json.dumps(row, ensure_ascii=False).encode("utf-8", "replace") + b"\n" for row in rows]


def _write_parquet(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Types of the flat columns are stated: a column of nulls alone would have none."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {"messages": None, "solve_rate": pa.float64()}
    columns = {name: pa.array([row[name] for row in rows], kinds.get(name, pa.string())) for name in COLUMNS}
    pq.write_table(pa.table(columns), path)


def _publish(path: Path, make: Callable[[Path], object]) -> None:
    import pyarrow as pa

    draft = path.with_name(f".{path.name}.partial")
    try:
        make(draft)
        draft.replace(path)
    except pa.ArrowException as error:
        raise ToolError(f"{path}: no Parquet table holds these records ({error}); write JSON lines, to a file .jsonl") from error
    except OSError as error:
        raise ToolError(f"{path}: could not be written ({error.strerror or error}); choose another place, or free disk space") from error
    finally:
        draft.unlink(missing_ok=True)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ToolError(f"{path}: no UTF-8 text at byte {error.start}; save it as UTF-8") from None


def _rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if not path.is_file():
        raise ToolError(f"{path}: no such file")
    if path.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            rows = pq.read_table(path).to_pylist()
        except (pa.ArrowInvalid, OSError) as error:
            raise ToolError(f"{path}: no Parquet file ({error})") from None
        yield from ((f"{path}, row {number}", row) for number, row in enumerate(rows, 1))
    elif path.suffix == ".jsonl":
        for number, line in enumerate(_text(path).split("\n"), 1):
            if line.strip():
                row = _parsed(line, f"{path}, line {number}")
                if not isinstance(row, dict):
                    raise ToolError(f"{path}, line {number}: expected a JSON object")
                yield f"{path}, line {number}", row
    else:
        raise ToolError(f"{path}: {KEPT}")


def _parsed(text: Any, where: str) -> Any:
    if not isinstance(text, str):
        raise ToolError(f"{where}: expected a JSON string, found {type(text).__name__}")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ToolError(f"{where}: no JSON ({error})") from None


def _object(text: Any, where: str) -> dict[str, Any]:
    value = _parsed(text, where)
    if not isinstance(value, dict):
        raise ToolError(f"{where}: expected a JSON object, found {type(value).__name__}")
    return value


def _messages(value: Any, where: str) -> tuple[dict[str, Any], ...]:
    if not isinstance(value, list) or not value:
        raise ToolError(f"{where}, messages: expected a list of messages")
    messages = []
    for message in value:
        if not isinstance(message, dict) or not isinstance(message.get("role"), str) or not isinstance(message.get("content"), str):
            raise ToolError(f"{where}, messages: a message is not {{role: text, content: text}}: {str(message)[:80]}")
        messages.append({key: part for key, part in message.items() if part is not None})  # Parquet fills in nulls
        if "tool_calls" in messages[-1]:
            messages[-1]["tool_calls"] = _calls(messages[-1]["tool_calls"], f"{where}, messages")
    return tuple(messages)


def _calls(value: Any, where: str) -> list[dict[str, Any]]:
    """Calls of a message, their arguments as objects."""
    calls = []
    for call in value if isinstance(value, list) else [value]:
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise ToolError(f"{where}: a call is not {{id, type, function: {{name, arguments}}}}: {str(call)[:80]}")
        given = function.get("arguments")
        arguments = given if isinstance(given, dict) else _object(given, f"{where}, arguments of {function['name']}")
        calls.append({**call, "function": {**function, "arguments": arguments}})
    return calls


def _tools(text: Any, where: str) -> tuple[dict[str, Any], ...]:
    value = _parsed(text, f"{where}, tools")
    if not isinstance(value, list) or not value:
        raise ToolError(f"{where}, tools: expected a list of tools")
    for tool in value:
        if problems := check_schema(tool):
            raise ToolError(f"{where}, tools: {problems[0]}")
    return tuple(value)


def _unsolved(text: Any, names: list[str], solve_rate: float, where: str) -> dict[str, tuple[str, ...]]:
    value = _object(text, f"{where}, unsolved_set")
    if not all(isinstance(answers, list) and all(isinstance(one, str) and normalise(one) for one in answers) for answers in value.values()):
        raise ToolError(f"{where}, unsolved_set: expected a list of sub-answers for each tool, none of them empty or only commas")
    if not value or (solve_rate < 1 and not any(value.values())):
        raise ToolError(f"{where}, unsolved_set: it is empty, so there is nothing to solve: leave this record out")
    if strange := sorted(set(value) - set(names)):
        raise ToolError(f"{where}, unsolved_set: {strange[0]} is no tool of this record")
    return {name: tuple(answers) for name, answers in value.items()}


def _scenario(source: Any, where: str) -> Scenario:
    for scenario in SCENARIOS:
        if source == f"{SOURCE}{scenario}":
            return scenario
    raise ToolError(f"{where}, data_source: expected one of {', '.join(SOURCE + name for name in SCENARIOS)}, found {source!r}")


def _question(messages: Sequence[Mapping[str, Any]]) -> str:
    first = messages[0]["content"]
    _, mark, after = first.rpartition("Question:")
    return after.strip() if mark else first
