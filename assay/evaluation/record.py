"""The tables of one run, as evaluation needs them."""

from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa

from assay.evaluation.samples import Samples, gather

BATCH_COLUMNS = ("iteration", "round", "kept", "drop_reason", "reward", "rehearsal")


@dataclass(frozen=True)
class RunRecord:
    """Tables of the record, all iterations together. Those with a default are None where a run has none (only policy 0, say).

    Of batches only BATCH_COLUMNS are used; of trajectories prompt_ids where there are critiques alone, and sampled_logprobs of those of
    kind evaluation: a reader may leave the others out.
    """

    tasks: pa.Table
    trajectories: pa.Table
    """At least those of kind evaluation; critiques of them and solutions with steps have a section of the report, other kinds are
    ignored."""
    verdicts: pa.Table
    batches: pa.Table | None = None
    updates: pa.Table | None = None
    token_statistics: pa.Table | None = None
    noise_estimates: pa.Table | None = None
    states: pa.Table | None = None
    """Of traces whose steps are rewarded; empty, as `steps`, where none are."""
    steps: pa.Table | None = None
    turns: pa.Table | None = None
    """Of episodes; empty, as `tool_calls`, where no task has tools."""
    tool_calls: pa.Table | None = None
    splits: pa.Table | None = None
    """Of the presampled training tasks, where a method splits them (DPH-RL)."""

    @cached_property
    def samples(self) -> Samples:
        """Evaluation samples with their verdicts, joined once for metrics and report. Raises EvaluationError as `gather`."""
        return gather(self.tasks, self.trajectories, self.verdicts)
