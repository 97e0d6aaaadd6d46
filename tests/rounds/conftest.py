"""A fused iteration without a pipeline: two dozen tasks and a policy of random weights, in plain transformers."""

from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from benchmarks.study import load
from benchmarks.workspace import MICRO

SMALL = {
    "sampling": {"engine": {"type": "transformers"}, "group_size": 2, "max_tokens": 4, "shard_rows": 64},
    "tasks": {"train": 8, "eval": 4, "ood": 0, "demonstrations": 40}, "evaluation": {"samples": 1, "pass_at": [1]},
    "environments": {"sums": {"type": "rational_arithmetic"}}, "environment": "own", "filter": {"zero_variance_groups": False},
}  # fmt: skip
VERDICTS = {"rule": "string_match", "reference": "none"}
"""Without workers, which take seconds to start."""


@dataclass(frozen=True)
class Iteration:
    """Everything that `train` wants."""

    root: Path
    places: Any

    def params(self, verification: Any = MappingProxyType({}), **values: Any) -> Any:
        return load(MICRO | SMALL | {"verification": VERDICTS | verification} | values, self.root / "params")

    def train(self, params: Any, watch: Any = lambda report: None, **execution: Any) -> None:
        from assay.params.execution import ExecutionParams
        from assay.rounds.train import train

        train(params, 0, self.places, ExecutionParams(verifier_workers=1, **execution), watch)


@pytest.fixture
def iteration(tmp_path) -> Iteration:
    from assay.engines.rendering import PLAIN_TEMPLATE
    from assay.environments.generate import generate
    from assay.rounds.train import Places
    from assay.training.model import make_model, make_tokenizer, save_policy
    from assay.trajectories import write_shard

    made = Iteration(tmp_path, None)
    params = made.params()
    generated = generate(params, tmp_path)
    write_shard(tmp_path / "tasks.parquet", "tasks", [task.to_row() for task in generated.tasks])
    texts = [row["completion"] for row in generated.demonstrations]
    tokenizer = make_tokenizer(params.policy, PLAIN_TEMPLATE, texts, texts)
    save_policy(make_model(params.policy, tokenizer, 0), tokenizer, tmp_path / "0/policy", "float32")
    places = Places(
        tmp_path / "tasks.parquet", tmp_path / "0", tmp_path / "0/policy", tmp_path / "tables", tmp_path / "1", tmp_path / "scratch",
        gates=None,
    )  # fmt: skip
    return Iteration(tmp_path, places)
