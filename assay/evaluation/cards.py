"""Model and dataset cards: Markdown for people who meet the policy or the data without the run. Equal inputs give
equal bytes.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from assay.evaluation import definitions
from assay.evaluation.breakdown import Grid, in_cell, interval, verifiers
from assay.evaluation.metrics import Lookup, write_text
from assay.evaluation.noise import judged
from assay.evaluation.record import RunRecord
from assay.params import Params
from assay.trajectories import content_hash

SPLITS = ("train", "eval", "ood")
CARD_COLUMNS = {
    "accuracy_rule": "rule",
    "accuracy_reference": "reference",
    "accuracy_oracle": "oracle",
    "abstain_share": "abstain",
    "truncated_share": "cut off",
    "entropy": "entropy",
}
"""Metric -> heading of the evaluation table, after pass@k."""


def write_cards(out: Path, record: RunRecord, evaluations: pa.Table, params: Params) -> None:
    """policy-K.md for every evaluated policy and dataset.md, in the folder `out`."""
    common, table = Common.of(record), Lookup(evaluations)
    for policy in table.iterations:
        write_text(out / f"policy-{policy}.md", model_card(record, table, params, policy, common))
    write_text(out / "dataset.md", dataset_card(record, params, common))


@dataclass(frozen=True)
class Common:
    """What all cards of a run share: read off the whole record once, not once for each policy."""

    tasks_hash: str
    tasks: str
    """Markdown, as the next."""
    verifiers: str
    noise: tuple[Mapping[str, Any], ...]
    """`noise_rows` of all iterations."""
    sampling: Mapping[int, str]
    """How the evaluation samples of each policy were drawn."""

    @classmethod
    def of(cls, record: RunRecord) -> "Common":
        """One pass over each table."""
        return cls(
            tasks_hash(record.tasks), task_counts(record.tasks), markdown(verifiers(record.verdicts)),
            tuple(noise_rows(record.noise_estimates)), _sampling(record.trajectories),
        )  # fmt: skip


def tasks_hash(tasks: pa.Table) -> str:
    """Digest of the set of tasks with their splits: what the policy was trained and measured on, whatever the order
    of the rows.
    """
    pairs = sorted(zip(tasks["task_id"].to_pylist(), tasks["split"].to_pylist(), strict=True))
    return content_hash(*(part for pair in pairs for part in pair), length=32)


def model_card(record: RunRecord, table: Lookup, params: Params, policy: int, common: Common) -> str:
    """Markdown with the front matter that model hubs read."""
    split = table.splits[0]
    values: dict[str, Any] = {
        "front_matter": _front_matter(
            {
                "library_name": "transformers",
                "pipeline_tag": "text-generation",
                "tags": ["reinforcement-learning", "rlvr", "assay"],
                "base_model": params.policy.base,
            }
        ),
        "policy": policy,
        "origin": _origin(params),
        "training": _training(record, params, policy),
        "tasks_hash": common.tasks_hash,
        "tasks": common.tasks,
        "verifiers": common.verifiers,
        "noise": [noise_sentence(row) for row in latest_noise(common.noise, policy)],
        "noise_meaning": definitions.noise_meaning(judged(record.noise_estimates)),
        "evaluation": markdown(evaluation_grid(table, policy)),
        "metrics": {
            name: definitions.METRICS[name]
            for name in (
                "pass@k",
                "accuracy_rule",
                "accuracy_reference",
                "accuracy_oracle",
                "abstain_share",
                "truncated_share",
                "entropy",
            )
        },
        "headline": definitions.HEADLINE,
        "confidence": f"{params.evaluation.confidence:.0%}",
        "intervals": definitions.INTERVALS,
        "sampling": common.sampling.get(policy, ""),
        "split": split,
        "method": params.method,
        "environment": params.environment,
        "scale": params.scale,
        "seed": params.seed,
    }
    return _render("model_card.md.j2", values)


def dataset_card(record: RunRecord, params: Params, common: Common) -> str:
    """Markdown about the tasks and the stored trajectories."""
    by_kind = _counts(record.trajectories, ["kind", "iteration"])
    kinds = sorted({row["kind"] for row in by_kind})
    rows = tuple(
        (
            kind,
            str(len([r for r in by_kind if r["kind"] == kind])),
            f"{sum(r['count_all'] for r in by_kind if r['kind'] == kind):,}",
        )
        for kind in kinds
    )
    values: dict[str, Any] = {
        "front_matter": _front_matter({"tags": ["reinforcement-learning", "rlvr", "assay"]}),
        "tasks_hash": common.tasks_hash,
        "tasks": common.tasks,
        "environments": [
            (name, json.dumps(value.model_dump(mode="json"), sort_keys=True))
            for name, value in sorted(params.environments.items())
        ],
        "trajectories": markdown(Grid(("kind", "iterations", "rows"), rows, 1)),
        "verifiers": common.verifiers,
        "verdicts": markdown(verdict_grid(record.verdicts)),
        "noise": [noise_sentence(row) for row in common.noise],
        "noise_meaning": definitions.noise_meaning(judged(record.noise_estimates)),
        "environment": params.environment,
        "scale": params.scale,
        "seed": params.seed,
    }
    return _render("dataset_card.md.j2", values)


def evaluation_grid(table: Lookup, policy: int) -> Grid:
    """Environments and splits by metric, for one policy."""
    names = ["all", *table.environments] if len(table.environments) > 1 else table.environments
    columns = {f"pass@{k}": f"pass@{k}" for k in table.pass_at} | CARD_COLUMNS
    rows = []
    for split in table.splits:
        for name in names:
            row = table.get(policy, split, "length_mean", name)
            if row is not None:
                cells = (interval(table.get(policy, split, metric, name)) for metric in columns)
                rows.append((name, split, f"{row['n']:,}", *cells))
    return Grid(("environment", "split", "tasks", *columns.values()), tuple(rows), 2)


def verdict_grid(verdicts: pa.Table) -> Grid:
    """Counts by role, verdict and reason."""
    rows = sorted(
        _counts(verdicts, ["role", "verdict", "reason"]),
        key=lambda r: (r["role"], r["verdict"], -r["count_all"], r["reason"]),
    )
    return Grid(
        ("role", "verdict", "reason", "verdicts"),
        tuple((r["role"], r["verdict"], r["reason"], f"{r['count_all']:,}") for r in rows),
        3,
    )


def noise_rows(noise: pa.Table | None) -> list[Mapping[str, Any]]:
    """Estimates of every iteration; of its rounds the last one's."""
    if noise is None or not len(noise):
        return []
    keys = [(name, "ascending") for name in ("iteration", "round", "environment", "verifier", "against")]
    rows = noise.filter(pc.is_valid(noise["false_negative_rate"])).sort_by(keys).to_pylist()
    return list({(r["iteration"], r["environment"], r["verifier"], r["against"]): r for r in rows}.values())


