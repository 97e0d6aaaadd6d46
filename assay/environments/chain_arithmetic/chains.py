"""The question: operations one after another, from left to right, modulo a number."""

from dataclasses import dataclass
from random import Random
from typing import Any


@dataclass(frozen=True)
class Chain:
    """A question: a first number, and what is done to it step by step, modulo `modulus`."""

    start: int
    operations: tuple[tuple[str, int], ...]
    """Sign (+, - or *) and operand of each step, at least one."""
    modulus: int

    def results(self, value: int, first: int = 0) -> list[int]:
        """Of steps `first` (from 0) to the last, begun with `value`; each in 0 .. modulus - 1."""
        found = []
        for sign, operand in self.operations[first:]:
            value = (value + operand if sign == "+" else value - operand if sign == "-" else value * operand) % self.modulus
            found.append(value)
        return found

    def expression(self) -> str:
        """`7 + 6 * 2`, from left to right."""
        return " ".join([str(self.start), *(f"{sign} {operand}" for sign, operand in self.operations)])

    def question(self) -> str:
        """`from left to right, modulo 10: 7 + 6 * 2 = ?`, which is ((7 + 6) * 2) mod 10."""
        return f"from left to right, modulo {self.modulus}: {self.expression()} = ?"

    def meta(self) -> dict[str, Any]:
        return {"start": self.start, "operations": [list(operation) for operation in self.operations], "modulus": self.modulus}

    @classmethod
    def from_meta(cls, meta: dict[str, Any]) -> "Chain":
        return cls(meta["start"], tuple((sign, operand) for sign, operand in meta["operations"]), meta["modulus"])


def draw_chain(signs: tuple[str, ...], steps: tuple[int, int], modulus: int, max_operand: int, random: Random) -> Chain:
    """Operands are 1 .. max_operand; the number of steps is drawn between the two, both included."""
    start = random.randint(1, max_operand)
    count = random.randint(*steps)
    return Chain(start, tuple((random.choice(signs), random.randint(1, max_operand)) for _ in range(count)), modulus)
