"""Protocols as text: Sketch-and-Fill answers, and flat prose for pre-training."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from assay.environments.protocols.planning import Pairs, layers
from assay.rewards.protocol import parse

_BEFORE_PARAMETERS: dict[str, tuple[str, ...]] = {
    "mix": ("for",), "spin": ("at", "for"), "stain": ("for",), "chill": ("to",), "heat": ("to",), "boil": ("for",),
    "incubate": ("at", "for"), "store": ("at",),
}  # fmt: skip
FIXED_PIECES = (
    "<think>", "</think>\n", "<key>\n", "</key>\n", "<orc>\n", "</orc>\n", "<note>", "</note>",
    *(f"Step {number}: " for number in range(1, 8)), '{"action": "', '", "objects": ["', '"], "parameters": ["', '"], "parameters": []}\n',
    '", "', '"]}\n', ".\n",
)  # fmt: skip
"""What never changes in an answer. A tokenizer that makes each of them one token halves an answer (policy.shape.pieces)."""
_BETWEEN_OBJECTS = {"stain": " with "}


@dataclass(frozen=True)
class Line:
    """A step as it is written."""

    action: str
    objects: tuple[str, ...]
    parameters: tuple[str, ...]


def sentence(line: Line) -> str:
    """A step in words: `Spin the tube at 300 xg for 5 min.` Every object and parameter occurs in it."""
    verb = line.action.capitalize()
    if line.action == "add":
        parts = [" and ".join(texts) for texts in (line.parameters, line.objects) if texts]
        return f"{verb} {' of '.join(parts)}."
    words = [verb, f"the {_BETWEEN_OBJECTS.get(line.action, ' and ').join(line.objects)}"] if line.objects else [verb]
    prepositions = _BEFORE_PARAMETERS.get(line.action, ())
    for place, parameter in enumerate(line.parameters):
        words += [prepositions[place] if place < len(prepositions) else "with", parameter]
    return " ".join(words) + "."


def key_line(number: int, line: Line) -> str:
    """One step of the block `key`: its number, from 1, and its fields as JSON."""
    fields = {"action": line.action, "objects": list(line.objects), "parameters": list(line.parameters)}
    return f"Step {number}: {json.dumps(fields, ensure_ascii=False)}"


def sketch_and_fill(think: str, lines: Sequence[Line], note: str) -> str:
    """The whole answer."""
    key = "\n".join(key_line(number, line) for number, line in enumerate(lines, 1))
    orc = "\n".join(f"Step {number}: {sentence(line)}" for number, line in enumerate(lines, 1))
    return f"<think>{think}</think>\n<key>\n{key}\n</key>\n<orc>\n{orc}\n</orc>\n<note>{note}</note>"


def thought(lines: Sequence[Line], pairs: Pairs) -> str:
    """What must come before what: `add and add before boil before pour`."""
    steps = [" and ".join(lines[place - 1].action for place in layer) for layer in layers(len(lines), pairs)]
    return " before ".join(steps)


def flattened(title: str, lines: Sequence[Line]) -> str:
    """A protocol as a paragraph: what pre-training on protocol texts sees."""
    return f"{title.capitalize()}. {' '.join(sentence(line) for line in lines)}"


def in_prose(title: str, gold: str) -> str:
    """The same of a gold that nobody has the plan of: the sentences of its orc."""
    begin = title.strip()
    return f"{begin}{'' if begin.endswith(('.', '?', '!')) else '.'} {' '.join(line.sentence for line in parse(gold).orc)}"