def latest_noise(rows: Sequence[Mapping[str, Any]], policy: int) -> list[Mapping[str, Any]]:
    """Those of one iteration, or of the last one before it where it has none (the last policy has)."""
    latest = max((row["iteration"] for row in rows if row["iteration"] <= policy), default=None)
    return [row for row in rows if row["iteration"] == latest]


def noise_sentence(row: Mapping[str, Any]) -> str:
    """One estimate in words."""
    estimate = interval(
        {"value": row["false_negative_rate"], "low": row["false_negative_low"], "high": row["false_negative_high"]}
    )
    truth = row["true_false_negative_rate"]
    known = "" if truth is None else f"; true rate, by the oracle, {truth:.3f}"
    against = f"judge {in_cell(row['judge'])}" if row["judge"] is not None else row["against"]
    moment = f"iteration {row['iteration']}" + (f", round {row['round']}" if row["round"] else "")
    where = f"{row['verifier']} on {row['environment']}, against {against}, {moment}"
    if row["judge"] is None:
        return f"{where}: {estimate} ({row['n']:,} samples){known}"
    examined = f"{row['examined_negatives']:,} of {row['rule_negatives']:,} rejected samples examined"
    average = "" if row["smoothed_rate"] is None else f"; smoothed {row['smoothed_rate']:.3f}"
    amiss = "" if row["warning"] is None else f"; warning: {in_cell(row['warning'])}"
    return f"{where}: {estimate} ({examined}){average}{known}{amiss}"


