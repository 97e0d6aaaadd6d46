"""Equality of results: pairs of rows as any order would find them, and at a bearable cost."""

import math
import time
from decimal import Decimal
from itertools import permutations
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.environments.text_to_sql.compare import same_result, same_row, same_value

NEAR = (
    1.0, 1.0 + 4e-10, 1.0 + 9e-10, 1.0 + 1.5e-9, 1, 2, Decimal("1.0"), 0, 0.0, 5e-13, -4e-13, 2e-12, math.nan, math.inf, 10**12, 10**12 + 1,
    1e12,
)  # fmt: skip
"""Near each other, though not each to each."""
values = st.sampled_from((*NEAR, None, "a", True, [1.0, 2], [1.0 + 4e-10, 2], {"x": 1, "y": 2.0}, {"y": 2.0 + 1e-12, "x": 1}))


@settings(deadline=None, max_examples=300)
@given(st.integers(1, 2).flatmap(lambda width: st.lists(st.tuples(*[values] * width), max_size=5)), st.randoms(use_true_random=False))
def test_rows_are_paired_wherever_they_can_be(rows, random):
    """The same as trying all orders. Half of the time the other rows are the same, by other neighbours."""
    if random.random() < 0.5:
        other = [tuple(next((one for one in random.sample(NEAR, 6) if same_value(one, value)), value) for value in row) for row in rows]
    else:
        other = [tuple(random.choice(NEAR) for _ in row) for row in rows]
    random.shuffle(other)
    expected = any(all(map(same_row, rows, order)) for order in permutations(other))
    assert same_result(rows, other, ordered=False) == expected
    assert same_result(other, rows, ordered=False) == expected


@pytest.mark.parametrize("columns", [1, 2])
def test_thousands_of_rows_in_another_order_take_no_quadratic_time(columns):
    random = Random(1)
    one = [tuple(random.uniform(0, 100) for _ in range(columns)) for _ in range(3000)]
    other = [tuple(value * (1 + 1e-13) for value in row) for row in one]
    random.shuffle(other)
    began = time.process_time()
    assert same_result(one, other, ordered=False)
    assert not same_result(one, [*other[1:], tuple(value + 1 for value in other[0])], ordered=False)
    assert time.process_time() - began < 2


def test_small_numbers_are_told_apart_and_what_is_left_of_a_sum_is_zero():
    assert not same_value(5e-10, -4e-10) and not same_value(0, 2e-9) and not same_value(1e-300, 2e-300)
    assert same_value(0, 0.1 + 0.2 - 0.3) and same_value(10000.1 + 20000.2 - 30000.3, 0.0) and same_value(5e-10, 5e-10 * (1 + 1e-13))


def test_a_whole_number_beyond_all_floats_is_like_any_other():
    assert same_result([(10**400, 1.5)], [(10**400, 1.5 + 1e-12)], ordered=False)
    assert not same_result([(10**400, 1.5)], [(1.0, 1.5)], ordered=False)
    assert not same_value(10**400, 1e308) and not same_value(-(10**400), 0.5)
