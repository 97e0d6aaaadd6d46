"""Can a predicted protocol be carried out, and does it reach its goal? The oracle of generated protocols.

Independent on purpose: beside its own `laboratory` it imports nothing of ours, reads the text itself, and knows the bench by what happens
to vessels and samples, not by the grammar that golds are planned with. So it can find faults of the generator, of the gold and of SCORE. It
knows only the bench that the task's meta describes, and it is lenient where a laboratory is: units are converted, usual ranges are
accepted, extra harmless steps cost nothing, commuting steps may stand in any order.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from assay.environments.protocols.laboratory import DO, SPEEDS, WARNINGS, Lab, Stop, quantities

MAX_CHARACTERS, MAX_STEPS = 20_000, 100
"""Of an answer that is read, and of a key that is carried out."""
_HALF = re.compile(r"[\ud800-\udfff]")
_STEP = re.compile(r"[Ss]tep\s{0,3}[0-9]{1,4}\s{0,3}:\s{0,9}(\{.*\})")


class ExecutorError(ValueError):
    """A bench that the executor does not know: the task is at fault, not the answer."""


@dataclass(frozen=True)
class Execution:
    """What became of a protocol."""

    readable: bool
    """Whether there is one `<key>` whose lines are steps."""
    executable: bool
    """Whether every step could be carried out."""
    reached: bool
    """Whether that led to the goal, with what else the task demands; never without `executable`."""
    failed_step: int | None = None
    """From 1; None where none failed."""
    reason: str = ""


def execute(text: str, bench: Mapping[str, Any]) -> Execution:
    """Carry out the protocol of a text on the bench of a task (`meta["bench"]`).

    Steps are carried out as they stand, whatever their numbers. Raises ExecutorError for a bench that is not as `questions` describes
    them.
    """
    lab = _set_up(bench)
    steps = _read(text)
    if steps is None:
        return Execution(False, False, False, reason="no key that can be read")
    allowed = set(bench["allowed"])
    for number, (action, objects, parameters) in enumerate(steps, 1):
        try:
            if action not in allowed:
                raise Stop(f"{action!r} is not among the actions")
            if action not in DO:
                raise Stop(f"{action!r} does nothing here")
            if len(set(objects)) != len(objects):
                raise Stop("an object is named twice")
            amounts = {} if lab.outline else quantities(parameters)
            DO[action](lab, set(objects), amounts)
        except Stop as stop:
            return Execution(True, False, False, number, str(stop))
        lab.used |= {action, *objects}
    lack = _lacking(lab, bench, text)
    return Execution(True, True, not lack, None, lack)


def _set_up(bench: Mapping[str, Any]) -> Lab:
    try:
        lab = Lab(
            bench["line"], bench["sample"], "tube" if bench["line"] in ("wash", "extract") else "flask", dict(bench["have"]),
            int(bench["factor"]), set(bench["without"]), bench["sheet"], bool(bench["outline"]), set(bench["in"]),
        )  # fmt: skip
        start, goal, _, _ = bench["start"], bench["goal"], bench["allowed"], bench["hazards"]
    except (KeyError, TypeError, ValueError) as error:
        raise ExecutorError(f"the task's bench is not as it should be: {error!r}") from error
    if lab.sample not in SPEEDS or (lab.line, goal) not in _GOALS or (lab.line, start) not in _STARTS:
        raise ExecutorError(f"the task's bench is unknown: {lab.line}, {lab.sample}, from {start} to {goal}")
    for name in _STARTS[lab.line, start]:
        if hasattr(lab, name):
            setattr(lab, name, True)
        else:
            lab.marks.add(name)
    return lab


_STARTS: dict[tuple[str, str], tuple[str, ...]] = {
    ("wash", "dry"): (), ("wash", "wet"): ("fluid",), ("wash", "mixed"): ("fluid", "stirred"), ("wash", "spun"): ("fluid", "packed"),
    ("wash", "washed"): ("washed",), ("wash", "stained"): ("washed", "stained"),
    ("extract", "dry"): (), ("extract", "wet"): ("fluid",), ("extract", "mixed"): ("fluid", "stirred", "lysed"),
    ("extract", "spun"): ("fluid", "packed", "lysed", "cold"), ("extract", "collected"): ("collected",),
    ("solution", "empty"): (), ("solution", "mixed"): ("fluid", "stirred"), ("solution", "hot"): ("fluid", "stirred", "hot"),
    ("solution", "clear"): ("fluid", "stirred", "hot", "clear"),
    ("culture", "empty"): (), ("culture", "molten"): ("fluid", "molten"), ("culture", "poured"): ("poured",),
    ("culture", "streaked"): ("poured", "streaked"), ("culture", "grown"): ("poured", "streaked", "grown"),
}  # fmt: skip
_GOALS: dict[tuple[str, str], Callable[[Lab], bool]] = {
    ("wash", "wet"): lambda lab: lab.fluid,
    ("wash", "mixed"): lambda lab: lab.stirred,
    ("wash", "spun"): lambda lab: lab.packed,
    ("wash", "washed"): lambda lab: lab.washed,
    ("wash", "stained"): lambda lab: "stained" in lab.marks,
    ("wash", "imaged"): lambda lab: "imaged" in lab.marks,
    ("extract", "wet"): lambda lab: lab.fluid,
    ("extract", "mixed"): lambda lab: lab.stirred and lab.lysed,
    ("extract", "spun"): lambda lab: lab.packed and lab.lysed,
    ("extract", "collected"): lambda lab: "collected" in lab.marks,
    ("extract", "stored"): lambda lab: "stored" in lab.marks,
    ("solution", "mixed"): lambda lab: lab.stirred,
    ("solution", "hot"): lambda lab: lab.hot,
    ("solution", "clear"): lambda lab: lab.clear,
    ("solution", "stored"): lambda lab: "stored" in lab.marks,
    ("culture", "molten"): lambda lab: lab.molten,
    ("culture", "poured"): lambda lab: "poured" in lab.marks,
    ("culture", "streaked"): lambda lab: "streaked" in lab.marks,
    ("culture", "grown"): lambda lab: "grown" in lab.marks,
    ("culture", "counted"): lambda lab: "counted" in lab.marks,
}


def _lacking(lab: Lab, bench: Mapping[str, Any], text: str) -> str:
    """What the finished protocol lacks, empty where nothing."""
    if not _GOALS[lab.line, bench["goal"]](lab):
        return f"the goal {bench['goal']} is not reached"
    if lab.line in ("solution", "culture"):
        left = sorted(set(lab.have) - lab.without)
        if left:
            return f"{left[0]} is left over"
    if bench["hazards"]:
        note = re.findall(r"<note>(.*?)</note>", text, re.DOTALL)
        said = set(re.findall(r"[a-z]+", note[-1].lower())) if note else set()
        silent = sorted(name for name in lab.used & set(WARNINGS) if not {name, WARNINGS[name]} <= said)
        if silent:
            return f"the note does not warn of {silent[0]}"
    return ""


def _read(text: str) -> list[tuple[str, list[str], list[str]]] | None:
    if len(text) > MAX_CHARACTERS or text.count("<key>") != 1 or text.count("</key>") != 1:
        return None
    body = text.split("<key>")[1].split("</key>")[0]
    lines = [line.strip() for line in body.split("\n") if line.strip()]
    if not 0 < len(lines) <= MAX_STEPS:
        return None
    steps = []
    for line in lines:
        match = _STEP.fullmatch(line)
        try:
            fields = json.loads(match[1]) if match else None
        except (ValueError, RecursionError):
            return None
        if not isinstance(fields, dict) or set(fields) != {"action", "objects", "parameters"} or not isinstance(fields["action"], str):
            return None
        objects, parameters = _texts(fields["objects"]), _texts(fields["parameters"])
        if objects is None or parameters is None:
            return None
        steps.append((fields["action"].strip().lower(), objects, parameters))
    return steps


def _texts(values: Any) -> list[str] | None:
    """In lowercase; None where it is no list of texts. Half a character (a lone surrogate, which JSON can escape) is none: what is said of
    it could not be stored."""
    if not isinstance(values, list) or not all(isinstance(value, str) and not _HALF.search(value) for value in values):
        return None
    return [value.strip().lower() for value in values]
