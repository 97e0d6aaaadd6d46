"""Demonstrations as tensors, and the order in which a supervised run sees them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from assay.trajectories import seed_from

IGNORED = -100
"""Label of a token that bears no loss."""
CHUNK = 50
"""Batches that are drawn together: rows are sorted by length within a chunk, so that a batch pads little."""


@dataclass(frozen=True)
class Demonstrations:
    """Token ids of prompt and completion, padded once for all batches."""

    ids: np.ndarray
    """(rows, longest) int64"""
    labels: np.ndarray
    """(rows, longest) int64: the completion's ids, IGNORED on prompt and padding."""
    lengths: np.ndarray
    """(rows,)"""

    def __len__(self) -> int:
        return len(self.lengths)


def encode(tokenizer: Any, prompts: list[str], completions: list[str], longest: int, keys: list[str]) -> Demonstrations:
    """Encode rendered prompts and completions (end token included). Raises ValueError naming the row that is too long."""
    before = tokenizer(prompts, add_special_tokens=False)["input_ids"]
    after = tokenizer(completions, add_special_tokens=False)["input_ids"]
    lengths = np.array([len(a) + len(b) for a, b in zip(before, after, strict=True)])
    width = int(lengths.max())
    if width > longest:
        row = int(lengths.argmax())
        raise ValueError(
            f"demonstration of task {keys[row]} has {width} tokens, but policy.shape.max_positions is {longest}; raise it or remove the task"
        )
    ids = np.full((len(lengths), width), tokenizer.pad_token_id, dtype=np.int64)
    labels = np.full_like(ids, IGNORED)
    for row, (a, b) in enumerate(zip(before, after, strict=True)):
        ids[row, : len(a) + len(b)] = a + b
        labels[row, len(a) : len(a) + len(b)] = b
    return Demonstrations(ids, labels, lengths)


def batches(rows: Demonstrations, size: int, seed: int, first: int) -> Iterator[np.ndarray]:
    """Row numbers of each batch from batch `first` on, without end. Batch n depends on seed and n alone, so that a resumed
    run goes on with the batches that an uninterrupted one would see."""
    size = min(size, len(rows))
    per_chunk = max(1, min(CHUNK, len(rows) // size))
    chunk, skip = divmod(first, per_chunk)
    while True:
        rng = np.random.default_rng(seed_from(seed, "demonstrations", chunk))
        drawn = rng.permutation(len(rows))[: per_chunk * size]
        ordered = drawn[np.argsort(rows.lengths[drawn], kind="stable")].reshape(per_chunk, size)
        for batch in rng.permutation(per_chunk)[skip:]:
            yield ordered[batch]
        chunk, skip = chunk + 1, 0
