"""Sections about tasks: which environments they come from and how they are split."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from assay.params.base import ORDERED, Section
from assay.params.protocols import Protocols, PublishedProtocols
from assay.params.tools import Tools

Terms = Annotated[int, Field(ge=2, le=20)]


class RationalArithmetic(Section):
    """Built-in family: sums, differences, products and quotients of fractions and decimals, whose answers can be
    written in several equal ways (1/2, 0.5, 3/6). The oracle compares exact fractions."""

    type: Literal["rational_arithmetic"] = "rational_arithmetic"
    share: float = Field(1.0, gt=0)
    """Relative share of this environment among all tasks."""
    operations: tuple[Literal["+", "-", "*", "/"], ...] = Field(("+", "-"), min_length=1)
    """Of which one is drawn for each task."""
    max_denominator: int = Field(10, ge=1, le=1000)
    """Largest denominator of an operand; denominators with factors other than 2 and 5 have no finite decimal."""
    whole: float = Field(0.0, ge=0, le=1)
    """Share of operands that are whole numbers, beside those whose denominator happens to be drawn as 1."""
    max_value: int = Field(9, ge=1, le=10_000)
    """Largest value of an operand. Operands are positive; signs come from the operations."""
    decimals: float = Field(0.3, ge=0, le=1)
    """Share of operands written as decimals where that is exact."""
    terms: Annotated[tuple[Terms, Terms], ORDERED] = (2, 2)
    """Smallest and largest number of operands."""
    ood_terms: Annotated[tuple[Terms, Terms], ORDERED] = (3, 3)
    """The same for the out-of-distribution split."""


Steps = Annotated[int, Field(ge=1, le=20)]


class ChainArithmetic(Section):
    """Built-in family: sums, differences and products one after another, modulo a number. Its demonstrations overthink: behind the steps
    stand re-checks, most of which change nothing, while some spoil a right result and some repair a mistake. So they are not always right,
    and what each re-check does is known."""

    type: Literal["chain_arithmetic"] = "chain_arithmetic"
    share: float = Field(1.0, gt=0)
    """Relative share of this environment among all tasks."""
    operations: tuple[Literal["+", "-", "*"], ...] = Field(("+", "-", "*"), min_length=1)
    """Drawn anew for each step."""
    steps: Annotated[tuple[Steps, Steps], ORDERED] = (2, 4)
    """Smallest and largest number of operations of a task."""
    ood_steps: Annotated[tuple[Steps, Steps], ORDERED] = (5, 6)
    """The same for the out-of-distribution split."""
    modulus: int = Field(10, ge=2, le=1000)
    """Results are taken modulo this."""
    max_operand: int = Field(9, ge=1, le=10_000)
    """Largest operand; the smallest is 1."""
    mistakes: float = Field(0.35, ge=0, le=1)
    """Share of demonstrations that have a mistake among their first steps, so that the result is wrong before any re-check."""
    redundancy: float = Field(0.8, ge=0, lt=1)
    """Chance that one more re-check follows: their number is geometric, redundancy / (1 - redundancy) on average without `max_checks`."""
    max_checks: int = Field(6, ge=0, le=100)
    """Most re-checks of a demonstration: bounds its length."""
    harmful: float = Field(0.1, ge=0, le=1)
    """Chance that a re-check of a right result makes it wrong."""
    helpful: float = Field(0.3, ge=0, le=1)
    """Chance that a re-check of a wrong result makes it right."""


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


DATASET_VERIFIERS = ("string_match", "numeric", "math_verify")
"""Verifiers that need nothing but a gold, so that any data set can name them."""


class UserDataset(Section):
    """A user's questions and golds: JSON lines, Parquet, CSV, or a Hugging Face dataset (local folder or hub name)."""

    type: Literal["dataset"] = "dataset"
    share: float = Field(1.0, gt=0)
    """Relative share of this environment among all tasks; a dataset never gives more tasks than it has."""
    path: str
    """File, folder, or hub name. Relative paths start at the project's root."""
    name: str | None = None
    """Configuration of a hub dataset."""
    revision: str | None = None
    """Commit, branch or tag of a hub dataset; null: the newest. counts.json has the commit."""
    split: str = "train"
    """Split of a Hugging Face dataset to read; rows are divided into train and eval here, by content hash, unless
    `eval_split` or `columns.split` says which are held out."""
    eval_split: str | None = None
    """Read eval tasks from this split instead of dividing `split`."""
    columns: dict[Literal["prompt", "gold", "split", "difficulty"], str] = {}
    """Column of the file for each field. `prompt` is a string or a list of messages. Defaults: prompt, gold, none,
    none. `split` says train, eval (also validation, valid, dev, test) or ood, row by row. Other columns are kept in
    the task's meta, those that `keep` names."""
    keep: tuple[str, ...] | None = None
    """Columns that are kept in the task's meta, for a verifier that reads them; null: all. The others are not even read into rows."""
    verifier: str = "math_verify"
    """string_match, numeric, math_verify, or one of `verification.functions`."""
    bad_rows: Literal["error", "drop"] = "error"
    """What becomes of rows whose prompt or gold is empty or cannot be read: an error, or they are dropped and counted, which is an error
    too where they are more than 5 %."""


