"""Demonstrations as tensors, and the order in which a supervised run sees them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from assay.params import Params
from assay.trajectories import seed_from

IGNORED = -100
"""Label of a token that bears no loss."""


class WarmStartError(ValueError):
    """Demonstrations or texts that no policy can be trained on."""


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
            f"demonstration of task {keys[row]} has {width} tokens, but policy.shape.max_positions is {longest}; "
            "raise it or remove the task"
        )
    ids = np.full((len(lengths), width), tokenizer.pad_token_id, dtype=np.int64)
    labels = np.full_like(ids, IGNORED)
    for row, (a, b) in enumerate(zip(before, after, strict=True)):
        ids[row, : len(a) + len(b)] = a + b
        labels[row, len(a) : len(a) + len(b)] = b
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


def by_width(batch: np.ndarray, lengths: np.ndarray) -> list[np.ndarray]:
    """The rows of a batch in one part, or those that are far longer than most in a second one."""
    long = lengths[batch] > LONG * np.median(lengths[batch])
    return [batch[~long], batch[long]] if long.any() else [batch]


def rendered(params: Params, template: str, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Prompts of demonstrations, rendered by the template before there is a tokenizer."""
    from transformers.utils.chat_template_utils import render_jinja_template

    conversations = []
    for row in rows:
        messages = [dict(message) for message in row["prompt"]]
        if params.policy.system_prompt is not None and not any(m["role"] == "system" for m in messages):
            messages.insert(0, {"role": "system", "content": params.policy.system_prompt})
        conversations.append(messages)
    texts, _ = render_jinja_template(
        conversations, chat_template=template, add_generation_prompt=True, **dict(params.policy.chat_template_arguments)
    )
    return texts
