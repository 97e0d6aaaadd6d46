"""Characters of each generated token, and back: where a position of the decoded text lies among the token ids.

Always from the ids that were sampled, never by encoding the text again, which may give other ids and adds a start token.
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise

Offsets = Sequence[tuple[int, int]]
"""Per token its characters [start, end); a special token, which is not in the text, has none: start = end."""

PENDING = 8
"""Tokens after which an unfinished character is taken as it is: no character is longer than four bytes."""


def token_offsets(
    ids: Sequence[int], decode: Callable[[list[int]], str], pieces: dict[int, str] | None = None
) -> list[tuple[int, int]]:
    """Characters of each token within decode(ids).

    decode: as the text of the record is made, without special tokens. A character that is made of several tokens belongs to the last of
    them. Only short windows are decoded, so that time is proportional to the length; a window keeps the tokens before it, whose spaces
    some tokenizers would drop. Bytes that are no text are given approximate places, never an error. pieces: texts of single tokens that
    were decoded before, to be filled and given again with the next ids of the same tokenizer; where they add up to the whole text, as
    they mostly do, nothing else is decoded.
    """
    if pieces is not None:
        for token in ids:
            if token not in pieces:
                pieces[token] = decode([token])
        if "".join(pieces[token] for token in ids) == decode(list(ids)):
            ends = list(accumulate((len(pieces[token]) for token in ids), initial=0))
            return list(pairwise(ends))
    offsets: list[tuple[int, int]] = []
    prefix = read = done = 0
    for index in range(len(ids)):
        known = decode(list(ids[prefix:read]))
        seen = decode(list(ids[prefix : index + 1]))
        grown = max(len(seen) - len(known), 0)
        if seen.endswith("\ufffd") and index + 1 < len(ids) and index - read < PENDING:
            offsets.append((done, done))
            continue
        offsets.append((done, done + grown))
        done += grown
        prefix, read = read, index + 1
    return offsets


def token_at(offsets: Offsets, position: int) -> int:
    """Index of the token that holds the character at `position`; the nearest one before where none does; 0 without tokens."""
    found = bisect_right(offsets, position, key=lambda span: span[1])
    return max(min(found, len(offsets) - 1), 0)
