"""The verification gate: the intended calls solve everything, and nothing else solves anything.

Tried beside the intended calls: calls without, with unknown and with wrong arguments, answers put in as arguments (a tool that repeats
them would be solved by a guess), wrong subjects, other values of enums, and the distractors asked about the question's things.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from assay.environments.tools.execution import Feedback, Request, ToolExecutor
from assay.environments.tools.record import GoldenCall, ToolEnvironment, is_required
from assay.rewards.tool_use import Call, solve, verifies

STRANGER = "Nobody Of That Name"


@dataclass(frozen=True)
class Fuzz:
    """A call that must solve nothing."""

    tool: str
    arguments: dict[str, Any]
    allowed: str | None = None
    """The one sub-answer that it may give nevertheless: it is an intended call with another value of an enum, which a tool may not mind."""


@dataclass(frozen=True)
class Trial:
    """The calls that one environment is tried with: the intended ones, then the others."""

    environment: ToolEnvironment
    fuzz: tuple[Fuzz, ...]

    @property
    def requests(self) -> list[Request]:
        calls = [(call.tool, call.arguments) for call in self.environment.calls]
        calls += [(fuzz.tool, fuzz.arguments) for fuzz in self.fuzz]
        return [Request(self.environment.codes, *call) for call in calls]


def run_gate(environments: Sequence[ToolEnvironment], executor: ToolExecutor) -> list[list[str]]:
    """What is wrong with each environment; all calls are executed as one batch. Only for environments that know their intended calls."""
    trials = [trial(environment) for environment in environments]
    requests = [one.requests for one in trials]
    said = iter(executor.execute([request for some in requests for request in some]))
    return [judge(one, [next(said) for _ in some]) for one, some in zip(trials, requests, strict=True)]


def trial(environment: ToolEnvironment) -> Trial:
    """An environment with the calls that must solve nothing: those of `fuzzed` that are not intended ones by accident."""
    known = {_key(call.tool, call.arguments) for call in environment.calls}
    others = {_key(fuzz.tool, fuzz.arguments): fuzz for fuzz in fuzzed(environment)}
    return Trial(environment, tuple(fuzz for key, fuzz in others.items() if key not in known))


def judge(one: Trial, said: Sequence[Feedback]) -> list[str]:
    """What the feedback to a trial's requests shows to be wrong."""
    environment, count = one.environment, len(one.environment.calls)
    problems = []
    unsolved = environment.unsolved
    for call, feedback in zip(environment.calls, said[:count], strict=True):
        match, unsolved = solve(Call(call.tool, call.arguments, feedback.text), unsolved)
        wanted = _answer(environment, call)
        if match.answer != wanted:
            problems.append(f"the intended call for {call.node} solves {match.answer!r}, not {wanted!r}: {feedback.text!r}")
    if any(unsolved.values()):
        problems.append("the intended calls leave sub-answers unsolved")
    for fuzz, feedback in zip(one.fuzz, said[count:], strict=True):
        leaked = [answer for answer in environment.answers if answer != fuzz.allowed and verifies(feedback.text, answer)]
        if feedback.status not in ("ok", "bad_args", "exception"):
            problems.append(f"{fuzz.tool} ends with {feedback.status} on {json.dumps(fuzz.arguments)}")
        elif leaked:
            problems.append(f"{fuzz.tool} gives {leaked[0]!r} on {json.dumps(fuzz.arguments)}")
    return problems


def fuzzed(environment: ToolEnvironment) -> Iterator[Fuzz]:
    """Calls that are not intended; a few may be so by accident, and are taken out later."""
    answers = [*environment.answers, *([environment.answer] if environment.answer else [])]
    given = str([call.arguments for call in environment.calls])
    guess = next((answer for answer in answers if answer not in given), answers[-1])  # one that no intended call asks about
    things = list(dict.fromkeys([*answers, *(node.subject for node in environment.nodes if node.subject), STRANGER, ""]))
    for tool in environment.tools:
        name, properties = tool["function"]["name"], tool["function"]["parameters"].get("properties", {})
        yield Fuzz(name, {})
        yield Fuzz(name, {guess: guess})
        for value in (0, guess, [guess], {"name": guess}, None):
            yield Fuzz(name, dict.fromkeys(properties, value))
        for parameter in properties:
            yield Fuzz(name, example(tool) | {parameter: guess})
        intended = [call for call in environment.calls if call.tool == name]
        bases: list[tuple[dict[str, Any], str | None]] = [(call.arguments, _answer(environment, call)) for call in intended]
        for base, own in bases or [(example(tool), None)]:
            for parameter, value in base.items():
                if "enum" in properties.get(parameter, {}):
                    for other in properties[parameter]["enum"]:
                        yield Fuzz(name, base | {parameter: other}, own)
                else:
                    for thing in things:
                        yield Fuzz(name, base | {parameter: _replaced(value, thing)})


def _answer(environment: ToolEnvironment, call: GoldenCall) -> str:
    return next(node.answer for node in environment.nodes if node.id == call.node)


def example(tool: dict[str, Any]) -> dict[str, Any]:
    """A call that a tool's schema allows, with its required parameters."""
    of_type = {"string": STRANGER, "boolean": True, "integer": 1, "number": 1, "array": [STRANGER], "object": {"name": STRANGER}}
    properties = tool["function"]["parameters"].get("properties", {})
    needed = {name: property_ for name, property_ in properties.items() if is_required(tool, name)}
    needed = needed or dict(list(properties.items())[:1])
    return {name: property_["enum"][0] if "enum" in property_ else of_type[property_["type"]] for name, property_ in needed.items()}


def _replaced(value: Any, thing: str) -> Any:
    """The value with another thing in its place, in the same form."""
    if isinstance(value, list):
        return [thing] if len(value) == 1 else [*value[:-1], int(thing) if thing.isdigit() else 0]
    return {key: thing for key in value} if isinstance(value, dict) else thing


def _key(name: str, arguments: dict[str, Any]) -> tuple[str, str]:
    return name, json.dumps(arguments, sort_keys=True)
