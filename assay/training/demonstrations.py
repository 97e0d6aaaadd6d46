"""Demonstrations as tensors, and the order in which a supervised run sees them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from assay.engines import Renderer
from assay.engines.rendering import Message
from assay.training.tokenizer import MESSAGE_END
from assay.trajectories import seed_from

IGNORED = -100
"""Label of a token that bears no loss."""


@dataclass(frozen=True)
class Demonstrations:
    """Token ids of prompts and of what follows them, padded once for all batches."""

    ids: np.ndarray
    """(rows, longest) int64"""
    labels: np.ndarray
    """(rows, longest) int64: the ids of the policy's turns, IGNORED on prompt, tool output and padding."""
    lengths: np.ndarray
    """(rows,)"""

    def __len__(self) -> int:
        return len(self.lengths)


def encode(renderer: Renderer, prompts: list[str], turns: Sequence[Sequence[Message]], longest: int, keys: list[str]) -> Demonstrations:
    """Encode rendered prompts and the messages that follow each: those of the policy (assistant) with their end token bear loss, those of
    others do not, and are encoded as they are when a task is played. Raises ValueError naming the row that is too long."""
    before = renderer.tokenizer(prompts, add_special_tokens=False)["input_ids"]
    spoken = [f"{message['content']}{MESSAGE_END}" for row in turns for message in row if message["role"] == "assistant"]
    own = iter(renderer.tokenizer(spoken, add_special_tokens=False)["input_ids"])
    pieces: list[list[tuple[list[int], bool]]] = []
    for row in turns:
        found: list[tuple[list[int], bool]] = []
        for is_own, messages in groupby(row, key=lambda message: message["role"] == "assistant"):
            found += [(next(own), True) for _ in messages] if is_own else [(list(renderer.continuation_ids(list(messages))), False)]
        pieces.append(found)
    lengths = np.array([len(a) + sum(len(ids) for ids, _ in b) for a, b in zip(before, pieces, strict=True)])
    width = int(lengths.max())
    if width > longest:
        row_number = int(lengths.argmax())
        raise ValueError(
            f"demonstration of task {keys[row_number]} has {width} tokens, but policy.shape.max_positions is {longest}; "
            "raise it or remove the task"
        )
    ids = np.full((len(lengths), width), renderer.tokenizer.pad_token_id, dtype=np.int64)
    labels = np.full_like(ids, IGNORED)
    for number, (a, b) in enumerate(zip(before, pieces, strict=True)):
        ids[number, : len(a)] = a
        position = len(a)
        for part, bears_loss in b:
            ids[number, position : position + len(part)] = part
            if bears_loss:
                labels[number, position : position + len(part)] = part
            position += len(part)
    return Demonstrations(ids, labels, lengths)


def batches(rows: Demonstrations, size: int, seed: int, first: int) -> Iterator[np.ndarray]:
    """Row numbers of each batch from batch `first` on, without end. Batch n depends on seed and n alone, so that a resumed
    run goes on with the batches that an uninterrupted one would see.

    Batches are drawn at random, not by length: rows of one length are of one kind, and batches of one kind each made the warm
    start several times slower in examples (pass@1 0.01 against 0.06 after 600 steps), which costs more than the padding.
    """
    size = min(size, len(rows))
    per_epoch = len(rows) // size
    epoch, skip = divmod(first, per_epoch)
    while True:
        order = np.random.default_rng(seed_from(seed, "demonstrations", epoch)).permutation(len(rows))
        for batch in range(skip, per_epoch):
            yield order[batch * size : (batch + 1) * size]
        epoch, skip = epoch + 1, 0


LONG = 3
"""Times the median length, beyond which rows of a batch are computed apart: all others would be padded to them."""
SPARED = 1_024
"""Tokens of padding that must be spared by it before a batch is halved: a part of its own costs something too."""


def by_width(batch: np.ndarray, lengths: np.ndarray) -> list[np.ndarray]:
    """The rows of a batch in one part, those that are far longer than most in a second one, and where rows are many or long, halves of
    about equal length."""
    long = lengths[batch] > LONG * np.median(lengths[batch])
    return [half for part in (batch[~long], batch[long]) if len(part) for half in _halved(part, lengths)]


def _halved(part: np.ndarray, lengths: np.ndarray) -> list[np.ndarray]:
    order = part[np.argsort(lengths[part], kind="stable")]
    short, long = order[: len(order) // 2], order[len(order) // 2 :]
    if not len(short) or (lengths[long[-1]] - lengths[short[-1]]) * len(short) < SPARED:
        return [part]
    return [*_halved(short, lengths), *_halved(long, lengths)]
