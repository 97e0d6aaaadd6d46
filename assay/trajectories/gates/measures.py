"""Small vectorised measures of Arrow columns: the frames that the suites look at are made of these."""

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Column = Any
"""pa.Array or pa.ChunkedArray."""


def lengths(column: Column) -> NDArray[np.int64]:
    """Elements of each list; 0 for null."""
    return _numpy(pc.fill_null(pc.list_value_length(column), 0)).astype(np.int64)


def occurrences(column: Column) -> NDArray[np.int64]:
    """How often each row's value occurs in the column."""
    return counts(column, column)


def counts(wanted: Column, among: Column) -> NDArray[np.int64]:
    """How often each value of `wanted` occurs in `among`."""
    dictionary = pc.unique(pa.chunked_array([*_chunks(wanted), *_chunks(among)], type=wanted.type))
    tally = np.bincount(_numpy(pc.index_in(among, dictionary)), minlength=len(dictionary))
    return tally[_numpy(pc.index_in(wanted, dictionary))]


def is_known(column: Column, among: Column) -> NDArray[np.bool_]:
    """(rows,) whether each value occurs in `among`."""
    return _numpy(pc.is_in(column, value_set=pa.chunked_array(_chunks(among), type=among.type).combine_chunks()))


def per_row(values: NDArray, sizes: NDArray[np.int64], function: np.ufunc, empty: float) -> NDArray:
    """`function` reduced over the elements of each row, which lie one behind the other in `values`."""
    result = np.full(len(sizes), empty, dtype=np.result_type(values.dtype, type(empty)))
    filled = sizes > 0
    if filled.any():
        starts = np.concatenate(([0], np.cumsum(sizes[filled])[:-1]))
        result[filled] = function.reduceat(values, starts)
    return result


def elements(column: Column) -> NDArray:
    """All elements of all lists, one behind the other."""
    return _numpy(pc.list_flatten(column))


def _numpy(column: Column) -> NDArray:
    flat = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return flat.to_numpy(zero_copy_only=False)


def _chunks(column: Column) -> list[pa.Array]:
    return column.chunks if isinstance(column, pa.ChunkedArray) else [column]


def least_share(count: int, rows: int) -> float:
    """Lower end of Wilson's interval of three standard errors for count of rows: an environment may have few of a round's rows, and is
    looked at in every round."""
    if not count:
        return 0.0
    z, share = 3.0, count / rows
    middle, half = share + z * z / (2 * rows), z * math.sqrt(share * (1 - share) / rows + z * z / (4 * rows * rows))
    return (middle - half) / (1 + z * z / rows)
