"""Demonstrations as tensors, and the order in which a supervised run sees them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np

from assay.engines import Renderer
from assay.params import Params
from assay.training.tokenizer import MESSAGE_END
from assay.trajectories import seed_from

IGNORED = -100
"""Label of a token that bears no loss."""


class WarmStartError(ValueError):
    """Demonstrations or texts that no policy can be trained on."""


@dataclass(frozen=True)
class Demonstrations:
    """Token ids of prompts and of what follows them, padded once for all batches."""

    ids: np.ndarray
    """(rows, longest) int64"""
    labels: np.ndarray
    """(rows, longest) int64: the ids of what the policy writes, IGNORED on prompts, on what others say (tools) and on padding."""
    lengths: np.ndarray
    """(rows,)"""

    def __len__(self) -> int:
        return len(self.lengths)


Piece = tuple[Sequence[int], bool]
"""Token ids, and whether they bear loss."""


@dataclass(frozen=True)
class Limit:
    """The most tokens that a row may have; None: any number."""

    tokens: int | None
    name: str


def encode(
    tokenizer: Any, prompts: list[str], completions: list[str], limit: Limit, keys: list[str], start: Sequence[int] = ()
) -> Demonstrations:  # fmt: skip
    """Encode rendered prompts and completions (end token included), `start` before each. Raises ValueError naming the row that is too
    long."""
    before = tokenizer(prompts, add_special_tokens=False)["input_ids"]
    after = tokenizer(completions, add_special_tokens=False)["input_ids"]
    rows: list[list[Piece]] = [[((*start, *a), False), (b, True)] for a, b in zip(before, after, strict=True)]
    return _padded(rows, _padding(tokenizer), limit, keys)


def encode_rows(
    renderer: Renderer, rows: Sequence[Mapping[str, Any]], prompts: list[str], limit: Limit, end: str = MESSAGE_END
) -> Demonstrations:  # fmt: skip
    """Encode rows of `demonstrations`, of one turn or of several: those of the policy bear loss, with their end tokens; what others say in
    between does not, and is encoded as it is when a task is played. Raises ValueError naming the row that is too long."""
    before = [(*renderer.prefix_ids, *ids) for ids in renderer.tokenizer(prompts, add_special_tokens=False)["input_ids"]]
    said = [f"{message['content']}{end}" for row in rows for message in turns_of(row) if message["role"] == "assistant"]
    own = iter(renderer.tokenizer(said, add_special_tokens=False)["input_ids"])
    found: list[list[Piece]] = []
    for row, ids in zip(rows, before, strict=True):
        pieces: list[Piece] = [(ids, False)]
        for is_own, messages in groupby(turns_of(row), key=lambda message: message["role"] == "assistant"):
            said_here = list(messages)
            pieces += [(next(own), True) for _ in said_here] if is_own else [(renderer.continuation_ids(said_here), False)]
        found.append(pieces)
    return _padded(found, _padding(renderer.tokenizer), limit, [row["task_id"] for row in rows])


def turns_of(row: Mapping[str, Any]) -> Sequence[Mapping[str, str]]:
    """What follows the prompt of a demonstration, as messages."""
    return row["turns"] or [{"role": "assistant", "content": row["completion"]}]


def _padding(tokenizer: Any) -> int:
    """Any token will do: it bears no loss, and what stands before it does not see it."""
    return 0 if tokenizer.pad_token_id is None else int(tokenizer.pad_token_id)


def _padded(rows: Sequence[Sequence[Piece]], padding: int, limit: Limit, keys: list[str]) -> Demonstrations:
    lengths = np.array([sum(len(ids) for ids, _ in pieces) for pieces in rows])
    width = int(lengths.max())
    if limit.tokens is not None and width > limit.tokens:
        row = int(lengths.argmax())
        raise ValueError(
            f"demonstration of task {keys[row]} has {width} tokens, but {limit.name} is {limit.tokens}; "
            "raise it or remove the task"
        )
    ids = np.full((len(lengths), width), padding, dtype=np.int64)
    labels = np.full_like(ids, IGNORED)
    for row, pieces in enumerate(rows):
        position = 0
        for part, bears_loss in pieces:
            ids[row, position : position + len(part)] = part
            if bears_loss:
                labels[row, position : position + len(part)] = part
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


def rendered(params: Params, template: str, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Prompts of demonstrations, rendered by the template before there is a tokenizer."""
    return _rendered(params, template, [row["prompt"] for row in rows], complete=False)


def continued(params: Params, template: str, rows: Sequence[Mapping[str, Any]], prompts: Sequence[str]) -> list[str]:
    """What follows each rendered prompt, end tokens written out: what a tokenizer learns its merges from."""
    several = [row for row in rows if row["turns"]]
    whole = iter(_rendered(params, template, [[*row["prompt"], *row["turns"]] for row in several], complete=True) if several else ())
    return [
        next(whole).removeprefix(prompt) if row["turns"] else f"{row['completion']}{MESSAGE_END}"
        for row, prompt in zip(rows, prompts, strict=True)
    ]


def _rendered(params: Params, template: str, conversations: Sequence[Sequence[Mapping[str, str]]], *, complete: bool) -> list[str]:
    """complete: to the end of the last message; else up to where the policy's turn begins."""
    from transformers.utils.chat_template_utils import render_jinja_template

    found = []
    for conversation in conversations:
        messages = [dict(message) for message in conversation]
        if params.policy.system_prompt is not None and not any(m["role"] == "system" for m in messages):
            messages.insert(0, {"role": "system", "content": params.policy.system_prompt})
        found.append(messages)
    texts, _ = render_jinja_template(
        found, chat_template=template, add_generation_prompt=not complete, **dict(params.policy.chat_template_arguments)
    )
    return texts
