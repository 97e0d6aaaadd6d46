"""What the suites look at: one plain row per row of the record, with counts and lengths instead of lists.

Frames of more than AGGREGATE_ABOVE rows are folded: rows that look alike become one, with their number and a few ids.
No row is left out by that, only the display is shorter. (So columns are counts of faults, which are mostly 0, rather
than values, which are all different.)
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from assay.trajectories.gates.measures import counts, elements, is_known, least_share, lengths, occurrences, per_row
from assay.trajectories.gates.suites import LARGEST_LOGPROB

if TYPE_CHECKING:
    import pandas

AGGREGATE_ABOVE = 50_000
EXAMPLES = 5
ROW_COUNT = "row_count"
"""Column of a folded frame: rows that look like this one."""
IDS = ("trajectory_id", "task_id", "group_id")
Tables = Mapping[str, pa.Table]


def task_frames(tables: Tables) -> dict[str, "pandas.DataFrame"]:
    """`tasks`: one row per task."""
    tasks = tables["tasks"]
    messages = tasks["prompt"]
    sizes = lengths(messages)
    contents = pc.struct_field(pc.list_flatten(messages), "content")
    blank = pc.equal(pc.utf8_length(pc.utf8_trim_whitespace(contents)), 0).to_numpy()
    prompts = _prompt_keys(tasks)
    splits: dict[str, set[str]] = {}
    for prompt, split in zip(prompts, tasks["split"].to_pylist(), strict=True):
        splits.setdefault(prompt, set()).add(split)
    return {"tasks": _frame({
        "task_id": tasks["task_id"],
        "environment": tasks["environment"],
        "split": tasks["split"],
        "verifier_characters": _characters(tasks["verifier"]),
        "gold_characters": _characters(tasks["gold"]),
        "messages": sizes,
        "messages_with_text": sizes - per_row(blank.astype(np.int64), sizes, np.add, 0),
        "occurrences": occurrences(tasks["task_id"]),
        "splits_of_prompt": np.array([len(splits[prompt]) for prompt in prompts], dtype=np.int64),
    })}  # fmt: skip


def _prompt_keys(tasks: pa.Table) -> list[str]:
    return [" ".join(f"{m['role']} {m['content']}".casefold() for m in row) for row in tasks["prompt"].to_pylist()]


def trajectory_frames(tables: Tables, vocabulary: int | None) -> dict[str, "pandas.DataFrame"]:
    """`trajectories`: one row per trajectory."""
    rows, tasks = tables["trajectories"], tables["tasks"]
    tokens = lengths(rows["completion_ids"])
    prompts = lengths(rows["prompt_ids"])
    streams = _streams(rows, tokens)
    unknown = np.zeros(len(rows), dtype=np.int64)
    for name, sizes in (("prompt_ids", prompts), ("completion_ids", tokens)):
        ids = elements(rows[name])
        outside = (ids < 0) | (ids >= (np.iinfo(np.int64).max if vocabulary is None else vocabulary))
        unknown += per_row(outside.astype(np.int64), sizes, np.add, 0)
    return {"trajectories": _frame({
        "trajectory_id": rows["trajectory_id"],
        "task_id": rows["task_id"],
        "kind": rows["kind"],
        "finish_reason": rows["finish_reason"],
        "task_known": is_known(rows["task_id"], tasks["task_id"]).astype(str),
        "occurrences": occurrences(rows["trajectory_id"]),
        "has_prompt": (prompts > 0).astype(str),
        "has_completion": (tokens > 0).astype(str),
        **streams,
        "unknown_tokens": unknown,
    })}  # fmt: skip


def _streams(rows: pa.Table, tokens: np.ndarray) -> dict[str, np.ndarray]:
    """Agreement of the token streams of each row."""
    sizes = lengths(rows["sampled_logprobs"])
    logprobs = elements(rows["sampled_logprobs"]).astype(np.float64)
    masks = lengths(rows["loss_mask"])
    if (masks == sizes).all():
        # Tokens that the policy did not sample (tool output) have no log-probability to judge.
        logprobs = np.where(elements(rows["loss_mask"]).astype(bool), logprobs, 0.0)
    unreadable = ~np.isfinite(logprobs)
    return {
        "mask_minus_tokens": masks - tokens,
        "logprobs_minus_tokens": sizes - tokens,
        "unreadable_logprobs": per_row(unreadable.astype(np.int64), sizes, np.add, 0),
        "positive_logprobs": per_row((logprobs > LARGEST_LOGPROB).astype(np.int64), sizes, np.add, 0),
    }


def verdict_frames(tables: Tables) -> dict[str, "pandas.DataFrame"]:
    """`verdicts`: one row each; `rules`: one per trajectory; `abstentions`: one for all, one per reason and one per environment."""
    verdicts, rows = tables["verdicts"], tables["trajectories"]
    rule = verdicts.filter(pc.equal(verdicts["role"], "rule"))
    keys = ("trajectory_id", "role", "verifier", "verifier_version")
    separator = pa.scalar("\x1f")
    joined = pc.binary_join_element_wise(*(verdicts[key] for key in keys), separator)
    silent = pc.and_(pc.not_equal(verdicts["verdict"], "abstain"), pc.is_null(verdicts["score"]))
    return {
        "verdicts": _frame({
            "trajectory_id": verdicts["trajectory_id"],
            "verifier": verdicts["verifier"],
            "verifier_version": verdicts["verifier_version"],
            "role": verdicts["role"],
            "verdict": verdicts["verdict"],
            "reason": verdicts["reason"],
            "trajectory_known": is_known(verdicts["trajectory_id"], rows["trajectory_id"]).astype(str),
            "occurrences": occurrences(joined),
            "has_score_or_abstains": np.array([str(not value) for value in silent.to_pylist()]),
        }),
        "rules": _frame({
            "trajectory_id": rows["trajectory_id"],
            "rule_verdicts": counts(rows["trajectory_id"], rule["trajectory_id"]),
        }),
        "abstentions": _abstentions(rule, *_asked(rule, rows, tables["tasks"])),
    }  # fmt: skip


def _asked(verdicts: pa.Table, trajectories: pa.Table, tasks: pa.Table) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
    """Task that each verdict's answer is to, and its environment; null where unknown."""
    task_ids = trajectories["task_id"].take(pc.index_in(verdicts["trajectory_id"], trajectories["trajectory_id"].combine_chunks()))
    return task_ids, tasks["environment"].take(pc.index_in(task_ids, tasks["task_id"].combine_chunks()))


