"""How reasoning-gym's scorers read answers without executing them.

Some call `eval`, or sympy's `parse_expr`, which is `eval` too, on the answer: it could then replace its own scorer, or talk to the process
that asked. Before a generator scores anything, these names are shadowed in its module by functions that read values and formulas. A scorer
that could execute an answer in any other way is refused.
"""

import ast
import dis
import keyword
import re
import sys
from collections.abc import Iterator, Mapping
from functools import cache, partial
from types import CodeType, FunctionType, ModuleType
from typing import Any

from assay.environments.task import TaskError

NUMBERS_ONLY = frozenset({"countdown", "puzzle24"})
"""Generators whose answers are arithmetic with given numbers. They look for these in the text, where a point would make one of two."""
EXECUTES = frozenset({"exec", "compile", "__import__", "sympify"})
"""Functions for which there is no shadow."""
FUNCTIONS = (
    "exp log sqrt cbrt root sin cos tan cot sec csc asin acos atan atan2 acot asec acsc sinh cosh tanh coth sech csch asinh acosh atanh "
    "acoth asech acsch Abs sign erf erfc erfi Si Ci Ei li Shi Chi expint gamma lowergamma uppergamma fresnels fresnelc polylog pi E I oo "
    "Integral"
).split()
"""What a formula may name beside variables: every other name is one. (Integral: golds have it.)"""
PARTS = "Symbol Integer Float Rational Function factorial factorial2".split()
"""What sympy's parser itself writes."""

_ARITHMETIC = re.compile(r"[0-9+\-*/()\s]*")
_FORMULA = re.compile(r"[A-Za-z0-9+\-*/^!.,()\s]*")
_ATTRIBUTE = re.compile(r"\.\s*[A-Za-z]")
_VALUE = (
    ast.Expression, ast.Constant, ast.List, ast.Tuple, ast.Set, ast.Dict, ast.Load, ast.UnaryOp, ast.unaryop, ast.BinOp, ast.operator,
)  # fmt: skip


def disarm(generator: str, scorer: type) -> None:
    """Shadow the evaluators in the module of a data set's class. Raises TaskError where that is not enough."""
    import sympy

    module, calls = sys.modules[scorer.__module__], set(_calls(scorer))
    refused = EXECUTES & calls
    if "eval" in calls:
        module.__dict__["eval"] = read_value
    if "parse_expr" in calls:
        parse = partial(read_formula, arithmetic=generator in NUMBERS_ONLY)
        for name, value in list(vars(module).items()):
            if value is sympy.parse_expr:
                setattr(module, name, parse)
            elif isinstance(value, ModuleType) and getattr(value, "parse_expr", None) is sympy.parse_expr:
                setattr(module, name, _Shadow(value, parse))
        if not any(_is_ours(value) for value in vars(module).values()):
            refused |= {"parse_expr"}
    if refused:
        raise TaskError(f"reasoning-gym generator {generator}: its scorer may execute an answer ({', '.join(sorted(refused))})")


class _Shadow:
    """A module of sympy, but for its `parse_expr`."""

    def __init__(self, module: ModuleType, parse_expr: Any) -> None:
        self._module, self.parse_expr = module, parse_expr

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


def _is_ours(value: Any) -> bool:
    """A shadow, or a parser of reasoning-gym's own."""
    return (
        isinstance(value, _Shadow)
        or (isinstance(value, partial) and value.func is read_formula)
        or (isinstance(value, FunctionType) and value.__name__ == "parse_expr" and value.__module__.startswith("reasoning_gym."))
    )


def _calls(scorer: type) -> Iterator[str]:
    """Names that `score_answer` uses, and whatever it calls of its class and of reasoning-gym. (`compile` of another module, as of `re`,
    is not the one that is meant.)"""
    todo: list[Any] = [getattr(scorer, "score_answer")]  # noqa: B009 - a class of theirs, of which mypy knows nothing
    seen: set[CodeType] = set()
    while todo:
        found = todo.pop()
        if isinstance(found, type) and found.__module__.startswith("reasoning_gym."):
            todo += vars(found).values()
        function = getattr(found, "__func__", getattr(found, "fget", found))
        if not isinstance(function, FunctionType) or not function.__module__.startswith("reasoning_gym.") or function.__code__ in seen:
            continue
        codes = [function.__code__]
        while codes:
            code = codes.pop()
            seen.add(code)
            codes += [constant for constant in code.co_consts if isinstance(constant, CodeType) and constant not in seen]
            for step in dis.get_instructions(code):
                if step.opname == "LOAD_GLOBAL":
                    yield step.argval
                    todo.append(function.__globals__.get(step.argval))
                elif step.opname in ("LOAD_ATTR", "LOAD_METHOD"):
                    todo.append(getattr(scorer, step.argval, None))
                    if step.argval in ("parse_expr", "sympify"):
                        yield step.argval


def read_value(text: str) -> Any:
    """A Python value, or an operation on values. Raises ValueError for names, calls and all else that could do something."""
    tree = ast.parse(text.strip(), mode="eval")
    if not all(isinstance(node, _VALUE) for node in ast.walk(tree)):
        raise ValueError("this is no value")
    return eval(compile(tree, "<answer>", "eval"), {"__builtins__": {}})


def read_formula(text: str, local_dict: Mapping[str, Any] | None = None, *, arithmetic: bool = False) -> Any:
    """An answer as sympy's expression. Raises ValueError for what is no formula, and whatever sympy raises."""
    import sympy

    if not (_ARITHMETIC if arithmetic else _FORMULA).fullmatch(text) or _ATTRIBUTE.search(text):
        raise ValueError("this is no formula")
    if any(keyword.iskeyword(word) for word in re.findall(r"[A-Za-z]+", text)):
        raise ValueError("a formula has no keywords")
    return sympy.parse_expr(text, local_dict=dict(local_dict or {}), global_dict=dict(_known()))


@cache
def _known() -> dict[str, Any]:
    import sympy

    return {"__builtins__": {}, "ln": sympy.log, "abs": sympy.Abs} | {name: getattr(sympy, name) for name in (*FUNCTIONS, *PARTS)}
