"""Equal queries that read differently: what a comparison of texts rejects, and what demonstrations show.

They are made from the text of a seeded question's gold, whose grammar is that of `questions.Query.sql`.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

_CONDITION = r"\w+ (?:IS NULL|(?:=|<>|<=|>=|<|>) (?:'\w+'|\d+))"
_PAIR = re.compile(rf"WHERE ({_CONDITION}) (AND|OR) ({_CONDITION})")
_COMPARISON = re.compile(r"([\w()*]+) (<=|>=|<|>) (\d+)")
_STRICT = {">": (">=", 1), "<": ("<=", -1), ">=": (">", -1), "<=": ("<", 1)}
"""The same condition on integers by the other operator, and what is added to the number."""


@dataclass(frozen=True)
class Form:
    """One way of writing a right answer."""

    name: str
    weight: float
    """Relative frequency among the forms that a query has."""
    write: Callable[[str], str]
    """The gold in this form; unchanged where it has no such form."""


def canonical(gold: str) -> str:
    """The gold itself."""
    return gold


def swapped(gold: str) -> str:
    """Both conditions in the other order."""
    return _PAIR.sub(r"WHERE \3 \2 \1", gold)


def shifted(gold: str) -> str:
    """`age > 30` as `age >= 31`: columns are of integers."""

    def other(match: re.Match[str]) -> str:
        operator, shift = _STRICT[match[2]]
        return f"{match[1]} {operator} {int(match[3]) + shift}"

    return _COMPARISON.sub(other, gold)


def renamed(gold: str) -> str:
    """The last column under another name."""
    return gold.replace(" FROM ", " AS x FROM ", 1)


def counted(gold: str) -> str:
    """COUNT(1) for COUNT(*)."""
    return gold.replace("COUNT(*)", "COUNT(1)")


def negated(gold: str) -> str:
    """`NOT town = 'rome'` for `town <> 'rome'`."""
    return re.sub(r"(\w+) <> ('\w+')", r"NOT \1 = \2", gold)


def grouped(gold: str) -> str:
    """GROUP BY for DISTINCT."""
    return re.sub(r"^SELECT DISTINCT (\w+) FROM (\w+)$", r"SELECT \1 FROM \2 GROUP BY \1", gold)


def ascending(gold: str) -> str:
    """ASC written out."""
    return re.sub(r"(ORDER BY \w+)(?= LIMIT|$)", r"\1 ASC", gold)


def on(gold: str) -> str:
    """ON for USING."""
    return re.sub(r"FROM (\w+) JOIN (\w+) USING \((\w+)\)", r"FROM \1 JOIN \2 ON \1.\3 = \2.\3", gold)


FORMS = (
    Form("canonical", 0.60, canonical),
    Form("swapped", 0.10, swapped),
    Form("shifted", 0.10, shifted),
    Form("renamed", 0.05, renamed),
    Form("counted", 0.05, counted),
    Form("negated", 0.05, negated),
    Form("grouped", 0.05, grouped),
    Form("ascending", 0.05, ascending),
    Form("on", 0.05, on),
)
"""All accepted by the oracle."""


def written(gold: str) -> dict[str, str]:
    """The gold in each form in which it reads differently, and as it is."""
    return {form.name: text for form in FORMS if (text := form.write(gold)) != gold or form.name == "canonical"}


def demonstration(gold: str, random: Random) -> str:
    """The gold in a form drawn by weight among those that it has."""
    texts = written(gold)
    return random.choices(list(texts.values()), [form.weight for form in FORMS if form.name in texts])[0]