def _abstentions(rule: pa.Table, task_ids: pa.ChunkedArray, environments: pa.ChunkedArray) -> "pandas.DataFrame":
    import pandas

    abstains = pc.equal(rule["verdict"], "abstain")
    abstained = rule.filter(abstains)
    reasons, ids = abstained["reason"], abstained["trajectory_id"]
    parts = [("all", "all", len(rule), ids)]
    parts += [("all", reason, len(rule), ids.filter(pc.equal(reasons, reason))) for reason in _sorted(reasons)]
    several = _sorted(environments) if len(_sorted(environments)) > 1 else []
    own, tasks = environments.filter(abstains), task_ids.filter(abstains)
    # A gold that cannot be read makes all answers to one task abstain: no sign that a verifier fails.
    spread = [False] * len(parts) + [pc.count_distinct(tasks.filter(pc.equal(own, name))).as_py() > 1 for name in several]
    parts += [(name, "all", pc.sum(pc.equal(environments, name)).as_py(), ids.filter(pc.equal(own, name))) for name in several]
    shares = [len(found) / max(judged, 1) for _, _, judged, found in parts]
    return pandas.DataFrame({
        "environment": [part[0] for part in parts], "reason": [part[1] for part in parts],
        "rows": [len(part[3]) for part in parts], "examples": [", ".join(part[3][:EXAMPLES].to_pylist()) for part in parts],
        "share": shares,
        # The limit is on the whole, and on each environment with more than one; the shares by reason are there to be read.
        "share_of_all": [shares[0]] + [0.0] * (len(parts) - 1),
        "least_share_of_environment": [
            least_share(len(found), judged) if wide else 0.0 for (_, _, judged, found), wide in zip(parts, spread, strict=True)
        ],
    })  # fmt: skip


