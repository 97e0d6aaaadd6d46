"""Columns of lists as flat NumPy arrays with offsets: what the record stores and what tensors are made from."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa


@dataclass(frozen=True)
class Ragged:
    """Rows of different lengths. Row i is values[offsets[i] : offsets[i + 1]]."""

    values: np.ndarray
    offsets: np.ndarray
    """(rows + 1,) int64, from 0 to len(values)."""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> np.ndarray:
        return self.values[self.offsets[row] : self.offsets[row + 1]]

    @property
    def lengths(self) -> np.ndarray:
        return np.diff(self.offsets)

    @property
    def rows(self) -> np.ndarray:
        """(values,) the row of each value."""
        return np.repeat(np.arange(len(self)), self.lengths)

    def take(self, rows: np.ndarray) -> "Ragged":
        """The given rows, in the given order."""
        lengths = self.lengths[rows]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        index = np.arange(offsets[-1]) + np.repeat(self.offsets[:-1][rows] - offsets[:-1], lengths)
        return Ragged(self.values[index], offsets)

    def blanked(self, keep: np.ndarray) -> "Ragged":
        """The same number of rows; those not to be kept are empty."""
        lengths = np.where(keep, self.lengths, 0)
        values = self.values[np.repeat(keep, self.lengths)]
        return Ragged(values, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))

    def sums(self, weights: np.ndarray | None = None) -> np.ndarray:
        """Sum of each row (of `weights`, aligned with the values, where given) in float64."""
        return np.bincount(self.rows, weights=self.values if weights is None else weights, minlength=len(self))

    def column(self, kind: pa.DataType) -> pa.Array:
        """As an Arrow column of the list type `kind`."""
        return pa.ListArray.from_arrays(
            pa.array(self.offsets, pa.int32()), pa.array(self.values, kind.value_type)
        ).cast(kind)


@dataclass(frozen=True)
class Streams:
    """What was sampled, per row: the prompt, and for each completion token its id, whether it bears loss, its
    likelihood."""

    prompts: Ragged
    completions: Ragged
    mask: Ragged
    logprobs: Ragged

    @staticmethod
    def from_table(table: pa.Table) -> "Streams":
        """Of a table with the columns of `trajectories` or `batches`."""
        names = ("prompt_ids", "completion_ids", "loss_mask", "sampled_logprobs")
        return Streams(*(from_column(table[name]) for name in names))

    def blanked(self, keep: np.ndarray) -> "Streams":
        """The same number of rows; those not to be kept have empty lists."""
        return Streams(*(x.blanked(keep) for x in (self.prompts, self.completions, self.mask, self.logprobs)))


def from_column(column: pa.ChunkedArray) -> Ragged:
    """From an Arrow column of lists. A null row is an empty one."""
    whole = column.combine_chunks()
    lengths = whole.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
    flat = whole.flatten()
    return Ragged(flat.to_numpy(zero_copy_only=False), np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))
