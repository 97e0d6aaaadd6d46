"""Which trajectories the report shows: a fixed choice by hash, spread over policies and over kinds of verdict."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from assay.evaluation.samples import ABSTAIN, CORRECT, MISSING, WRONG, Samples
from assay.trajectories import content_hash

CATEGORIES: dict[str, str] = {
    "rule_rejects": "right, but rejected by the rule",
    "rule_accepts": "wrong, but accepted by the rule",
    "abstained": "not decided",
    "truncated": "cut off",
    "wrong": "wrong",
    "correct": "right",
}
"""Every sample belongs to one of these: the first that fits."""
COLOURED_TOKENS = 300
"""Tokens of one completion that are coloured by probability; the rest is plain text."""
STEPS = (0.9, 0.5, 0.2, 0.05)
"""A token of probability above the first is plain; below each further one its colour grows stronger."""


class Renderer(Protocol):
    """The part of assay.engines.rendering.Renderer that the report uses."""

    def text(self, ids: Sequence[int]) -> str: ...

    def rendered(self, messages: Sequence[Mapping[str, str]]) -> str: ...


@dataclass(frozen=True)
class Piece:
    """Consecutive text of one colour. `level`: 0 (likely) to 4 (unlikely)."""

    text: str
    level: int
    probability: str
    """Of the token, for the tooltip; "" where plain."""


@dataclass(frozen=True)
class Shown:
    """One trajectory as the report shows it."""

    trajectory_id: str
    policy: int
    environment: str
    split: str
    category: str
    sample_index: int
    prompt: tuple[Mapping[str, str], ...]
    gold: str
    pieces: tuple[Piece, ...]
    cut: int
    """Characters that are not shown."""
    tokens: int
    mean_logprob: float
    ended: bool
    """With an end token."""
    verdicts: tuple[Mapping[str, Any], ...]


def categories(samples: Samples) -> NDArray[np.int64]:
    """Index into CATEGORIES for each row. Where rule and a better verifier differ, the better one is believed."""
    rule = samples.verdicts["rule"]
    truth = rule
    for role in ("reference", "oracle"):
        codes = samples.verdicts.get(role)
        if codes is not None:
            truth = np.where((codes == MISSING) | (codes == ABSTAIN), truth, codes)
    abstained = (rule == ABSTAIN) | (samples.headline == ABSTAIN)
    tests = (
        (rule == WRONG) & (truth == CORRECT),
        (rule == CORRECT) & (truth == WRONG),
        abstained,
        samples.truncated,
        truth == WRONG,
        truth == CORRECT,
    )
    return np.select(tests, list(range(len(tests))), default=list(CATEGORIES).index("wrong"))


def choose(samples: Samples, per_policy: int) -> NDArray[np.int64]:
    """Rows to show, last policy first: `per_policy` for each, taken in turn from each category, within a category in
    the order of a hash.
    """
    kind = categories(samples)
    names = samples.rows["trajectory_id"].to_pylist()
    chosen: list[int] = []
    for policy in reversed(range(len(samples.iterations))):
        queues = []
        for category in range(len(CATEGORIES)):
            rows = np.flatnonzero((samples.policy == policy) & (kind == category))
            queues.append(sorted((content_hash("report", names[row]), int(row)) for row in rows)[:per_policy])
        picked: list[int] = []
        for turn in range(per_policy):
            picked += [queue[turn][1] for queue in queues if turn < len(queue)]
        chosen += picked[:per_policy]
    return np.array(chosen, dtype=np.int64)


def shown(
    samples: Samples, rows: NDArray[np.int64], verdicts: pa.Table, renderer: Renderer | None, characters: int
) -> list[Shown]:
    """The chosen rows in full. `characters`: longest text and prompt; what is longer is cut, and says so."""
    kind, names = categories(samples), list(CATEGORIES)
    picked = samples.rows.take(pa.array(rows)).to_pylist()
    tasks = samples.tasks.take(pa.array(samples.task[rows])).to_pylist()
    judged = verdicts_by_trajectory(verdicts, [row["trajectory_id"] for row in picked])
    found = []
    for index, row, task in zip(rows, picked, tasks, strict=True):
        pieces = coloured(row, renderer, characters)
        tokens = int(samples.tokens[index])
        found.append(
            Shown(
                row["trajectory_id"],
                samples.iterations[samples.policy[index]],
                task["environment"],
                task["split"],
                names[kind[index]],
                row["sample_index"],
                tuple({"role": m["role"], "content": clip(visible(m["content"]), characters)} for m in task["prompt"]),
                clip(visible(task["gold"]), characters),
                pieces,
                max(len(row["text"]) - characters, 0),
                tokens,
                -float(samples.surprisal[index]) / max(tokens, 1),
                row["finish_reason"] == "stop",
                tuple(judged.get(row["trajectory_id"], ())),
            )
        )
    return found


def coloured(row: Mapping[str, Any], renderer: Renderer | None, characters: int) -> tuple[Piece, ...]:
    """The completion in pieces, one per token, where the tokens' texts can be told apart; else one plain piece."""
    text = row["text"]
    parts = _token_texts(row["completion_ids"][:COLOURED_TOKENS], text, renderer) if renderer is not None else None
    if parts is None:
        return (Piece(visible(text[:characters]), 0, ""),)
    pieces: list[Piece] = []
    used = 0
    for part, logprob in zip(parts, row["sampled_logprobs"], strict=False):
        if used + len(part) > characters:
            break
        used += len(part)
        probability = exp(min(logprob, 0.0))
        level = sum(probability < step for step in STEPS)
        if part and level == 0 and pieces and pieces[-1].level == 0:
            pieces[-1] = Piece(pieces[-1].text + visible(part), 0, "")
        elif part:
            pieces.append(Piece(visible(part), level, f"{probability:.2g}" if level else ""))
    rest = text[used:characters]
    return (*pieces, Piece(visible(rest), 0, "")) if rest else tuple(pieces)


