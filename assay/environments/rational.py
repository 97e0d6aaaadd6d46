"""Rational arithmetic: a built-in family whose answers can be written in several equal ways (1/2, 0.5, 3/6).

A verifier that compares strings rejects all ways but one: real false negatives, and an exact oracle to count them.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from random import Random

from assay.environments.base import Candidate
from assay.environments.task import Task
from assay.params.data import RationalArithmetic
from assay.trajectories import seed_from

MAX_PLACES = 4
"""Decimals longer than this are not written, neither in prompts nor in demonstrations."""
MAX_PRODUCT = 9999
"""The unreduced form is not written over a larger denominator."""
_OPERAND = re.compile(r"\d+(?:\.\d+|/\d+)?")


@lru_cache(maxsize=1 << 16)
def _operand(text: str) -> Fraction:
    return Fraction(text)


@dataclass(frozen=True)
class Form:
    """One way of writing a right answer."""

    name: str
    weight: float
    """Relative frequency among the forms that a given answer has."""
    write: Callable[[Fraction, str], str | None]
    """(answer, text of the question) -> the answer in this form, None where it has no such form or none that
    differs."""


def canonical(answer: Fraction, question: str = "") -> str:
    """Lowest terms, the sign in front, no denominator of one: `3/4`, `-2`, `5`."""
    return str(answer)


def decimal(answer: Fraction, question: str = "") -> str | None:
    """The exact decimal with one to MAX_PLACES places (`0.75`, `5.0`), None where there is none."""
    if 10**MAX_PLACES % answer.denominator:
        return None
    places = next(n for n in range(1, MAX_PLACES + 1) if 10**n % answer.denominator == 0)
    digits = f"{abs(answer.numerator) * (10**places // answer.denominator):0{places + 1}d}"
    return f"{'-' if answer < 0 else ''}{digits[:-places]}.{digits[-places:]}"


def unreduced(answer: Fraction, question: str) -> str | None:
    """Over the product of the operands' denominators, as it comes out before cancelling: 1/2 + 0.25 = 6/8."""
    product = 1
    for operand in _OPERAND.findall(question):
        product *= _operand(operand).denominator
    factor, rest = divmod(product, answer.denominator)
    if rest or factor == 1 or product > MAX_PRODUCT:
        return None
    return f"{answer.numerator * factor}/{product}"


def over_one(answer: Fraction, question: str) -> str | None:
    """An integer as a fraction: 5/1."""
    return f"{answer.numerator}/1" if answer.denominator == 1 else None


FORMS = (
    Form("canonical", 0.55, canonical),
    Form("unreduced", 0.20, unreduced),
    Form("decimal", 0.20, decimal),
    Form("over_one", 0.05, over_one),
)
"""The forms of demonstrations, all accepted by the oracle and by math-verify (which rejects +3/4 and 1 3/4: these
are not used)."""


def demonstration(answer: Fraction, question: str, random: Random) -> str:
    """A right answer in a form drawn by weight among those that it has."""
    written = [(form.weight, text) for form in FORMS if (text := form.write(answer, question)) is not None]
    return random.choices([text for _, text in written], [weight for weight, _ in written])[0]


class RationalEnvironment:
    """Sums, differences, products and quotients, e.g. `1/2 + 0.25 = ?` with gold `3/4`.

    Operands are positive fractions n/d in lowest terms with d drawn from 1 .. max_denominator and n/d at most
    max_value; the usual precedence holds, and a fraction after a division sign stands in brackets. Difficulty:
    digits in the question.
    """

    forms = len(FORMS)

    def __init__(self, name: str, params: RationalArithmetic, seed: int) -> None:
        self.name, self.params, self.seed = name, params, seed
        self.notes: list[str] = []

    def has(self, split: str) -> bool:
        return True

    def check(self) -> None:
        """Nothing can be wrong that the parameters do not check already."""

    def candidates(self, split: str) -> Iterator[Candidate]:
        random = Random(seed_from(self.seed, "tasks", self.name, split))
        terms = self.params.ood_terms if split == "ood" else self.params.terms
        kept_as = split if split in ("eval", "ood") else "train"
        index = 0
        while True:
            question, answer = self._question(random, terms)
            difficulty = float(sum(map(str.isdigit, question)))
            task = Task.create(
                self.name, kept_as, question, canonical(answer), "string_match", {"oracle": "rational"}, difficulty
            )
            yield Candidate(task, f"task {index} of split {split}")
            index += 1

    def demonstration(self, task: Task, random: Random) -> str:
        return demonstration(Fraction(task.gold), task.prompt[0]["content"], random)

    def _question(self, random: Random, terms: tuple[int, int]) -> tuple[str, Fraction]:
        """Text and exact value. `total` holds the finished sum, `product` the running product that precedence puts
        first."""
        value, text = self._operand(random)
        total, product = Fraction(0), value
        for _ in range(random.randint(*terms) - 1):
            operation = self.params.operations[int(random.random() * len(self.params.operations))]
            value, written = self._operand(random)
            text += f" {operation} ({written})" if operation == "/" and "/" in written else f" {operation} {written}"
            if operation == "*":
                product *= value
            elif operation == "/":
                product /= value
            else:
                total, product = total + product, value if operation == "+" else -value
        return f"{text} = ?", total + product

    def _operand(self, random: Random) -> tuple[Fraction, str]:
        """Value and text. (`random.random` takes a third of `randint`'s time; its bias over so few values is below
        1e-9.)"""
        whole = self.params.whole > 0 and random.random() < self.params.whole
        denominator = 1 if whole else 1 + int(random.random() * self.params.max_denominator)
        numerator = 1 + int(random.random() * self.params.max_value * denominator)
        value, fraction_text, decimal_text = _written(numerator, denominator)
        as_decimal = decimal_text is not None and random.random() < self.params.decimals
        return value, decimal_text if as_decimal and decimal_text else fraction_text


@lru_cache(maxsize=1 << 16)
def _written(numerator: int, denominator: int) -> tuple[Fraction, str, str | None]:
    """An operand's value, its text in lowest terms, and as a decimal where it has one and is no integer."""
    value = Fraction(numerator, denominator)
    return value, canonical(value), decimal(value) if value.denominator > 1 else None