def task_counts(tasks: pa.Table) -> str:
    """Markdown table of tasks by environment and split."""
    counted = {(r["environment"], r["split"]): r["count_all"] for r in _counts(tasks, ["environment", "split"])}
    names = sorted({key[0] for key in counted})
    rows = tuple((name, *(f"{counted.get((name, split), 0):,}" for split in SPLITS)) for name in names)
    return markdown(Grid(("environment", *SPLITS), rows, 1))


def markdown(grid: Grid) -> str:
    """A Grid as a Markdown table; text of others is escaped."""
    marks = ["---" if i < grid.words else "---:" for i in range(len(grid.header))]
    return "\n".join(
        "| " + " | ".join(cells) + " |"
        for cells in [tuple(map(in_cell, grid.header)), tuple(marks), *(tuple(map(in_cell, row)) for row in grid.rows)]
    )


def _counts(table: pa.Table, keys: list[str]) -> list[dict[str, Any]]:
    return table.select(keys).group_by(keys).aggregate([([], "count_all")]).to_pylist()


def _front_matter(values: Mapping[str, Any]) -> str:
    return (
        "---\n" + "".join(f"{key}: {json.dumps(value)}\n" for key, value in values.items() if value is not None) + "---"
    )


def _origin(params: Params) -> str:
    if params.policy.base:
        return f"Policy 0 is {params.policy.base}, {'fine-tuned before any reward' if params.policy.fine_tune else 'unchanged'}."
    s = params.policy.shape
    return (
        f"Policy 0 was made from scratch: a Qwen3-architecture model of {s.layers} layers, width {s.hidden_size}, "
        f"{s.vocabulary} tokens, trained on worked answers until sampling succeeded often enough for reinforcement "
        "learning."
    )


def _training(record: RunRecord, params: Params, policy: int) -> str:
    if policy == 0 or record.updates is None:
        return "No reinforcement learning yet: this is the policy that training starts from."
    updates = record.updates.filter(pc.less(record.updates["iteration"], policy))
    t, s = params.training, params.sampling
    lora = "" if t.lora is None else f", LoRA of rank {t.lora.rank}, merged"
    rows, tokens = (pc.sum(updates[name]).as_py() or 0 for name in ("rows", "tokens"))
    return (
        f"{policy} iterations of {params.method}, {len(updates):,} optimizer steps on {rows:,} rows and {tokens:,} "
        f"tokens. Each iteration samples {s.tasks_per_iteration:,} tasks, {s.group_size} completions each, at "
        f"temperature {s.temperature:g}. Advantage {t.advantage.type}, loss aggregation {t.loss.aggregation}, clip "
        f"{t.loss.clip_low:g} and {t.loss.clip_high:g}, learning rate {t.learning_rate:g} ({t.schedule}), divergence "
        f"coefficient {t.divergence.coefficient:g}{lora}."
    )


def _sampling(trajectories: pa.Table) -> dict[int, str]:
    """How the evaluation samples of each policy were drawn."""
    mine = trajectories.select(["iteration", "sampling"]).filter(pc.equal(trajectories["kind"], "evaluation"))
    keys = ["temperature", "top_p", "max_tokens", "engine", "engine_version"]
    columns = {"iteration": mine["iteration"]} | {key: pc.struct_field(mine["sampling"], key) for key in keys}
    texts: dict[int, list[str]] = {}
    for way in _counts(pa.table(columns), list(columns)):
        texts.setdefault(way["iteration"], []).append(
            f"temperature {way['temperature']:g}, top_p {way['top_p']:g}, at most {way['max_tokens']} tokens, "
            f"{way['engine']} {way['engine_version']}"
        )
    return {policy: "; ".join(sorted(found)) for policy, found in texts.items()}


def _render(name: str, values: Mapping[str, Any]) -> str:
    from jinja2 import DictLoader, Environment, StrictUndefined

    from assay.evaluation.report import asset

    # Markdown, not HTML: cells of tables are escaped by `markdown`; the rest is the project's own text and parameters.
    engine = Environment(
        loader=DictLoader({name: asset(name)}),
        autoescape=False,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return engine.get_template(name).render(values)
