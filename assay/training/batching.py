"""From stored rows to tensors: optimizer steps, their division among processes and micro-batches, and padding."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from assay.training.ragged import Ragged, Streams


@dataclass(frozen=True)
class Tokens:
    """Rows as tensors: each prompt followed by its completion, padded on the right, so that a causal mask alone
    suffices."""

    input_ids: torch.Tensor
    """(rows, longest) int64."""
    present: torch.Tensor
    """(rows, longest completion) bool: there is a completion token."""
    positions: torch.Tensor
    """(completion tokens,) int64: where, in input_ids flattened, each completion token is predicted from."""
    ids: torch.Tensor
    """(completion tokens,) int64, row after row."""

    def to(self, device: torch.device | str) -> "Tokens":
        return Tokens(*(x.to(device) for x in (self.input_ids, self.present, self.positions, self.ids)))

    def spread(self, values: torch.Tensor) -> torch.Tensor:
        """(completion tokens,) to (rows, longest completion), 0 where there is no token; keeps the gradient."""
        return values.new_zeros(self.present.shape).masked_scatter(self.present, values)


def pack(streams: Streams, rows: np.ndarray) -> Tokens:
    """The given rows of the batch as tensors on the CPU."""
    prompts, completions = streams.prompts.take(rows), streams.completions.take(rows)
    width = int((prompts.lengths + completions.lengths).max())
    ids = np.zeros((len(rows), width), dtype=np.int64)
    ids[prompts.rows, _columns(prompts)] = prompts.values
    column = prompts.lengths[completions.rows] + _columns(completions)
    ids[completions.rows, column] = completions.values
    return Tokens(
        torch.from_numpy(ids),
        torch.from_numpy(np.arange(max(completions.lengths.max(), 1)) < completions.lengths[:, None]),
        torch.from_numpy(completions.rows * width + column - 1),
        torch.from_numpy(completions.values.astype(np.int64)),
    )


def padded(values: Ragged, rows: np.ndarray, width: int, dtype: torch.dtype) -> torch.Tensor:
    """(rows, width): the given rows of a stream, 0 where there is no token."""
    own = values.take(rows)
    out = np.zeros((len(rows), width), dtype=own.values.dtype)
    out[own.rows, _columns(own)] = own.values
    return torch.from_numpy(out).to(dtype)


def _columns(values: Ragged) -> np.ndarray:
    """(values,) the position of each value within its row."""
    return np.arange(len(values.values)) - np.repeat(values.offsets[:-1], values.lengths)


def by_length(lengths: np.ndarray) -> np.ndarray:
    """Row numbers, longest first (what runs out of memory does so at once); equal lengths in their order."""
    return np.argsort(-lengths, kind="stable")


def divide(lengths: np.ndarray, size: int, processes: int = 1, process: int = 0) -> list[np.ndarray]:
    """One process's micro-batches of an optimizer step: arrays of row numbers, every row in exactly one of some
    process.

    lengths: (rows,) tokens. size: most rows in a micro-batch. Rows of about equal length come together, so that
    little is padded. All processes get the same number of micro-batches (sharded models compute in step with each
    other); one that has too few rows gets empty ones.
    """
    order = by_length(lengths)
    most = -(-len(order) // processes)
    count = max(1, -(-most // size))
    return list(np.array_split(order[process::processes], count))


def chunks(streams: Streams, size: int) -> Iterator[np.ndarray]:
    """Micro-batches of every row that has a completion, by length."""
    lengths = streams.prompts.lengths + streams.completions.lengths
    order = by_length(lengths)
    order = order[streams.completions.lengths[order] > 0]
    for start in range(0, len(order), size):
        yield order[start : start + size]
