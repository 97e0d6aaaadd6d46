"""The stored batch as a data loader: one item for each optimizer step, already divided among processes and
micro-batches."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch.utils.data import DataLoader, Dataset

from assay.objectives.corrections import audit
from assay.training.batching import Tokens, divide, pack, padded
from assay.training.first_pass import BatchStatistics
from assay.training.ragged import Ragged, Streams, from_column
from assay.training.streams import StepTotals, Support


class BatchError(ValueError):
    """A `batches` table that cannot be trained on."""


@dataclass(frozen=True)
class MicroBatch:
    """What one forward and backward pass needs. Streams are (rows, longest completion)."""

    rows: np.ndarray
    """(rows,) numbers within the stored batch; empty where this process only keeps step with the others."""
    tokens: Tokens
    mask: torch.Tensor
    advantages: torch.Tensor
    sampled_logprobs: torch.Tensor
    old_logprobs: torch.Tensor | None
    """None in the first pass, which computes them."""
    reference_logprobs: torch.Tensor | None
    rehearsal: torch.Tensor
    totals: StepTotals
    selected: torch.Tensor | None = None
    proxy_logprobs: torch.Tensor | None = None
    candidates: torch.Tensor | None = None
    support: Support | None = None

    def to(self, device: torch.device | str) -> "MicroBatch":
        moved: dict[str, Any] = {
            name: value.to(device) for name, value in self.__dict__.items() if isinstance(value, torch.Tensor | Tokens | Support)
        }
        return replace(self, **moved)


class StoredBatch:
    """The kept rows of a `batches` table, and how they are divided."""

    def __init__(
        self, batches: pa.Table, *, max_tokens: int, micro_batch_size: int, processes: int, process: int
    ) -> None:
        """Raises BatchError for a table without kept rows, or whose kept rows have no step."""
        self.table = batches.filter(batches["kept"])
        if len(self.table) == 0:
            raise BatchError(
                "the batch has no kept row, so there is nothing to train on: look at its drop_reason column"
            )
        if self.table["step"].null_count or self.table["denominator_rows"].null_count:
            raise BatchError("a kept row of the batch has no step or denominator: run the filter stage again")
        self.max_tokens, self.micro_batch_size = max_tokens, micro_batch_size
        self.processes, self.process = processes, process
        self.streams = Streams.from_table(self.table)
        self.loss_tokens = self.streams.mask.sums().astype(np.int64)
        """(rows,) tokens that bear loss."""
        self.step_of_row = self.table["step"].to_numpy()
        self.steps: list[int] = sorted(set(self.step_of_row.tolist()))
        self.advantages = self._advantages()
        self.reference = self._optional("reference_logprobs")
        """Of rows that have none, 0; `check_reference` says where that must not be."""
        self.rehearsal = self.table["rehearsal"].to_numpy()
        self.old_logprobs: Ragged | None = None
        """Of the policy before the first step; set after the first pass. Rows of other processes read 0."""
        self.statistics = BatchStatistics()
        """Of the whole batch; set after the first pass."""
        self._supports: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None

    def __len__(self) -> int:
        return len(self.steps)

    def rows(self, step: int) -> np.ndarray:
        """Numbers of the rows of an optimizer step that train by their advantage, on all processes."""
        return np.flatnonzero((self.step_of_row == step) & ~self.rehearsal)

    def rehearsed(self, step: int) -> np.ndarray:
        """Numbers of the rows of an optimizer step that are rehearsed."""
        return np.flatnonzero((self.step_of_row == step) & self.rehearsal)

    def check_reference(self, *, sampled: bool, rehearsed: bool) -> None:
        """Raises BatchError for a row without policy 0's log-probabilities that a term needs. sampled, rehearsed: of which rows."""
        missing = self.table["reference_logprobs"].is_null().to_numpy(zero_copy_only=False)
        for kind, wanted, rows in (("a rehearsed row", rehearsed, self.rehearsal), ("a sampled row", sampled, ~self.rehearsal)):
            found = np.flatnonzero(missing & rows)
            if wanted and len(found):
                raise BatchError(
                    f"row {self.table['trajectory_id'][int(found[0])]}, {kind}, has no reference_logprobs, which the loss needs: run "
                    "the filter stage again"
                )

    def policy_mask(self) -> Ragged:
        """Tokens that bear policy loss: none of a rehearsed row."""
        return Ragged(self.streams.mask.values.astype(bool) & ~self.rehearsal[self.streams.mask.rows], self.streams.mask.offsets)

    def totals(self, step: int) -> StepTotals:
        """Rows, tokens and divisors of optimizer step `step`, all of its micro-batches and processes together."""
        rows, rehearsed = self.rows(step), self.rehearsed(step)
        first = int(rows[0])
        selected = self.statistics.selected
        return StepTotals(
            rows=len(rows),
            tokens=int(self.loss_tokens[rows].sum()),
            denominator_rows=self.table["denominator_rows"][first].as_py(),
            denominator_tokens=self.table["denominator_tokens"][first].as_py(),
            max_tokens=self.max_tokens,
            selected_tokens=None if selected is None else int(selected.take(rows).values.sum()),
            low_probability_threshold=self.statistics.low_probability_threshold,
            rehearsal_rows=len(rehearsed),
            rehearsal_tokens=int(self.loss_tokens[rehearsed].sum()),
        )

    def audit(self, step: int) -> dict[str, float | None]:
        """How far the advantages of an optimizer step are from those of the matched control (columns audit_ of `updates`), over
        tokens that bear loss; nothing where there is no control."""
        names = ("audit_mean_difference", "audit_max_difference", "audit_cosine")
        rows = self.rows(step)
        column = self.table["control_advantage"].take(pa.array(rows))
        if column.null_count:
            return dict.fromkeys(names)
        values = (source.to_numpy().astype(np.float64) for source in (column, self.table["advantage"].take(pa.array(rows))))
        found = audit(*values, weights=self.loss_tokens[rows])
        return dict(zip(names, (found.mean_difference, found.max_difference, found.cosine), strict=True))

    def micro_batches(self, step: int) -> list[MicroBatch]:
        """This process's part of an optimizer step, on the CPU."""
        totals, found = self.totals(step), []
        # Rehearsed rows never share a forward pass with others, whose last digits would depend on them.
        for rows in (self.rows(step), self.rehearsed(step)):
            if len(rows):
                lengths = (self.streams.prompts.lengths + self.streams.completions.lengths)[rows]
                parts = divide(lengths, self.micro_batch_size, self.processes, self.process)
                found += [self._micro_batch(rows[part], rows[:1], totals) for part in parts]
        return found

    def loader(self) -> DataLoader:
        """One item for each optimizer step: {"step", "micro_batches"}."""
        return DataLoader(_Steps(self), batch_size=1, collate_fn=_only)

    def _micro_batch(self, rows: np.ndarray, filler: np.ndarray, totals: StepTotals) -> MicroBatch:
        used = rows if len(rows) else filler
        tokens = pack(self.streams, used)
        width = tokens.present.shape[1]

        def stream(values: Ragged | None, dtype: torch.dtype = torch.float32) -> torch.Tensor | None:
            return None if values is None else padded(values, used, width, dtype)

        mask = padded(self.streams.mask, used, width, torch.bool)
        known = self.statistics
        return MicroBatch(
            rows=rows,
            tokens=tokens,
            mask=mask if len(rows) else torch.zeros_like(mask),
            advantages=padded(self.advantages, used, width, torch.float32),
            sampled_logprobs=padded(self.streams.logprobs, used, width, torch.float32),
            old_logprobs=stream(self.old_logprobs),
            reference_logprobs=stream(self.reference),
            rehearsal=torch.from_numpy(self.rehearsal[used]),
            totals=totals,
            selected=stream(known.selected, torch.bool),
            proxy_logprobs=stream(known.proxy_logprobs),
            candidates=stream(known.candidates, torch.bool),
            support=self._support(used),
        )

    def token_places(self, rows: np.ndarray) -> np.ndarray:
        """(tokens,) where the completion tokens of some rows are among all of the batch."""
        offsets = self.streams.completions.offsets
        return np.concatenate([np.arange(offsets[row], offsets[row + 1]) for row in rows] or [np.zeros(0, dtype=np.int64)])

    def set_supports(self, at: np.ndarray, ids: np.ndarray, logprobs: np.ndarray) -> None:
        """Lp-Reg's targets of this process's tokens at the places `at`, in any order."""
        order = np.argsort(at)
        self._supports = at[order], ids[order], logprobs[order]

    def _support(self, rows: np.ndarray) -> Support | None:
        if self._supports is None:
            return None
        at, ids, logprobs = self._supports
        places = self.token_places(rows)
        found = np.searchsorted(at, places).clip(max=max(len(at) - 1, 0))
        here = at[found] == places if len(at) else np.zeros(len(places), dtype=bool)
        index = np.where(here, np.cumsum(here) - 1, -1)
        own = found[here]
        return Support(torch.from_numpy(index), torch.from_numpy(ids[own].astype(np.int64)), torch.from_numpy(logprobs[own]))

    def _advantages(self) -> Ragged:
        """Per token: the stored ones, or the row's on all of its tokens."""
        per_token = self._optional("token_advantages")
        if per_token is not None:
            return per_token
        rows = np.nan_to_num(self.table["advantage"].to_numpy().astype(np.float32))  # rehearsed rows have none
        completions = self.streams.completions
        return Ragged(np.repeat(rows, completions.lengths), completions.offsets)

    def _optional(self, name: str) -> Ragged | None:
        column = self.table[name]
        if column.null_count == len(column):
            return None
        values, lengths = from_column(column), self.streams.completions.lengths
        missing = column.is_null().to_numpy(zero_copy_only=False)
        if missing.any():  # some rows need it, the others do not: 0
            filled = np.zeros(lengths.sum(), dtype=values.values.dtype)
            filled[np.repeat(~missing, lengths)] = values.values
            values = Ragged(filled, self.streams.completions.offsets)
        if (values.lengths != lengths).any():
            row = int(np.flatnonzero(values.lengths != lengths)[0])
            raise BatchError(
                f"row {self.table['trajectory_id'][row]}: {values.lengths[row]} {name} for "
                f"{self.streams.completions.lengths[row]} completion tokens; run the filter stage again"
            )
        return values


class _Steps(Dataset):
    """Items by position among the optimizer steps."""

    def __init__(self, batch: StoredBatch) -> None:
        self.batch = batch

    def __len__(self) -> int:
        return len(self.batch)

    def __getitem__(self, position: int) -> dict:
        step = self.batch.steps[position]
        return {"step": step, "micro_batches": self.batch.micro_batches(step)}


def _only(items: list[dict]) -> dict:
    return items[0]
