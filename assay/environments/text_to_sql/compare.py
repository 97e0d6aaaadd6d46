"""Whether two results are equal: rows as a bag or in order, columns by position, NULL equal to NULL, numbers by value.

Names of columns do not count, and neither do types of numbers (5, 5.0 and DECIMAL 5.00 are equal). Fractional numbers may differ by a
relative TOLERANCE, as sums depend on the order of the rows, and from 0 itself by NOTHING. Text, booleans, numbers and dates are never
equal to one another.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from decimal import Decimal
from typing import Any

TOLERANCE = 1e-9
NOTHING = 1e-9
"""What is left of a sum that should be 0."""
SMALL = 64
"""Rows of a group in which pairs are searched for; a larger one is compared in the order of its numbers."""
Row = Sequence[Any]


def same_result(one: Sequence[Row], other: Sequence[Row], ordered: bool) -> bool:
    """Whether two lists of rows are the same answer. ordered: also in the same order."""
    if len(one) != len(other) or (one and len(one[0]) != len(other[0])):
        return False
    if ordered:
        return all(same_row(a, b) for a, b in zip(one, other, strict=True))
    if Counter(map(_exact, one)) == Counter(map(_exact, other)):
        return True
    if not any(_is_fractional(value) for rows in (one, other) for row in rows for value in row):
        return False
    return _matched(one, other)


def same_row(one: Row, other: Row) -> bool:
    """Value by value."""
    return all(same_value(a, b) for a, b in zip(one, other, strict=True))


def same_value(one: Any, other: Any) -> bool:
    """Whether two values are equal as an answer."""
    if _is_number(one) and _is_number(other):
        if isinstance(one, int) and isinstance(other, int):
            return one == other
        one, other = _float(one), _float(other)
        return _is_close(one, other) or (math.isnan(one) and math.isnan(other))
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and same_row(one, other)
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same_value(value, other[key]) for key, value in one.items())
    return type(one) is type(other) and bool(one == other)


def _float(number: Any) -> float:
    try:
        return float(number)
    except OverflowError:  # a whole number beyond all floats
        return math.inf if number > 0 else -math.inf


def _is_close(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=TOLERANCE, abs_tol=NOTHING if one == 0 or other == 0 else 0.0)


def _matched(one: Sequence[Row], other: Sequence[Row]) -> bool:
    """Each row of the one with a row of the other of its own. Rows are divided by all that is no number, then by numbers that are near each
    other, so that hardly any pairs are left to be tried."""
    groups: dict[Hashable, tuple[list[Row], list[Row]]] = defaultdict(lambda: ([], []))
    for side, rows in enumerate((one, other)):
        for row in rows:
            numbers: list[Any] = []
            groups[_shape(row, numbers)][side].append(numbers)
    return all(len(mine) == len(theirs) and _aligned(mine, theirs) for mine, theirs in groups.values())


def _shape(value: Any, numbers: list[Any]) -> Hashable:
    """A value without its numbers, which are added to `numbers`."""
    if _is_number(value):
        numbers.append(value)
        return "number"
    if isinstance(value, list | tuple):
        return "list", tuple(_shape(item, numbers) for item in value)
    if isinstance(value, dict):
        return "struct", tuple((_key(key), _shape(value[key], numbers)) for key in sorted(value, key=hash))
    return _key(value)


def _aligned(one: Sequence[Row], other: Sequence[Row]) -> bool:
    """Rows of numbers alone, equally many: whether each has its own of the other side."""
    near = [_neighbourhoods(column) for column in zip(*one, *other, strict=True)]
    groups: dict[Hashable, tuple[list[Row], list[Row]]] = defaultdict(lambda: ([], []))
    for side, rows in enumerate((one, other)):
        for row in rows:
            groups[tuple(places[_key(number)] for places, number in zip(near, row, strict=True))][side].append(row)
    return all(len(mine) == len(theirs) and _paired(mine, theirs) for mine, theirs in groups.values())


def _neighbourhoods(column: Sequence[Any]) -> dict[Hashable, int]:
    """For each number of a column the neighbourhood that it is in. Numbers that are equal as an answer are in the same one."""
    exact = all(isinstance(number, int) for number in column)
    places: dict[Hashable, int] = {}
    before: Any = None
    for number in sorted({number for number in column if number == number}):
        tiny = before is not None and max(abs(_float(before)), abs(_float(number))) <= NOTHING
        apart = before is None or exact or not (tiny or _is_close(_float(before), _float(number)))
        places[_key(number)] = (places[_key(before)] if before is not None else 0) + apart
        before = number
    return places | {_key(math.nan): 0}


def _paired(one: Sequence[Row], other: Sequence[Row]) -> bool:
    """Rows of one neighbourhood, equally many. Mostly all are equal to all."""
    if all(map(_is_one_value, zip(*one, strict=True), zip(*other, strict=True))):
        return True
    if all(map(same_row, sorted(one, key=_floats), sorted(other, key=_floats))):
        return True
    return len(one) <= SMALL and _searched(one, other)


def _is_one_value(one: Sequence[Any], other: Sequence[Any]) -> bool:
    """Whether every number of the one side is equal to every one of the other, as far as that is seen at once."""
    numbers = sorted(_float(number) for number in (*one, *other))
    mine, theirs = ({number for number in side if isinstance(number, int)} for side in (one, other))
    return same_value(numbers[0], numbers[-1]) and (not mine or not theirs or len(mine | theirs) == 1)


def _floats(row: Row) -> tuple[float, ...]:
    """For an order. A neighbour of NaN is NaN."""
    return tuple(0.0 if number != number else _float(number) for number in row)


def _searched(one: Sequence[Row], other: Sequence[Row]) -> bool:
    """By augmenting paths (Kuhn 1955)."""
    owner: dict[int, int] = {}

    def place(row: int, tried: set[int]) -> bool:
        for candidate, found in enumerate(other):
            if candidate not in tried and same_row(one[row], found):
                tried.add(candidate)
                if candidate not in owner or place(owner[candidate], tried):
                    owner[candidate] = row
                    return True
        return False

    return all(place(row, set()) for row in range(len(one)))


def _exact(row: Row) -> Hashable:
    return tuple(_key(value) for value in row)


def _key(value: Any) -> Hashable:
    """Equal only for equal values, and hashable."""
    if _is_number(value):
        return "number", "nan" if value != value else value
    if isinstance(value, list | tuple):
        return "list", tuple(map(_key, value))
    if isinstance(value, dict):
        return "struct", tuple((key, _key(item)) for key, item in value.items())
    return _kind(value), value


def _kind(value: Any) -> str:
    return "list" if isinstance(value, list | tuple) else type(value).__name__


def _is_nested(value: Any) -> bool:
    return isinstance(value, list | tuple | dict)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool)


def _is_fractional(value: Any) -> bool:
    return isinstance(value, float | Decimal) or _is_nested(value)
