"""Seeded databases: which tables and columns there are, and what stands in them. Pure functions of text, seed and number of rows.

The vocabulary is small on purpose: a policy of 0.3 million parameters has a tokenizer of a few hundred tokens, and every name that is
one of them makes its prompts shorter.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from random import Random

from assay.trajectories import seed_from

Row = tuple[str | int | None, ...]

NAMES = (
    "ada", "ben", "cleo", "dan", "eva", "finn", "gil", "hal", "ida", "jon", "kim", "leo", "mia", "ned", "ola", "pam", "quin", "rob", "sue",
    "tom", "uma", "val", "wes", "xia", "yan", "zoe", "abe", "bea", "cal", "dee", "eli", "fay",
)  # fmt: skip
"""Values of the column `name`, each once in a table."""
CATEGORIES: dict[str, tuple[str, ...]] = {
    "town": ("rome", "oslo", "lima", "kyiv"),
    "color": ("red", "blue", "green", "gray"),
    "kind": ("old", "new", "rare", "plain"),
}
"""Columns of text that repeats, with their values."""
NUMBERS: dict[str, tuple[int, int]] = {"age": (10, 99), "pay": (10, 99), "cost": (10, 99), "size": (10, 99)}
"""Columns of integers, no two equal in a table, so that an order by one of them has no ties; smallest and largest."""
GRADES: dict[str, tuple[int, int]] = {"mark": (1, 9)}
"""Columns of integers that repeat and are sometimes null."""
TABLES = ("emp", "pet", "car", "book")
"""Tables that questions are about."""
PARENTS: dict[str, tuple[str, tuple[str, ...]]] = {"team": ("tid", ("town", "size")), "shop": ("sid", ("color", "cost"))}
"""Tables that others refer to: their key, and their other columns."""
NULL_SHARE = 0.2
_TABLE = re.compile(r"([a-z]+)\(([a-z,]+)\)")


@dataclass(frozen=True)
class Table:
    """A table's name and columns, in order."""

    name: str
    columns: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.name}({','.join(self.columns)})"

    def numbers(self) -> list[str]:
        return [column for column in self.columns if column in NUMBERS]

    def categories(self) -> list[str]:
        return [column for column in self.columns if column in CATEGORIES]

    def grades(self) -> list[str]:
        return [column for column in self.columns if column in GRADES]

    def shown(self) -> list[str]:
        """Columns that a question may ask for."""
        return [column for column in self.columns if not is_key(column)]


@dataclass(frozen=True)
class Schema:
    """The tables of a database: the one that questions are about, and at most one that it refers to."""

    tables: tuple[Table, ...]

    def __str__(self) -> str:
        return " ".join(map(str, self.tables))


def is_key(column: str) -> bool:
    """Whether it joins two tables."""
    return any(column == key for key, _ in PARENTS.values())


def parse(text: str) -> Schema:
    """Inverse of `str`. Raises ValueError for what `str` cannot have written."""
    schema = Schema(tuple(Table(name, tuple(columns.split(","))) for name, columns in _TABLE.findall(text)))
    known = {"name", *CATEGORIES, *NUMBERS, *GRADES, *(key for key, _ in PARENTS.values())}
    if str(schema) != text or any(column not in known for table in schema.tables for column in table.columns):
        raise ValueError(f"{text!r} is no schema of a seeded database")
    return schema


def draw_schema(random: Random, two_tables: bool) -> Schema:
    """A table with a name and two or three columns in any order: a number, a category, perhaps one more. With `two_tables` it refers to
    another table, and has two."""
    parent = random.choice(sorted(PARENTS)) if two_tables else None
    others = PARENTS[parent][1] if parent else ()
    columns = [random.choice([column for column in kind if column not in others]) for kind in (NUMBERS, CATEGORIES)]
    if parent is None and random.random() < 0.7:
        columns.append(random.choice([column for column in (*NUMBERS, *CATEGORIES, *GRADES) if column not in columns]))
    random.shuffle(columns)
    table = Table(random.choice(TABLES), ("name", *columns))
    if parent is None:
        return Schema((table,))
    key = PARENTS[parent][0]
    return Schema((Table(table.name, (*table.columns, key)), Table(parent, (key, *others))))


def draw_schemas(number: int, seed: int, apart_from: Sequence[Schema] = ()) -> list[Schema]:
    """Different schemas, every second one with two tables. Fewer where there are no more."""
    random, taken = Random(seed), set(apart_from)
    found: list[Schema] = []
    for _ in range(50 * number):
        if len(found) == number:
            break
        schema = draw_schema(random, two_tables=len(found) % 2 == 1)
        if schema not in taken:
            taken.add(schema)
            found.append(schema)
    return found


@lru_cache(maxsize=4096)
def content(text: str, seed: int, rows: int) -> tuple[tuple[Table, tuple[Row, ...]], ...]:
    """Tables of a schema with their rows, parents first half as long. Equal arguments give equal rows in every process."""
    schema = parse(text)
    filled: list[tuple[Table, tuple[Row, ...]]] = []
    keys: list[int] = []
    for table in reversed(schema.tables):
        random = Random(seed_from(seed, "rows", str(table)))
        is_parent = table is not schema.tables[0]
        count = max(2, rows // 2) if is_parent else rows
        columns = [_column(column, count, random, keys, is_parent) for column in table.columns]
        if is_parent:
            keys = list(range(1, count + 1))
        filled.append((table, tuple(zip(*columns, strict=True))))
    return tuple(reversed(filled))


def _column(column: str, rows: int, random: Random, keys: list[int], is_parent: bool) -> Sequence[str | int | None]:
    if column == "name":
        return random.sample(NAMES, rows)
    if column in CATEGORIES:
        return random.choices(CATEGORIES[column], k=rows)
    if column in NUMBERS:
        low, high = NUMBERS[column]
        return random.sample(range(low, high + 1), rows)
    if column in GRADES:
        low, high = GRADES[column]
        return [None if random.random() < NULL_SHARE else random.randint(low, high) for _ in range(rows)]
    return range(1, rows + 1) if is_parent else random.choices(keys, k=rows)


def kind_of(column: str) -> str:
    """The column's type in SQL."""
    return "VARCHAR" if column == "name" or column in CATEGORIES else "INTEGER"
