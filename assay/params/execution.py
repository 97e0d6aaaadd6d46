"""Settings that change speed and memory but never a result: no stage depends on them, changing one runs nothing again."""

from pydantic import Field

from assay.params.base import Section


class ExecutionParams(Section):
    """Machine settings."""

    verifier_workers: int = Field(2, ge=1)
    """Worker processes for verdicts."""
    vllm_memory_gib: float = Field(1.0, gt=0)
    """On a CPU: room for vLLM's key-value cache; must hold a whole shard. On a GPU use gpu_memory_share."""
    gpu_memory_share: float = Field(0.85, gt=0, le=1)
    threads: int | None = Field(None, ge=1)
    """Threads of torch; null: one per core."""
    keep_policies: int | None = Field(None, ge=1)
    """Fused rounds: how many published policies stay on disk; null: all. (Staged policies belong to DVC: `dvc gc`.)"""
    stage_timeout_minutes: float = Field(120, gt=0)
    """The flow ends a stage that runs longer."""
    stage_retries: int = Field(1, ge=0)
    """How often the flow runs a failed stage again."""