def _sorted(names: pa.ChunkedArray) -> list[str]:
    return sorted(pc.unique(pc.drop_null(names)).to_pylist())


def batch_frames(tables: Tables, steps: int | None) -> dict[str, "pandas.DataFrame"]:
    """`rows`: one row per row offered to training; `groups` and `steps`: one row each."""
    import pandas

    batch = tables["batches"]
    kept = np.array(batch["kept"].to_pylist(), dtype=bool)
    advantage = np.array([np.nan if a is None else a for a in batch["advantage"].to_pylist()], dtype=np.float64)
    tokens = lengths(batch["completion_ids"])
    streams = {name: np.where(kept, values, 0) for name, values in _streams(batch, tokens).items()}
    for name in ("reference_logprobs", "token_advantages"):
        present = pc.is_valid(batch[name]).to_numpy()
        streams[f"{name}_minus_tokens"] = np.where(kept & present, lengths(batch[name]) - tokens, 0)
    explained = kept != pc.is_valid(batch["drop_reason"]).to_numpy()
    placed = ~kept | pc.is_valid(batch["step"]).to_numpy()
    used = batch["step"].filter(pa.array(kept))
    number = {item["values"]: item["counts"] for item in pc.value_counts(pc.drop_null(used)).to_pylist()}
    expected = range(steps) if steps is not None else sorted(number)
    groups = {item["values"]: item["counts"] for item in pc.value_counts(batch["group_id"]).to_pylist()}
    return {
        "rows": _frame({
            "trajectory_id": batch["trajectory_id"],
            "group_id": batch["group_id"],
            "kept": kept.astype(str),
            "drop_reason": pc.fill_null(batch["drop_reason"], ""),
            "trajectory_known": is_known(batch["trajectory_id"], tables["trajectories"]["trajectory_id"]).astype(str),
            "occurrences": occurrences(batch["trajectory_id"]),
            "kept_or_reason_given": explained.astype(str),
            "has_step_where_kept": placed.astype(str),
            "has_tokens_where_kept": (~kept | ((tokens > 0) & (lengths(batch["prompt_ids"]) > 0))).astype(str),
            "finite_advantage_where_kept": (~kept | np.isfinite(advantage)).astype(str),
            **streams,
        }),
        "groups": pandas.DataFrame({"group_id": list(groups), "rows": list(groups.values())}),
        "steps": pandas.DataFrame({"step": list(expected), "rows": [number.get(step, 0) for step in expected]}),
    }  # fmt: skip


def fold(frame: "pandas.DataFrame") -> tuple["pandas.DataFrame", list[str]]:
    """The frame, or what it folds to where it is long, and the columns that name a row of it (folded: and count it)."""
    names = [name for name in IDS if name in frame.columns]
    if len(frame) <= AGGREGATE_ABOVE or not names:
        return frame, names or [name for name in ("environment", "reason", "examples", "step") if name in frame.columns]
    grouped = frame.groupby([column for column in frame.columns if column not in names], sort=True, dropna=False)
    folded = grouped.size().to_frame(ROW_COUNT)
    folded["examples"] = grouped[names[0]].agg(lambda ids: ", ".join(ids.head(EXAMPLES)))
    return folded.reset_index(), ["examples", ROW_COUNT]


def _characters(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.utf8_length(pc.utf8_trim_whitespace(column))


def _frame(columns: Mapping[str, object]) -> "pandas.DataFrame":
    import pandas

    plain = {name: c.to_pandas() if isinstance(c, pa.ChunkedArray | pa.Array) else c for name, c in columns.items()}
    return pandas.DataFrame(plain)
