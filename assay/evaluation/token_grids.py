"""Which tokens: those at positions where the policy still chooses, and those that Lp-Reg protects or leaves out."""

from collections.abc import Sequence
from math import exp

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from assay.evaluation.breakdown import Grid, percent
from assay.evaluation.selection import Renderer, clip, visible
from assay.evaluation.tokens import Tokens, TrainedTokens, sums, top_entropy

MOST = 15
"""Rows of a grid."""
LONGEST = 24
"""Characters of a token."""
TOP = 0.2
"""Share of tokens that count as those of highest entropy (80/20 rule)."""
PARTS = {"near_perfect": ("near-perfect, rehearsed", 2), "explore": ("explored", 1), "dropped": ("dropped", 3)}
"""Part of `splits` -> name and colour."""


def forking_grid(windows: Sequence[tuple[str, Tokens]], vocabulary: int, renderer: Renderer | None) -> Grid | None:
    """Tokens sampled where entropy was in the top TOP of their moment, those with the most such places in the last window first.

    What share of these places they fill, how often they stand at one, and at which position on average. None where no entropy is above 0.
    """
    if not windows:
        return None
    tables = [_places(tokens, vocabulary) for _, tokens in windows]
    (top, all_, entropy, position), total = tables[-1], tables[-1][0].sum()
    if not total:
        return None
    rows = []
    for token in _largest(top):
        shares = (_share(table[0][token], table[0].sum()) for table in tables)
        cells = (_share(top[token], all_[token]), f"{entropy[token] / all_[token]:.3f}", f"{position[token] / all_[token]:.1f}")
        rows.append((token_text(token, renderer), *shares, f"{int(all_[token]):,}", *cells))
    shares_of = (f"share of top places, {name}" for name, _ in windows)
    return Grid(("token", *shares_of, "occurrences", "of these in top places", "mean entropy", "mean position"), tuple(rows), 1)


def _places(tokens: Tokens, size: int) -> tuple[NDArray[np.float64], ...]:
    """By token: top places, occurrences, sums of entropy and position."""
    top = top_entropy(tokens, TOP)
    return tuple(sums(tokens.token, w, size) for w in (top, np.ones(len(top)), tokens.entropy, tokens.position))


class Support:
    """Counts by token of what Lp-Reg did with the sampled tokens of a run (arXiv 2510.03222, equations 5 and 6)."""

    def __init__(self, trained: TrainedTokens) -> None:
        size = trained.vocabulary
        self.known = {name for name in ("protected", "kept") if name in trained.flags}
        self.occurrences = np.zeros(size)
        self.protected, self.outside = np.zeros(size), np.zeros(size)
        """Tokens that bore the penalty; sampled tokens that the proxy leaves out as noise."""
        self.logprob = {"protected": np.zeros(size), "outside": np.zeros(size)}
        for tokens in trained.blocks() if self.known else ():
            self.occurrences += sums(tokens.token, np.ones(len(tokens.token)), size)
            for name, total in (("protected", self.protected), ("outside", self.outside)):
                flag = tokens.flags.get("protected") if name == "protected" else _outside(tokens)
                if flag is not None:
                    total += sums(tokens.token, flag, size)
                    self.logprob[name] += sums(tokens.token, np.where(flag, tokens.logprob, 0.0), size)

    def sentences(self) -> list[str]:
        """How many were protected, how many left out."""
        every, found = self.occurrences.sum(), []
        if "protected" in self.known:
            count = self.protected.sum()
            found.append(f"Protected: {int(count):,} of {int(every):,} trained tokens ({_share(count, every)}).")
        if "kept" in self.known:
            count = self.outside.sum()
            found.append(f"Outside the proxy's support: {int(count):,} of {int(every):,} trained tokens ({_share(count, every)}).")
        return found

    def grid(self, name: str, renderer: Renderer | None) -> Grid | None:
        """name: protected or outside. Geometric mean of the probability that the policy gave the token where it was sampled so."""
        counts = self.protected if name == "protected" else self.outside
        if not counts.sum():
            return None
        rows = []
        for token in _largest(counts):
            probability = exp(self.logprob[name][token] / counts[token])
            shares = (_share(counts[token], counts.sum()), _share(counts[token], self.occurrences[token]))
            rows.append((token_text(token, renderer), f"{int(counts[token]):,}", *shares, f"{probability:.2g}"))
        word = "protected" if name == "protected" else "outside"
        return Grid(("token", word, f"share of all {word}", "share of its occurrences", "mean probability"), tuple(rows), 1)


def _outside(tokens: Tokens) -> NDArray[np.bool_] | None:
    return ~tokens.flags["kept"] if "kept" in tokens.flags else None


def split_grid(splits: pa.Table | None) -> Grid | None:
    """Presampled tasks by part, for each environment; None without them."""
    if splits is None or not len(splits):
        return None
    rows = splits.select(["environment", "subset", "solved", "samples", "recheck"]).to_pylist()
    found = []
    for name in sorted({row["environment"] for row in rows}):
        mine = [row for row in rows if row["environment"] == name]
        counts = (f"{sum(row['subset'] == part for row in mine):,}" for part in PARTS)
        failed = sum(row["recheck"] is False for row in mine)
        share = sum(row["solved"] for row in mine) / max(sum(row["samples"] for row in mine), 1)
        never = sum(row["solved"] == 0 for row in mine)
        found.append((name, f"{len(mine):,}", *counts, f"{failed:,}", f"{never:,}", f"{share:.3f}"))
    header = ("environment", "tasks", *(text for text, _ in PARTS.values()), "recheck failed", "never solved", "share of samples solved")
    return Grid(header, tuple(found), 1)


def token_text(token: int, renderer: Renderer | None) -> str:
    """A token as a person sees it: white space as signs; special ones, and pieces of characters, by their id."""
    text = "" if renderer is None else renderer.text((token,))
    if not text and renderer is not None:
        return f"special token {token}"
    if not text or "\ufffd" in text:
        return f"token {token}"
    return clip(visible(text).translate({0x20: "␣", 0x0A: "⏎", 0x09: "⇥"}), LONGEST)


def _largest(counts: NDArray[np.float64]) -> list[int]:
    """Ids of the largest counts above 0, ties by id."""
    order = np.argsort(-counts, kind="stable")[:MOST]
    return [int(token) for token in order if counts[token] > 0]


def _share(part: float, whole: float) -> str:
    return percent(part / whole if whole else 0.0)
