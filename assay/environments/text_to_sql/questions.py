"""Questions about a seeded database in seven levels, with the query that answers each.

Literals are taken from rows of the database, so that the conditions hold for at least one of them.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random

from assay.environments.text_to_sql.schemas import CATEGORIES, NUMBERS, PARENTS, Row, Schema, Table, content, is_key

LEVELS = (1, 2, 3, 4, 5, 6, 7)
"""Projection, filter, aggregate, two conditions, groups, order and limit, join."""
AGGREGATES = {"mean": "AVG", "max": "MAX", "min": "MIN", "total": "SUM"}
COMPARISONS = {"over": ">", "under": "<", "from": ">=", "up to": "<="}


@dataclass(frozen=True)
class Condition:
    """`column operator literal`; a literal of None: the column is null."""

    column: str
    operator: str
    literal: str | int | None

    def words(self) -> str:
        if self.literal is None:
            return f"no {self.column}"
        if isinstance(self.literal, str):
            return f"{self.column} {'not ' if self.operator == '<>' else ''}{self.literal}"
        word = next(word for word, operator in COMPARISONS.items() if operator == self.operator)
        return f"{self.column} {word} {self.literal}"

    def sql(self) -> str:
        if self.literal is None:
            return f"{self.column} IS NULL"
        return f"{self.column} {self.operator} {self.literal!r}"


@dataclass(frozen=True)
class Query:
    """The parts of a query."""

    table: str
    columns: tuple[str, ...]
    """As they are selected: names, or aggregates."""
    joined: str | None = None
    """The other table, and by which column."""
    key: str = ""
    distinct: bool = False
    conditions: tuple[Condition, ...] = ()
    connective: str = "AND"
    group: str | None = None
    having: str | None = None
    order: str | None = None
    descending: bool = False
    limit: int | None = None

    @property
    def ordered(self) -> bool:
        """Whether the question asks for an order."""
        return self.order is not None

    def sql(self) -> str:
        parts = [f"SELECT {'DISTINCT ' if self.distinct else ''}{', '.join(self.columns)} FROM {self.table}"]
        if self.joined:
            parts.append(f"JOIN {self.joined} USING ({self.key})")
        if self.conditions:
            parts.append("WHERE " + f" {self.connective} ".join(condition.sql() for condition in self.conditions))
        if self.group:
            parts.append(f"GROUP BY {self.group}")
        if self.having:
            parts.append(f"HAVING {self.having}")
        if self.order:
            parts.append(f"ORDER BY {self.order}{' DESC' if self.descending else ''}")
        if self.limit is not None:
            parts.append(f"LIMIT {self.limit}")
        return " ".join(parts)


def ask(schema: Schema, seed: int, rows: int, level: int, random: Random) -> tuple[str, Query]:
    """A question of a level (1 to 7; 7 needs two tables) about the database, and its query. The question names no table: the
    prompt shows the schema before it."""
    (table, body), *others = content(str(schema), seed, rows)
    if level == 7:
        return _join(table, body, others[0][0], others[0][1], random)
    return _MAKERS[level](table, body, random)


def _project(table: Table, body: tuple[Row, ...], random: Random) -> tuple[str, Query]:
    if random.random() < 0.3:
        column = random.choice([*table.categories(), *table.grades()])
        return f"different {column}", Query(table.name, (column,), distinct=True)
    columns = tuple(random.sample(table.shown(), random.randint(1, min(3, len(table.shown())))))
    return "all " + " and ".join(columns), Query(table.name, columns)


def _filter(table: Table, body: tuple[Row, ...], random: Random) -> tuple[str, Query]:
    column, condition = random.choice(table.shown()), _condition(table, random.choice(body), random)
    return f"{column} with {condition.words()}", Query(table.name, (column,), conditions=(condition,))


def _aggregate(table: Table, body: tuple[Row, ...], random: Random) -> tuple[str, Query]:
    if random.random() < 0.3:
        words, selected = "how many", "COUNT(*)"
    else:
        word, column = random.choice(sorted(AGGREGATES)), random.choice([*table.numbers(), *table.grades()])
        words, selected = f"{word} {column}", f"{AGGREGATES[word]}({column})"
    if random.random() < 0.2:
        return words, Query(table.name, (selected,))
    condition = _condition(table, random.choice(body), random)
    return f"{words} with {condition.words()}", Query(table.name, (selected,), conditions=(condition,))


def _two_conditions(table: Table, body: tuple[Row, ...], random: Random) -> tuple[str, Query]:
    column = random.choice(table.shown())
    row = random.choice(body)
    first = _condition(table, row, random)
    second = _condition(table, row, random)
    while second.column == first.column:
        second = _condition(table, row, random)
    connective = random.choice(("AND", "OR"))
    words = f"{column} with {first.words()} {connective.lower()} {second.words()}"
    return words, Query(table.name, (column,), conditions=(first, second), connective=connective)


def _groups(table: Table, body: tuple[Row, ...], random: Random) -> tuple[str, Query]:
    group, kind = random.choice(table.categories()), random.random()
    if kind < 0.25:
        of_group = Counter(row[table.columns.index(group)] for row in body)
        least = random.randint(1, max(1, max(of_group.values()) - 1))
        return f"{group} of over {least}", Query(table.name, (group,), group=group, having=f"COUNT(*) > {least}")
    if kind < 0.4:
        words, selected = "how many", "COUNT(*)"
    else:
        word, column = random.choice(sorted(AGGREGATES)), random.choice([*table.numbers(), *table.grades()])
        words, selected = f"{word} {column}", f"{AGGREGATES[word]}({column})"
    conditions: tuple[Condition, ...] = ()
    if random.random() < 0.5:
        conditions = (_on_number(table, random.choice(body), random),)
    asked = f"{group} and {words}" + "".join(f" with {condition.words()}" for condition in conditions)
    return f"{asked} by {group}", Query(table.name, (group, selected), conditions=conditions, group=group)


def _order(table: Table, body: tuple[Row, ...], random: Random) -> tuple[str, Query]:
    column, order, down = random.choice(table.shown()), random.choice(table.numbers()), random.random() < 0.5
    query = Query(table.name, (column,), order=order, descending=down)
    if random.random() < 0.5:
        limit = random.randint(1, 3)
        return f"{column} of {limit} {'top' if down else 'least'} {order}", replace(query, limit=limit)
    words = f"{column} in order of {order}{' down' if down else ''}"
    if random.random() < 0.5:
        condition = _condition(table, random.choice(body), random)
        return f"{column} with {condition.words()}{words.removeprefix(column)}", replace(query, conditions=(condition,))
    return words, query


def _join(table: Table, body: tuple[Row, ...], parent: Table, parents: tuple[Row, ...], random: Random) -> tuple[str, Query]:
    key = PARENTS[parent.name][0]
    column = random.choice(table.shown())
    base = Query(table.name, (column,), joined=parent.name, key=key)
    kind = random.random()
    if kind < 0.2:
        other = random.choice(parent.shown())
        return f"{column} and {other}", replace(base, columns=(column, other))
    if kind < 0.4:
        category = parent.categories()[0]
        return f"{category} and how many by {category}", replace(base, columns=(category, "COUNT(*)"), group=category)
    row = random.choice(body)
    referred = next(one for one in parents if one[parent.columns.index(key)] == row[table.columns.index(key)])
    conditions = [_condition(parent, referred, random)]
    if random.random() < 0.4:
        conditions.append(_on_number(table, row, random))
    words = " and ".join(condition.words() for condition in conditions)
    return f"{column} with {words}", replace(base, conditions=tuple(conditions))


def _condition(table: Table, row: Row, random: Random) -> Condition:
    """A condition that the row fulfils."""
    column = random.choice([column for column in table.columns if column != "name" and not is_key(column)])
    value = row[table.columns.index(column)]
    if value is None:
        return Condition(column, "IS", None)
    if isinstance(value, str):
        if random.random() < 0.25:
            return Condition(column, "<>", random.choice([other for other in CATEGORIES[column] if other != value]))
        return Condition(column, "=", value)
    return _compared(column, value, random)


def _on_number(table: Table, row: Row, random: Random) -> Condition:
    column = random.choice(table.numbers())
    value = row[table.columns.index(column)]
    assert isinstance(value, int)
    return _compared(column, value, random)


def _compared(column: str, value: int, random: Random) -> Condition:
    operator = random.choice(list(COMPARISONS.values()))
    away = random.randint(1, 9) if column in NUMBERS else 1
    return Condition(column, operator, {">": value - away, "<": value + away, ">=": value, "<=": value}[operator])


_MAKERS: dict[int, Callable[[Table, tuple[Row, ...], Random], tuple[str, Query]]] = {
    1: _project, 2: _filter, 3: _aggregate, 4: _two_conditions, 5: _groups, 6: _order,
}  # fmt: skip