def _token_texts(ids: Sequence[int], text: str, renderer: Renderer) -> list[str] | None:
    """Text of each token so that they join to a beginning of `text`; None where the tokenizer does not allow it."""
    parts = [renderer.text((token,)) for token in ids]
    if text.startswith("".join(parts)):
        return parts
    # Tokens that are parts of a character, or whose spaces depend on their neighbours: decode growing prefixes.
    ends = [renderer.text(tuple(ids[: i + 1])) for i in range(len(ids))]
    parts, done = [], 0
    for end in ends:
        if not text.startswith(end) or len(end) < done:
            parts.append("")
            continue
        parts.append(end[done:])
        done = len(end)
    return parts if done else None


def verdicts_by_trajectory(verdicts: pa.Table, wanted: Sequence[str]) -> dict[str, list[Mapping[str, Any]]]:
    """Verdicts of the wanted trajectories, the rule's first."""
    rows = verdicts.filter(pc.is_in(verdicts["trajectory_id"], value_set=pa.array(wanted, pa.string()))).to_pylist()
    order = {"rule": 0, "reference": 1, "oracle": 2, "judge": 3}
    found: dict[str, list[Mapping[str, Any]]] = {}
    for row in sorted(rows, key=lambda r: (order.get(r["role"], 4), r["role"], r["verifier"], r["verifier_version"])):
        found.setdefault(row["trajectory_id"], []).append(
            row | {"answer": None if row["answer"] is None else clip(visible(row["answer"]), 200)}
        )
    return found


def clip(text: str, characters: int) -> str:
    """The beginning of a long text, with what is left out counted."""
    return text if len(text) <= characters else f"{text[:characters]}… ({len(text) - characters:,} more characters)"


def visible(text: str) -> str:
    """Control characters and direction marks, which could hide or reorder what a model wrote, as visible signs. Line
    ends stay.
    """
    return text.translate(_SIGNS)


_SIGNS = (
    {code: chr(0x2400 + code) for code in range(0x20) if code not in (0x09, 0x0A)}
    | {0x7F: "\u2421"}
    | {code: "\ufffd" for code in range(0x80, 0xA0)}
    | {
        code: f"⟨U+{code:04X}⟩"
        for code in (
            0x061C,
            0x200B,
            0x200E,
            0x200F,
            0x2028,
            0x2029,
            *range(0x202A, 0x202F),
            *range(0x2066, 0x206A),
            0xFEFF,
        )
    }
    | {code: "\ufffd" for code in range(0xD800, 0xE000)}
)
