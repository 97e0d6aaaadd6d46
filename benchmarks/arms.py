"""What the arms of studies share: training of one arm, sampling and judging of its last policy.

Runs in a worker of `benchmarks.study`, in the workspace of a seed.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

Metrics = dict[str, dict[str, float | None]]
"""Split -> metric -> value."""


@dataclass(frozen=True)
class Sampled:
    """Samples of a policy and their verdicts."""

    rows: pa.Table
    """The table `tasks`."""
    tasks: dict[str, Any]
    """By id."""
    trajectories: pa.Table
    verdicts: pa.Table

    def splits(self) -> dict[str, str]:
        """Split of each trajectory, by id."""
        names = self.trajectories["trajectory_id"].to_pylist(), self.trajectories["task_id"].to_pylist()
        return {name: self.tasks[task].split for name, task in zip(*names, strict=True)}


def sample(params: Any, model: Path, tasks: Path, out: Path, kind: str = "evaluation") -> Sampled:
    """What the policy in `model` answers to the tasks of a kind, what follows from it, and what all verifiers say. Kept in `out`, a
    folder."""
    from assay.environments import tasks_from_table
    from assay.params import load_execution
    from assay.rounds import open_bench, open_sampler, plan_samples, sample_into, verify
    from assay.trajectories import read_table, write_shard
    from assay.verifiers import NoiseState

    plan, execution = plan_samples(tasks, params, 0, (kind,)), load_execution()
    rows = read_table("tasks", tasks)
    known = tasks_from_table(rows)
    with open_sampler(params, model, execution, plan) as sampler:
        sample_into(sampler, plan, params, out, known, execution.verifier_workers)
    trajectories, turns, calls = (read_table(name, out) for name in ("trajectories", "turns", "tool_calls"))
    with open_bench(known, params, execution, appeals=False) as bench:
        verdicts = verify(known, trajectories, params, execution, bench, NoiseState(), turns=turns, tool_calls=calls).verdicts
    write_shard(out / "verdicts.parquet", "verdicts", verdicts)
    return Sampled(rows, known, trajectories, verdicts)


def judged_by(params: Any, model: Path, others: Sampled) -> Metrics:
    """Metrics of evaluation where the policy in `model` judges the samples of another one: all policies that judge the same samples can be
    compared, however many of their own are wrong."""
    from assay.params import load_execution
    from assay.rollouts import sample_rows
    from assay.rounds import open_bench, open_sampler, verify
    from assay.rounds.further import further_samples
    from assay.trajectories import to_table
    from assay.verifiers import NoiseState

    execution = load_execution()
    samples = others.trajectories.filter(pc.equal(others.trajectories["kind"], "evaluation"))
    with open_sampler(params, model, execution) as sampler:
        plan = further_samples(sampler.renderer, samples, others.tasks, params).plan
        critiques = sample_rows(plan, [row.prompt_ids or () for row in plan], sampler.engine, sampler.renderer)
    both = pa.concat_tables([to_table("trajectories", samples), critiques])
    with open_bench(others.tasks, params, execution, appeals=False) as bench:
        verdicts = verify(others.tasks, both, params, execution, bench, NoiseState()).verdicts
    return metrics(Sampled(others.rows, others.tasks, both, verdicts), params)


def metrics(sampled: Sampled, params: Any) -> Metrics:
    """Those of the stage `evaluate`, over all environments."""
    from assay.evaluation import evaluate

    found: Metrics = {}
    own = params.self_verification
    for row in evaluate(sampled.rows, sampled.trajectories, sampled.verdicts, params.evaluation, own).to_pylist():
        if row["environment"] == "all":
            found.setdefault(row["split"], {})[row["metric"]] = row["value"]
    return found


def train_arm(
    params: Any, root: Path, model: Path, tasks: Path, report: Callable[[Any], None] | None = None, offline: Path | None = None
) -> Path:
    """Fused rounds from the policy in `model`; `root` then holds tables and model, and its policy's folder is returned."""
    from assay.params import load_execution
    from assay.rounds.train import Places, train

    places = Places(tasks, model, model / "policy", root / "tables", root / "model", root / "scratch", None, offline=offline)
    train(params, 0, places, load_execution(root), report or (lambda _: None))
    return root / "model/policy"


def curves(tables: Path) -> dict[str, list[float]]:
    """Of the solutions that an arm was trained on, by round: mean tokens, and the share that the rule takes for right."""
    from assay.trajectories import read_table

    trajectories, verdicts = read_table("trajectories", tables), read_table("verdicts", tables)
    own = trajectories.filter(pc.equal(trajectories["kind"], "solution")).select(["trajectory_id", "round", "completion_ids"])
    own = own.set_column(2, "tokens", pc.list_value_length(own["completion_ids"]))
    said = verdicts.filter(pc.equal(verdicts["role"], "rule")).select(["trajectory_id", "verdict"]).to_pandas()
    rows = own.to_pandas().merge(said, on="trajectory_id").assign(right=lambda found: found["verdict"] == "correct")
    means = rows.groupby("round")[["tokens", "right"]].mean()
    return {name: [round(float(value), 4) for value in means[name]] for name in ("tokens", "right")}


def slug(arm: str) -> str:
    """An arm's name as that of a file."""
    return "".join(letter if letter.isalnum() else "-" for letter in arm)


def place_of(arm: str, workspace: Path) -> tuple[Path, Path, Path]:
    """(the arm's own folder, the model that all arms start from, the file of tasks)."""
    return workspace / "arms" / slug(arm), workspace / "models/0", workspace / "data/tasks/tasks.parquet"


def keep_model(root: Path, target: Path) -> None:
    """Another arm needs it."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(root / "model", target)


def value(metric: str, split: str = "eval", part: str = "measured") -> Callable[[dict[str, Any]], float]:
    """Reads a metric out of a part of a result; nan where it was not defined."""

    def of(row: dict[str, Any]) -> float:
        found = row.get(part, {}).get(split, {}).get(metric)
        return float("nan") if found is None else float(found)

    return of
