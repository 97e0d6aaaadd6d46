"""Reward functions of the user, in the convention of TRL's GRPOTrainer, as verifiers: where they are, what they contain.

Nothing of the file is executed here: it is read, and only its syntax is looked at.
"""

import ast
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from assay.params.base import ParameterError, Section

BUILT_IN = ("task", "string_match", "numeric", "math_verify", "reasoning_gym", "sql_execution", "protocol_score", "tool_use")
"""What `verification.rule` may be without any function; `task`: the verifier that each task names."""
FunctionName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_-]*$")]


class RewardFunction(Section):
    """`def name(prompts, completions, answer, **kwargs) -> list[float | None]`, called with one completion at a time in a worker."""

    path: str | None = None
    """Python file, from the project's root. Below conf/functions a change of it is noticed by `dvc repro`."""
    name: str | None = None
    """Name of the function in it; null: as this entry is called."""
    correct_at: float = Field(1.0, allow_inf_nan=False)
    """Scores from here on are right answers, lower ones are wrong."""
    format: Literal["text", "messages"] = "text"
    """Of prompts and completions: `text`, or lists of messages as TRL passes them where prompts are conversations."""
    source: str | None = None
    """The file itself, read from `path` by `configure`: stages depend on what it says, not on its path."""


def with_source(functions: Mapping[str, RewardFunction], root: Path, file: Path) -> dict[str, RewardFunction]:
    """The same functions with the text of their files. Raises ParameterError naming params.yaml, the key and the file."""
    return {name: _read(name, function, root, file) for name, function in functions.items()}


def _read(key: str, function: RewardFunction, root: Path, file: Path) -> RewardFunction:
    where, name = f"{file}: verification.functions.{key}", function.name or key
    if function.source is not None:
        raise ParameterError(f"{where}.source is filled in by `configure`; give path, a Python file")
    if function.path is None:
        raise ParameterError(f"{where}.path is missing; give a Python file")
    try:
        source = (root / function.path).read_text(encoding="utf-8")
        tree = ast.parse(source)
    except OSError as error:
        raise ParameterError(f"{where}.path is {function.path!r}, which cannot be read ({error.strerror}); give a Python file") from error
    except UnicodeDecodeError as error:
        raise ParameterError(f"{where}.path is {function.path!r}, which is no text in UTF-8; give a Python file") from error
    except SyntaxError as error:
        raise ParameterError(f"{where}.path is {function.path!r}, line {error.lineno}: {error.msg}") from error
    except (ValueError, RecursionError) as error:  # null bytes; thousands of brackets
        raise ParameterError(f"{where}.path is {function.path!r}, which is not Python: {error}") from error
    _check(tree, where, function.path, name)
    return function.model_copy(update={"path": None, "name": name, "source": source})


def _check(tree: ast.Module, where: str, path: str, name: str) -> None:
    """Whether the function is there, and what the file imports."""
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    if isinstance(functions.get(name), ast.AsyncFunctionDef):
        raise ParameterError(f"{where}.name is {name!r}, which is asynchronous in {path}; write a plain function (`def`)")
    if name not in functions and name not in _bound(tree):
        known = ", ".join(functions) or "none"
        raise ParameterError(f"{where}.name is {name!r}, but {path} has no such function; its functions: {known}")
    for module in top_level_imports(tree):
        package = module.partition(".")[0]
        if package not in sys.modules and find_spec(package) is None:
            what = f"which imports {module}, and there is no such module"
            raise ParameterError(f"{where}.path is {path!r}, {what}; install it, or put into the file what it takes from it")


def _bound(tree: ast.Module) -> set[str]:
    """Names that the file's first level binds otherwise: by an import, or by an assignment."""
    names: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return names


def top_level_imports(tree: ast.Module) -> list[str]:
    """Modules that the file imports unconditionally, in order, each once."""
    found: dict[str, None] = {}
    for node in tree.body:
        if isinstance(node, ast.Import):
            found |= {alias.name: None for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None and not node.level:
            found[node.module] = None
    return list(found)
