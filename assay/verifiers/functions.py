"""Reward functions of the user as verifiers. Called in workers only, with one completion at a time.

The convention is that of TRL's GRPOTrainer: lists by keyword (prompts, completions, and a list for each column of the data set), a list
of numbers back. A verifier's address holds the whole function, its source too: it is known in every process without being announced, and
equal sources have equal verdicts.
"""

import hashlib
import inspect
import json
import linecache
import math
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from itertools import islice
from types import ModuleType
from typing import Any

from assay.verifiers.verdicts import Finding, abstain, correct, wrong

ADDRESS = "function:"
ALIASES = ("answer", "solution", "ground_truth")
"""Names under which the gold is passed beside `gold`, unless the data set has a column, or the task's meta a key, of that name."""
MANY = 1000
"""Scores that are counted where one is expected."""
RESERVED = ("prompts", "completions", "gold")
"""Names that no column and no key of the task's meta takes."""


def address(name: str, function: str, source: str, correct_at: float, form: str, imports: Iterable[str]) -> str:
    """Name of the verifier for everything that passes names on: `spec_of` makes the verifier of it, in any process.

    name: as people call it. function: in the source. form: of prompts and completions, text or messages. imports: modules that
    workers should hold before they are forked.
    """
    definition = {
        "name": name, "function": function, "source": source, "correct_at": correct_at, "format": form, "imports": list(imports),
    }  # fmt: skip
    return ADDRESS + json.dumps(definition, sort_keys=True)


def definition_of(name: str) -> dict[str, Any]:
    """What `address` was given."""
    found: dict[str, Any] = json.loads(name.removeprefix(ADDRESS))
    return found


def version_of(definition: Mapping[str, Any]) -> str:
    """Changes with the source, and with how its scores are read."""
    counted = {key: definition[key] for key in ("function", "source", "correct_at", "format")}
    return f"2+{hashlib.blake2b(json.dumps(counted, sort_keys=True).encode(), digest_size=6).hexdigest()}"


def score(definition: Mapping[str, Any], text: str, gold: str, given: Mapping[str, Any]) -> Finding:
    """The verdict on one completion. given: the task's `prompt` (messages) and `meta`.

    Not for a process of ours: the source is executed. Whatever it raises is passed on; TypeError and ValueError also where what it
    returns is not a list of one finite number or None.
    """
    function = load(definition["source"], definition["function"])
    found = function(**arguments(function, definition["format"], text, gold, given))
    value = only_score(found)
    if value is None:
        return abstain("not_applicable")
    return correct(value) if value >= definition["correct_at"] else wrong(score=value)


def arguments(function: Callable[..., Any], form: str, text: str, gold: str, given: Mapping[str, Any]) -> dict[str, list[Any] | Any]:
    """Keyword arguments, of those that the function takes."""
    messages = [{"role": one["role"], "content": one["content"]} for one in given["prompt"]]
    everything: dict[str, Any] = {key: [gold] for key in ALIASES}
    everything |= {"log_extra": _ignore, "log_metric": _ignore}
    meta = dict(given["meta"])
    columns = meta.pop("columns") if isinstance(meta.get("columns"), dict) else {}  # of a data set, beside what the family needs
    everything |= {key: [value] for key, value in {**columns, **meta}.items() if key not in RESERVED}
    everything["gold"] = [gold]
    if form == "messages":
        everything |= {"prompts": [messages], "completions": [[{"role": "assistant", "content": text}]]}
    else:
        everything |= {"prompts": ["\n\n".join(one["content"] for one in messages)], "completions": [text]}
    parameters = inspect.signature(function).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return everything
    taken = {parameter.name for parameter in parameters}
    return {key: value for key, value in everything.items() if key in taken}


def only_score(found: Any) -> float | None:
    """The number in a list of one. None: the function does not apply."""
    if isinstance(found, str | bytes | Mapping) or not hasattr(found, "__iter__"):
        raise TypeError(f"it returned {type(found).__name__}, expected a list with one number for the one completion")
    values = list(islice(found, MANY))
    if len(values) != 1:
        raise ValueError(f"it returned {len(values)}{' or more' if len(values) == MANY else ''} scores for one completion")
    value = values[0]
    if value is None:
        return None
    if isinstance(value, str | bytes) or not hasattr(value, "__float__"):
        raise TypeError(f"its score is {type(value).__name__}, expected a number or None")
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"its score is {number}, expected a finite number, or None where it does not apply")
    return number


@lru_cache(maxsize=16)
def load(source: str, function: str) -> Callable[..., Any]:
    """The function of an executed source. Raises whatever the source raises."""
    name = f"reward_functions_{hashlib.blake2b(source.encode(), digest_size=6).hexdigest()}"
    if name not in sys.modules:
        module = ModuleType(name)
        file = f"<{name}>"
        linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)  # for inspect and tracebacks
        sys.modules[name] = module  # dataclasses and pickle look there
        try:
            exec(compile(source, file, "exec"), module.__dict__)
        except BaseException:
            del sys.modules[name]
            raise
    found: Callable[..., Any] = getattr(sys.modules[name], function)
    return found


def _ignore(*_: Any, **__: Any) -> None:
    """What TRL offers for logging has no place to log to here."""
