"""Section about fused rounds: many on-policy updates in one process."""

from pydantic import Field

from assay.params.base import Section


class FusedParams(Section):
    """One `train@k` of the fused pipeline: rounds of sampling, verifying and updating in one process, each from the policy of
    the round before. A staged iteration is one round."""

    rounds: int = Field(20, ge=1)
    """Rounds in one iteration. Held-out tasks are sampled once an iteration, from the policy that it starts with."""
    tasks_per_round: int | None = Field(None, ge=1)
    """Null: sampling.tasks_per_iteration."""
    steps_per_round: int | None = Field(None, ge=1)
    """Optimizer steps on the rows of one round; 1 is strictly on-policy. Null: training.steps_per_iteration."""
    max_staleness: int = Field(0, ge=0)
    """Rounds that the sampling policy may lag behind the trained one. Above 0 the engine is given new weights only every
    max_staleness + 1 rounds; rows are weighted by training.importance for the difference."""
