"""The rules that golds are held to when they are made (C.1.4 of the method file), and the gate between key and orc."""

from dataclasses import dataclass

from assay.rewards.protocol.parse import Parsed, Step, parse


class GoldError(ValueError):
    """A gold that breaks the rules of its own format. The message names the first rule."""


@dataclass(frozen=True)
class Consistency:
    """Whether `<orc>` says what `<key>` does: I_cons of SCORE, with its parts."""

    key_lines: int
    orc_lines: int
    items: int
    """Actions, objects and parameters, each once a step."""
    missing: tuple[tuple[int, str], ...]
    """(step, item) that the line of the same number does not mention."""

    @property
    def coverage(self) -> float:
        """Share of the items that are mentioned; 0 where there is none."""
        return 1 - len(self.missing) / self.items if self.items else 0.0

    def passes(self, least: float = 0.95) -> bool:
        return self.key_lines == self.orc_lines and self.coverage >= least


def normalised(text: str) -> str:
    """Without regard to case and amount of white space: how items are compared everywhere."""
    return " ".join(text.casefold().split())


def consistency(parsed: Parsed) -> Consistency:
    """Items of the key that are looked for, as substrings, in the orc line of the same step number.

    An item counts once a step, so that repeating what is mentioned does not make up for what is not. Empty lists bring no items. Where
    several orc lines have one number, the first counts.
    """
    lines: dict[int, str] = {}
    for line in parsed.orc:
        if line.number is not None:
            lines.setdefault(line.number, normalised(line.sentence))
    items, missing = 0, []
    for step in parsed.key:
        wanted = dict.fromkeys(map(normalised, (step.action, *step.objects, *step.parameters)))
        items += len(wanted)
        missing += [(step.number, item) for item in wanted if item not in lines.get(step.number, "")]
    return Consistency(len(parsed.key), len(parsed.orc), items, tuple(missing))


def validate(text: str) -> list[str]:
    """What is wrong with a gold, in sentences; empty where nothing is.

    The format with all blocks filled, key and orc numbered 1..n, as many lines in both, exactly three fields, texts in lowercase, and
    every item of the key mentioned in the orc (a gold must pass the gate that it is compared through, with nothing missing).
    """
    parsed = parse(text)
    if parsed.problems:
        return [f"{problem.message} (character {problem.position})" for problem in parsed.problems]
    found = [
        f"step {step.number}: {value!r} is not lowercase"
        for step in parsed.key
        for value in (step.action, *step.objects, *step.parameters)
        if value != value.lower()
    ]
    numbers = [line.number for line in parsed.orc]
    if numbers != list(range(1, len(numbers) + 1)):
        found.append("the lines of <orc> are not numbered 1..n")
    gate = consistency(parsed)
    if gate.key_lines != gate.orc_lines:
        found.append(f"<key> has {gate.key_lines} lines and <orc> {gate.orc_lines}")
    found += [f"step {number} of <orc> does not mention {item!r}" for number, item in gate.missing]
    return found


def read_gold(text: str) -> tuple[Step, ...]:
    """The steps of a gold. Raises GoldError where `validate` finds something."""
    found = validate(text)
    if found:
        raise GoldError(f"the gold is not a valid protocol: {found[0]}")
    return parse(text).key