Level = Annotated[int, Field(ge=1, le=7)]


class SqlLimits(Section):
    """What an answer may take while it is executed; more is wrong, with a reason of its own. Part of the task."""

    seconds: float = Field(1.0, gt=0, le=600)
    """Of processor time on one database. Keep verification.timeout well above it: what only that ends abstains."""
    memory_mib: int = Field(64, ge=16)
    """Beside the data. Keep verification.memory_mib at least 256 above it."""
    rows: int = Field(1000, ge=1, le=100_000)
    """Of the result."""


class TextToSql(Section):
    """Built-in family: questions about small seeded databases, answered by queries that are executed in DuckDB. The rule compares
    results on one database; the oracle on several, so that it finds what is right by accident."""

    type: Literal["text_to_sql"] = "text_to_sql"
    share: float = Field(1.0, gt=0)
    """Relative share of this environment among all tasks."""
    levels: tuple[Level, ...] = Field((1, 2, 3, 4, 5, 6, 7), min_length=1)
    """Projection, filter, aggregate, two conditions, groups, order and limit, join. A level that is named twice is asked twice as often."""
    databases: int = Field(48, ge=1, le=1000)
    """Different schemas; every second one has two tables."""
    ood_databases: int = Field(16, ge=0, le=1000)
    """Further schemas, of the out-of-distribution split alone; 0: no such split."""
    rows: int = Field(8, ge=4, le=32)
    """Of a table that questions are about, in the rule's database. More rows, fewer accidents."""
    check_databases: int = Field(3, ge=0, le=20)
    """Databases of the same schema that only the oracle looks at."""
    check_rows: int = Field(24, ge=4, le=32)
    """Rows of a table of the databases that only the oracle looks at."""
    limits: SqlLimits = SqlLimits()

    @field_validator("levels")
    @classmethod
    def _sorted(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(sorted(value))


class SqlDatabases(Section):
    """A user's own databases (DuckDB, SQLite, Parquet), with a file of questions and the queries that answer them."""

    type: Literal["sql_databases"] = "sql_databases"
    share: float = Field(1.0, gt=0)
    """Relative share of this environment among all tasks; it never gives more tasks than there are questions."""
    path: str
    """Questions: JSON lines, Parquet, CSV, or a Hugging Face data set, as for `dataset`."""
    databases: str
    """One database file, or a folder with one entry for each name of the column `database`: NAME.duckdb (.db), NAME.sqlite (.sqlite3),
    NAME.parquet, a folder NAME of Parquet files (a table each), or a folder NAME with one of these files, or with several of equal
    schema: the first, NAME or else by name, is the rule's, all are the oracle's. Relative paths start at the project's root."""
    name: str | None = None
    """Configuration of a hub data set."""
    split: str = "train"
    """Split of the pairs, where they are a Hugging Face data set."""
    eval_split: str | None = None
    """Read eval tasks from this split instead of dividing `split`."""
    columns: dict[Literal["question", "query", "database", "split", "difficulty"], str] = {}
    """Column of the file for each field. Defaults: question, query, database (where there is a folder), none, none."""
    prompt: str = "{schema}\n{question}"
    """How questions are shown."""
    order: Literal["as_query", "always", "never"] = "as_query"
    """Whether the order of rows counts: where the gold's outermost query says ORDER BY, always, or never."""
    max_database_mib: int = Field(128, ge=1)
    """Larger databases are refused: workers hold them in memory."""
    limits: SqlLimits = SqlLimits(seconds=5.0, memory_mib=256, rows=10_000)

    @field_validator("prompt")
    @classmethod
    def _shows_the_question(cls, value: str) -> str:
        if "{question}" not in value:
            raise ValueError(f"prompt is {value!r}, without {{question}}: every task would be the same")
        return value


EnvironmentParams = Annotated[
    RationalArithmetic | ChainArithmetic | ReasoningGym | UserDataset | TextToSql | SqlDatabases | Protocols | PublishedProtocols | Tools,
    Field(discriminator="type"),
]


class TasksParams(Section):
    """How many tasks, and how they are split. Splits never share a task; duplicates are removed and counted."""

    train: int = Field(4096, ge=1)
    """Tasks that the policy is reinforced on."""
    eval: int = Field(512, ge=1)
    """Held-out tasks of the same distribution."""
    ood: int = Field(128, ge=0)
    """Out-of-distribution tasks, from the environments that define such."""
    demonstrations: int = Field(40_000, ge=0)
    """Worked answers for the warm start, from tasks that are in neither eval nor ood; equal answers are written in
    varied forms. Without effect where `policy.base` names a model that is not fine-tuned."""
    texts: int = Field(0, ge=0)
    """Plain texts for warm_start.pretraining, from environments that have such; each different, so there may be fewer."""
