"""Whether two results are equal: rows as a bag or in order, columns by position, NULL equal to NULL, numbers by value.

Names of columns do not count, and neither do types of numbers (5, 5.0 and DECIMAL 5.00 are equal). Fractional numbers may differ by a
relative TOLERANCE, as sums depend on the order of the rows. Text, booleans, numbers and dates are never equal to one another.
"""

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from decimal import Decimal
from typing import Any

TOLERANCE = 1e-9
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
        one, other = float(one), float(other)
        return one == other or math.isclose(one, other, rel_tol=TOLERANCE, abs_tol=TOLERANCE) or (math.isnan(one) and math.isnan(other))
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and same_row(one, other)
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same_value(value, other[key]) for key, value in one.items())
    return type(one) is type(other) and bool(one == other)


def _matched(one: Sequence[Row], other: Sequence[Row]) -> bool:
    """Each row of the one with a row of the other that is still free. Rows are grouped by what is no number first."""
    free: dict[Hashable, list[Row]] = {}
    for row in other:
        free.setdefault(_coarse(row), []).append(row)
    for row in one:
        candidates = free.get(_coarse(row), [])
        found = next((place for place, candidate in enumerate(candidates) if same_row(row, candidate)), None)
        if found is None:
            return False
        candidates.pop(found)
    return True


def _exact(row: Row) -> Hashable:
    return tuple(_key(value) for value in row)


def _coarse(row: Row) -> Hashable:
    return tuple("number" if _is_number(value) else _kind(value) if _is_nested(value) else _key(value) for value in row)


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
