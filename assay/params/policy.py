"""Sections about the policy: where it comes from, how prompts are rendered, how a small one is made from scratch."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, field_validator, model_validator

from assay.params.base import Section

Piece = Annotated[str, StringConstraints(min_length=1, pattern=r"^[\x00-\x7f]+$")]


class ModelShape(Section):
    """Shape of the Qwen3-architecture model that is made from scratch when `policy.base` is null."""

    hidden_size: int = Field(128, ge=16)
    """Width of the residual stream."""
    intermediate_size: int = Field(384, ge=16)
    """Width of the feed-forward layers."""
    layers: int = Field(4, ge=1)
    """Number of blocks."""
    heads: int = Field(4, ge=1)
    """Attention heads."""
    key_value_heads: int = Field(4, ge=1)
    """Divides `heads`: each key-value head serves so many of them."""
    head_dim: int = Field(32, ge=8)
    """Width of a head."""
    vocabulary: int = Field(512, ge=300)
    """Size of the byte-level BPE tokenizer (256 bytes, special tokens, merges); digits are always single tokens."""
    pieces: tuple[Piece, ...] = ()
    """Texts that are one token each, in any text: markup that every answer repeats, e.g. <think>. They count in `vocabulary`."""
    max_positions: int = Field(512, ge=32)
    """Longest prompt and completion together, in tokens."""

    @field_validator("pieces")
    @classmethod
    def _each_once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        twice = next((piece for piece in value if value.count(piece) > 1), None)
        if twice is not None:
            raise ValueError(f"{twice!r} is named twice")
        return value

    @model_validator(mode="after")
    def _heads_are_shared_evenly(self) -> "ModelShape":
        if self.heads % self.key_value_heads:
            raise ValueError(f"heads is {self.heads}, which key_value_heads {self.key_value_heads} does not divide")
        return self


class LoraParams(Section):
    """Low-rank adaptation; the published policy has the adapter merged."""

    rank: int = Field(16, ge=1)
    """r: the adapter is alpha / r times B A, A of r rows."""
    alpha: float = Field(32, gt=0)
    """See rank."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Of the adapter's input."""
    targets: tuple[str, ...] | Literal["all-linear"] = "all-linear"
    """Names of the adapted layers; all-linear: all but the output head."""


class PolicyParams(Section):
    """The policy that is trained."""

    base: str | None = None
    """A causal language model of text: a Hugging Face hub name or a local folder. Models that also take images or sound are refused.
    Null: a small one is made from scratch."""
    revision: str | None = None
    """Commit, branch or tag of a hub name in `base`; null: the newest, or what the local cache has where the hub cannot be reached.
    models/0/warm_start.json has the commit."""
    fine_tune: bool = False
    """Whether a `base` goes through the supervised phases too (warm_start.pretraining, warm_start), with texts and demonstrations of the
    environments. False: policy 0 is the base as it is."""
    shape: ModelShape = ModelShape()
    """Used only where `base` is null."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Type that samples are drawn in and weights are published in; updates keep a float32 copy and compute in bfloat16 unless it is
    float32 (training.grpo.bf16). Of a `base` stored in float32 policy 0 is rounded to it; one stored in half precision is published in
    its own type and trained in bfloat16 whatever this says."""
    chat_template: str | None = None
    """Path of a Jinja chat template, from the project's root. Below conf/templates a change of it is noticed by `dvc repro`. Null: the
    tokenizer's own, or a plain one where it has none."""
    chat_template_text: str | None = None
    """The template itself, read from `chat_template` by `configure`: stages depend on what it says, not on its path."""
    chat_template_arguments: dict[str, str | int | float | bool] = {}
    """Passed to the template, e.g. enable_thinking: false."""
    system_prompt: str | None = None
    """Put before every prompt that has no system message of its own. Null: none."""
    stop_tokens: tuple[str, ...] = ()
    """Tokens that end a completion, beside the tokenizer's end token and those of the generation configuration."""
    max_prompt_tokens: int = Field(128, ge=1)
    """Of a task's rendered prompt. None is ever cut."""
    too_long: Literal["drop", "error"] = "drop"
    """What becomes of tasks whose prompts are longer. With a `base` they are dropped and counted while tasks are made, or else an error
    there. A policy from scratch has no tokenizer yet: they are an error of the warm start whatever this says."""


class SupervisedParams(Section):
    """How a supervised run is optimised."""

    batch_size: int = Field(256, ge=1)
    """Rows of a step."""
    micro_batch_size: int | None = Field(None, ge=1)
    """Rows that are computed at once, at most; equal results but for rounding. Null: all of a batch, those of similar length together."""
    learning_rate: float = Field(3e-3, gt=0)
    """Of a small policy made from scratch; a base that is fine-tuned wants about a tenth of it with `lora`, and a thousandth without."""
    warmup_steps: int = Field(50, ge=0)
    """First steps, over which the learning rate rises."""
    lora: LoraParams | None = None
    """Of a base that is fine-tuned. Null: all of its weights are trained, as those of a policy made from scratch always are."""


class Pretraining(SupervisedParams):
    """Training on plain texts (tasks.texts) before the demonstrations: the first phase of Knowledge-to-Action."""

    max_steps: int = Field(0, ge=0)
    """0: left out."""
    report_every: int = Field(50, ge=1)
    """Steps between two checkpoints, each with a line about the loss."""


class WarmStartParams(SupervisedParams):
    """Supervised training of policy 0, made from scratch or fine-tuned, until sampling succeeds often enough for reinforcement learning."""

    pretraining: Pretraining = Pretraining()
    target: float = Field(0.35, gt=0, lt=1)
    """Training stops once pass@1 on training tasks, measured while training, reaches this. Above about 0.5 little is left to reinforce."""
    max_steps: int = Field(3000, ge=0)
    """0: left out; policy 0 is then what pre-training has made."""
    check_every: int = Field(100, ge=1)
    """Steps between two measurements of pass@1 (greedy sampling would overstate it: they sample at temperature 1)."""
    check_tasks: int = Field(256, ge=8)
    """Training tasks that are sampled for it."""
