"""Sections about tasks: which environments they come from and how they are split."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from assay.params.base import Section

Terms = Annotated[int, Field(ge=2, le=20)]


class RationalArithmetic(Section):
    """Built-in family: sums, differences, products and quotients of fractions and decimals, whose answers can be
    written in several equal ways (1/2, 0.5, 3/6). The oracle compares exact fractions."""

    type: Literal["rational_arithmetic"] = "rational_arithmetic"
    share: float = Field(1.0, gt=0)
    """Relative share of this environment among all tasks."""
    operations: tuple[Literal["+", "-", "*", "/"], ...] = Field(("+", "-"), min_length=1)
    max_denominator: int = Field(10, ge=1, le=1000)
    """Largest denominator of an operand; denominators with factors other than 2 and 5 have no finite decimal."""
    whole: float = Field(0.0, ge=0, le=1)
    """Share of operands that are whole numbers, beside those whose denominator happens to be drawn as 1."""
    max_value: int = Field(9, ge=1, le=10_000)
    """Largest value of an operand. Operands are positive; signs come from the operations."""
    decimals: float = Field(0.3, ge=0, le=1)
    """Share of operands written as decimals where that is exact."""
    terms: tuple[Terms, Terms] = (2, 2)
    """Smallest and largest number of operands."""
    ood_terms: tuple[Terms, Terms] = (3, 3)
    """The same for the out-of-distribution split."""

    @field_validator("terms", "ood_terms")
    @classmethod
    def _in_order(cls, value: tuple[int, int]) -> tuple[int, int]:
        if value[0] > value[1]:
            raise ValueError(f"[{value[0]}, {value[1]}] is the wrong way round: the smallest number of operands comes first")
        return value


class ReasoningGym(Section):
    """Any usable generator of reasoning-gym by name. Generators without gold, or that are not repeatable, are
    refused by test."""

    type: Literal["reasoning_gym"] = "reasoning_gym"
    share: float = Field(1.0, gt=0)
    """Relative share of this environment among all tasks."""
    generator: str
    """Name in reasoning-gym, e.g. chain_sum."""
    config: dict[str, Any] = {}
    """Passed on to the generator."""
    ood_config: dict[str, Any] | None = None
    """Overrides of `config` for the ood split; without it the environment has no ood tasks."""


class UserDataset(Section):
    """A user's questions and golds: JSON lines, Parquet, CSV, or a Hugging Face dataset (local folder or hub name)."""

    type: Literal["dataset"] = "dataset"
    share: float = Field(1.0, gt=0)
    """Relative share of this environment among all tasks; a dataset never gives more tasks than it has."""
    path: str
    """File, folder, or hub name. Relative paths start at the project's root."""
    name: str | None = None
    """Configuration of a hub dataset."""
    split: str = "train"
    """Split of a Hugging Face dataset to read; rows are divided into train and eval here, by content hash, unless
    `eval_split` or `columns.split` says which are held out."""
    eval_split: str | None = None
    """Read eval tasks from this split instead of dividing `split`."""
    columns: dict[Literal["prompt", "gold", "split", "difficulty"], str] = {}
    """Column of the file for each field. `prompt` is a string or a list of messages. Defaults: prompt, gold, none,
    none. `split` says train, eval (also validation, valid, dev, test) or ood, row by row. Other columns are kept in
    the task's meta."""
    verifier: Literal["string_match", "numeric", "math_verify"] = "math_verify"


EnvironmentParams = Annotated[RationalArithmetic | ReasoningGym | UserDataset, Field(discriminator="type")]


class TasksParams(Section):
    """How many tasks, and how they are split. Splits never share a task; duplicates are removed and counted."""

    train: int = Field(4096, ge=1)
    eval: int = Field(512, ge=1)
    """Held-out tasks of the same distribution."""
    ood: int = Field(128, ge=0)
    """Out-of-distribution tasks, from the environments that define such."""
    demonstrations: int = Field(40_000, ge=0)
    """Worked answers for the warm start, from tasks that are in neither eval nor ood; equal answers are written in
    varied forms. Without effect where `policy.base` names a trained model."""
