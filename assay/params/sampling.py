"""Sections about sampling: the engine, the sampling parameters, what is sampled at each iteration."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from assay.params.base import Section
from assay.params.tools import EpisodeParams


class VllmEngine(Section):
    """vLLM inside the stage's process (default)."""

    type: Literal["vllm"] = "vllm"
    arguments: dict[str, str | int | float | bool] = {}
    """Further vLLM engine arguments, e.g. tensor_parallel_size."""


class ServerEngine(Section):
    """A vLLM server (`vllm serve`) or an OpenAI-compatible one that accepts token-id prompts and returns token ids.
    Where it is, and how it is asked, is in execution.server: that changes no result."""

    type: Literal["server"] = "server"
    model: str | None = None
    """Served model name; null asks the server."""


class TransformersEngine(Section):
    """Plain transformers: slow, everywhere, the reference that the others are compared with."""

    type: Literal["transformers"] = "transformers"
    batch_size: int = Field(256, ge=1)
    """Prompts that are computed at once."""
    device: str | None = None
    """Null: cuda where present, else cpu."""


EngineParams = Annotated[VllmEngine | ServerEngine | TransformersEngine, Field(discriminator="type")]


class SamplingParams(Section):
    """What is sampled for training at each iteration, and how."""

    engine: EngineParams = VllmEngine()
    temperature: float = Field(1.0, ge=0)
    """Above 0. Log-probabilities are stored as they are at this temperature."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Below 1 the sampled distribution is truncated; importance sampling is then refused."""
    max_tokens: int = Field(16, ge=1)
    """Longest completion, in tokens."""
    tasks_per_iteration: int = Field(1024, ge=1)
    """Groups that an iteration samples, each the completions of one task."""
    group_size: int = Field(8, ge=1)
    """Completions per task."""
    shard_rows: int = Field(4096, ge=1)
    """Rows sampled together and published together: the unit of resumption. Part of the result (see docs/limits.md)."""
    episodes: EpisodeParams = EpisodeParams()
    """Of tasks that are played in turns, with tools."""


class EvaluationParams(Section):
    """What is sampled and measured on held-out tasks at each iteration."""

    samples: int = Field(8, ge=1)
    """Completions per held-out task."""
    temperature: float = Field(1.0, ge=0)
    """Of held-out samples; 0: greedy."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Of held-out samples."""
    pass_at: tuple[int, ...] = (1, 2, 4, 8)
    """Values of k for pass@k; 1, the chance of success at the first try, must be among them."""
    confidence: float = Field(0.95, gt=0, lt=1)
    """Of the intervals in `evaluations` and in the report."""
    sampled_trajectories: int = Field(24, ge=0)
    """Trajectories shown in the report, per iteration."""

    @model_validator(mode="after")
    def _pass_at_within_samples(self) -> "EvaluationParams":
        if not self.pass_at or min(self.pass_at) < 1 or max(self.pass_at) > self.samples:
            raise ValueError(
                f"pass_at is {list(self.pass_at)}, but evaluation.samples is {self.samples}: unbiased pass@k needs at least k samples "
                "of each task; list values of k from 1 to evaluation.samples"
            )
        if 1 not in self.pass_at:
            raise ValueError(f"pass_at is {list(self.pass_at)}, without 1: report and cards compare policies by pass@1; add 1")
        return self
