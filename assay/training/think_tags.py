"""Whether prompts open the thinking themselves, as newer chat templates do: a complete think block then needs the close tag alone."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from assay.engines import load_tokenizer
from assay.training.ragged import Ragged

TAIL = 16
"""Tokens at a prompt's end that are read: a tag and the blanks behind it."""


class ThinkTagError(ValueError):
    """Prompts that are not as the parameters say, or that cannot be read."""


def opened_by_prompt(prompts: Ragged, names: Sequence[str], folder: Path | None, tag: str, stated: bool | None) -> np.ndarray:
    """(rows,) bool: the prompt ends with the open tag.

    prompts: token ids. names: trajectory ids. folder: a policy's, for its tokenizer. stated: rewards.levels.opened_by_prompt; None: only
    what the prompts show counts. Raises ThinkTagError where both are known and differ, and where neither is.
    """
    if folder is None:
        if stated is None:
            raise ThinkTagError(
                "rewards.levels.no_format is set, so prompts must be read to see whether they open the thinking: give a policy's folder as "
                "`policy` or `reference`, or set rewards.levels.opened_by_prompt"
            )
        return np.full(len(prompts), stated)
    tokenizer = _tokenizer(folder)
    known: dict[tuple[int, ...], bool] = {}
    found = np.zeros(len(prompts), dtype=bool)
    for row in range(len(prompts)):
        end = prompts.offsets[row + 1]
        tail = tuple(prompts.values[max(prompts.offsets[row], end - TAIL) : end].tolist())
        if tail not in known:
            text = tokenizer.decode(list(tail), skip_special_tokens=True, clean_up_tokenization_spaces=False)
            known[tail] = text.rstrip().endswith(tag)
        found[row] = known[tail]
    if stated is not None and (found != stated).any():
        row = int(np.flatnonzero(found != stated)[0])
        shown, said = "ends" if found[row] else "does not end", str(stated).lower()
        raise ThinkTagError(
            f"trajectory {names[row]}: its prompt {shown} with {tag!r}, but rewards.levels.opened_by_prompt is {said}: leave that key out, "
            "so that prompts are read, or correct the chat template"
        )
    return found


@lru_cache(maxsize=2)
def _tokenizer(folder: Path) -> Any:
    """Fused rounds ask for the same one again and again."""
    return load_tokenizer(folder)
