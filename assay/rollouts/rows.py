"""From sampled completions to rows of the table `trajectories`, column by column: a shard never exists as Python dicts.
"""

from collections.abc import Sequence
from itertools import chain
from typing import Any

import pyarrow as pa

from assay.engines import Completion, Engine, Renderer
from assay.rollouts.plan import PlanRow
from assay.trajectories import content_hash, schema, token_hash


def trajectory_rows(
    plan: Sequence[PlanRow],
    prompts: Sequence[tuple[int, ...]],
    completions: Sequence[Completion],
    engine: Engine,
    renderer: Renderer,
) -> pa.Table:
    """Table `trajectories`: one row per row of the plan, in its order, all of its completion sampled by the policy."""
    target = schema("trajectories")
    texts: dict[tuple[int, ...], str] = {}
    for completion in completions:
        if completion.ids not in texts:  # short answers repeat
            texts[completion.ids] = renderer.text(completion.ids)
    columns: dict[str, Any] = {
        "trajectory_id": [
            content_hash(
                row.policy, row.kind, row.task_id, row.sample_index, row.seed, token_hash((*prompt, *completion.ids))
            )
            for row, prompt, completion in zip(plan, prompts, completions, strict=True)
        ],
        "prompt_ids": _lists(prompts, pa.int32()),
        "completion_ids": _lists([completion.ids for completion in completions], pa.int32()),
        "loss_mask": _lists([(True,) * len(completion.ids) for completion in completions], pa.bool_()),
        "sampled_logprobs": _lists([completion.logprobs for completion in completions], pa.float32()),
        "finish_reason": [completion.finish_reason for completion in completions],
        "text": [texts[completion.ids] for completion in completions],
        "sampling": _sampling(plan, engine, target.field("sampling").type),
    }
    for name in ("iteration", "round", "policy", "task_id", "group_id", "sample_index", "kind", "parent_id"):
        columns[name] = [getattr(row, name) for row in plan]
    arrays = [
        columns[field.name] if isinstance(columns[field.name], pa.Array) else pa.array(columns[field.name], field.type)
        for field in target
    ]
    return pa.Table.from_arrays(arrays, schema=target)


def _lists(rows: Sequence[Sequence[Any]], kind: pa.DataType) -> pa.ListArray:
    """List column from one flat array and offsets."""
    offsets = [0]
    for row in rows:
        offsets.append(offsets[-1] + len(row))
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(list(chain.from_iterable(rows)), kind))


def _sampling(plan: Sequence[PlanRow], engine: Engine, kind: pa.StructType) -> pa.StructArray:
    values: dict[str, list[Any]] = {
        name: [getattr(row, name) for row in plan] for name in ("temperature", "top_p", "max_tokens", "seed")
    }
    values |= {"engine": [engine.name] * len(plan), "engine_version": [engine.version] * len(plan)}
    return pa.StructArray.from_arrays([pa.array(values[field.name], field.type) for field in kind], fields=list(kind))
