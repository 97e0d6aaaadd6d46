"""Tokens of the trained rows as parallel arrays: `token_statistics` beside the ids of the trajectories they are about."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from math import ceil

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from assay.evaluation.estimators import EvaluationError

Moment = tuple[int, int]
"""(iteration, round)."""
Flags = NDArray[np.bool_]
BLOCK = 16_384
"""Rows that are looked at together, where a question needs all rows but not at once."""
WINDOW = 10
"""The first and the last 1 / WINDOW of the moments of a run are compared."""


@dataclass(frozen=True)
class Tokens:
    """Tokens that the policy sampled, one entry each; inserted ones, such as tool output, are left out."""

    moment: NDArray[np.int64]
    """Index into `TrainedTokens.moments`."""
    position: NDArray[np.int64]
    """Within the completion, from 0."""
    token: NDArray[np.int64]
    """Id."""
    entropy: NDArray[np.float64]
    """Of the next-token distribution at this position, nats."""
    logprob: NDArray[np.float64]
    """Of the token, by the training engine, nats."""
    flags: dict[str, Flags]
    """Of the columns kept, protected and selected, those that a method wrote."""


class TrainedTokens:
    """Rows of `token_statistics` joined with their trajectories.

    Rows whose trajectory is not at hand are left out, as neither their ids nor which of their tokens the policy sampled is known. Raises
    EvaluationError where the lists of a row have another length than its completion.
    """

    def __init__(self, statistics: pa.Table, trajectories: pa.Table) -> None:
        place = pc.index_in(statistics["trajectory_id"], value_set=trajectories["trajectory_id"].combine_chunks())
        self.statistics = statistics.filter(pc.is_valid(place)).combine_chunks()
        self.place = place.drop_null().to_numpy().astype(np.int64)
        self.trajectories = trajectories.select(["completion_ids", "loss_mask"])
        self.flags = [name for name in ("kept", "protected", "selected") if has_values(self.statistics, name)]

    @cached_property
    def moment(self) -> NDArray[np.int64]:
        """Of each row, as an index into `moments`."""
        index = {key: i for i, key in enumerate(self.moments)}
        return np.array([index[key] for key in self._keys], dtype=np.int64)

    @cached_property
    def moments(self) -> list[Moment]:
        """Every (iteration, round) with rows, in order."""
        return sorted(set(self._keys))

    @cached_property
    def _keys(self) -> list[Moment]:
        return list(zip(self.statistics["iteration"].to_pylist(), self.statistics["round"].to_pylist(), strict=True))

    @cached_property
    def vocabulary(self) -> int:
        """1 + the largest id of a completion."""
        return 1 + max((pc.max(chunk.flatten()).as_py() or 0 for chunk in self.trajectories["completion_ids"].chunks), default=0)

    def windows(self) -> list[tuple[str, Tokens]]:
        """(name, tokens) of the first and the last tenth of the moments; one window where they are one moment."""
        count = len(self.moments)
        size = ceil(count / WINDOW)
        spans = [(0, size), (count - size, count)] if count > 1 else [(0, count)] if count else []
        rounds = any(round_ for _, round_ in self.moments)
        found = []
        for (start, stop), word in zip(spans, ("first", "last"), strict=False):
            name = f"policy {self.moments[start][0]}" if size == 1 and not rounds else f"{word} {size} {'rounds' if rounds else 'policies'}"
            found.append((name, self.tokens(np.flatnonzero((self.moment >= start) & (self.moment < stop)))))
        return found

    def blocks(self) -> Iterator[Tokens]:
        """All rows, some thousands at a time."""
        for start in range(0, len(self.place), BLOCK):
            yield self.tokens(np.arange(start, min(start + BLOCK, len(self.place))))

    def tokens(self, rows: NDArray[np.int64]) -> Tokens:
        """Tokens of some rows, in their order."""
        own = self.trajectories.take(pa.array(self.place[rows]))
        mine = self.statistics.take(pa.array(rows))
        lengths = _lengths(own["loss_mask"])
        for column in (mine["entropies"], mine["logprobs"], own["completion_ids"]):
            unequal = _lengths(column) != lengths
            if unequal.any():
                name = mine["trajectory_id"][int(np.argmax(unequal))]
                raise EvaluationError(
                    f"trajectory {name}: its token statistics have another length than its loss_mask; run the update of its iteration again"
                )
        sampled = flat(own["loss_mask"]).astype(bool)
        starts = np.cumsum(lengths) - lengths
        return Tokens(
            np.repeat(self.moment[rows], lengths)[sampled],
            (np.arange(len(sampled)) - np.repeat(starts, lengths))[sampled],
            flat(own["completion_ids"]).astype(np.int64)[sampled],
            flat(mine["entropies"]).astype(np.float64)[sampled],
            flat(mine["logprobs"]).astype(np.float64)[sampled],
            {name: _flag(mine[name], lengths, missing=name == "kept")[sampled] for name in self.flags},
        )


def has_values(table: pa.Table, column: str) -> bool:
    """Whether a table has the column, and a value in it: a method that is off, or an older shard, leaves it empty."""
    return column in table.column_names and table[column].null_count < len(table)


def flat(column: pa.ChunkedArray) -> NDArray:
    """Elements of a column of lists, one after the other."""
    return pc.list_flatten(column.combine_chunks()).to_numpy(zero_copy_only=False)


def _flag(column: pa.ChunkedArray, lengths: NDArray[np.int64], missing: bool) -> Flags:
    """Elements of a column of flags; `missing` throughout for a row that has none."""
    present = np.repeat(pc.is_valid(column).to_numpy().astype(bool), lengths)
    found = np.full(len(present), missing)
    values = flat(column)
    if len(values) != int(present.sum()):
        raise EvaluationError("token_statistics: flags of tokens differ in number from the tokens; run the update again")
    found[present] = values.astype(bool)
    return found


def _lengths(column: pa.ChunkedArray) -> NDArray[np.int64]:
    return pc.fill_null(pc.list_value_length(column), 0).to_numpy().astype(np.int64)


def top_entropy(tokens: Tokens, share: float) -> Flags:
    """The tokens whose entropy is in the top `share` of their moment (80/20 rule, arXiv 2506.01939, equation 6): at or above the
    quantile, but above 0: of a policy that seldom chooses, those positions where it does.
    """
    found = np.zeros(len(tokens.entropy), dtype=bool)
    for moment in np.unique(tokens.moment):
        mine = tokens.moment == moment
        values = tokens.entropy[mine]
        threshold = float(np.quantile(values, 1 - share))
        found[mine] = (values >= threshold) & (values > 0)
    return found


def sums(tokens: NDArray[np.int64], weights: NDArray, size: int) -> NDArray[np.float64]:
    """Sum of weights (or number of true flags) for each id below `size`."""
    return np.bincount(tokens, weights=weights.astype(np.float64), minlength=size).astype(np.float64)
