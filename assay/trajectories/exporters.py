"""The record in other tools' layouts: TRL, verl, Hugging Face datasets.

The rows come from the warehouse, so any version that it knows can be exported.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from assay.trajectories.schemas import MESSAGES, TABLES
from assay.trajectories.shards import publish_folder
from assay.trajectories.warehouse_query import query

LAYOUTS: dict[str, str] = {
    "trl": "one row per trajectory: prompt and completion as messages, reward, token ids and log-probabilities",
    "verl": "one row per task: data_source, prompt, ability, reward_model, extra_info; train, eval and ood files",
    "hf": "tasks, trajectories and verdicts as configurations of a dataset folder that `datasets.load_dataset` reads",
}

_TRAJECTORIES = """
SELECT k.prompt, [{{'role': 'assistant', 'content': t.text}}] AS completion,
       r.observed_reward AS reward, b.advantage, k.gold AS solution,
       t.prompt_ids, t.completion_ids, t.sampled_logprobs AS logprobs, t.loss_mask AS completion_mask,
       t.trajectory_id, t.task_id, t.group_id, t.sample_index, t.iteration, t.round, t.policy, t.kind, t.finish_reason,
       k.environment, k.split, r.verdict, r.reason, r.answer
FROM trajectories AS t
JOIN tasks AS k USING (task_id)
LEFT JOIN (SELECT * FROM verdicts WHERE role IN ('rule', 'imported')
           QUALIFY row_number() OVER (PARTITION BY trajectory_id ORDER BY role DESC) = 1) AS r USING (trajectory_id)
LEFT JOIN (SELECT * FROM batches WHERE NOT rehearsal) AS b USING (trajectory_id)
WHERE {where}
ORDER BY t.iteration, t.round, t.kind, t.task_id, t.sample_index
"""

_TASKS = """
SELECT * FROM tasks WHERE {where} ORDER BY split, environment, task_id
"""


class ExportError(ValueError):
    """Rows that cannot be exported. The message says why and what to do."""


def export(
    layout: str, out: Path, root: Path = Path(), *, version: str | None = None, where: str = "true"
) -> dict[str, int]:
    """Write one of LAYOUTS into the folder `out`, whole or not at all. Returns rows by file.

    version: a name that the warehouse knows; None is the current one. where: a condition in SQL on the rows of the
    layout (t: trajectories, k: tasks; for verl the columns of tasks).
    Raises ExportError when `out` exists already or cannot be written, or nothing is selected; QueryError and
    WarehouseError as queries do, also for a version that is incomplete: rows for training must not be some of them.
    """
    version = version or "current"
    writer = {"trl": _trl, "verl": _verl, "hf": _hugging_face}[layout]
    with whole_folder(out) as draft:
        draft.mkdir(parents=True)
        counts = writer(lambda sql: query(sql, root, version=version), draft, where)
        if not any(counts.values()):
            raise ExportError(f"no row of version {version} fits --where {where!r}; nothing was written")
    return counts


@contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """A folder beside `out` to make and fill, which takes its place at the end. Raises ExportError where `out` is there already or
    cannot be written."""
    if out.exists():
        raise ExportError(f"{out} exists already; choose another --output, or remove it")
    draft = out.with_name(f".{out.name}.partial")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        yield draft
        publish_folder(draft, out)
    except OSError as error:
        advice = "choose another --output, or free disk space"
        raise ExportError(f"{out}: could not be written ({error.strerror or error}); {advice}") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _trl(ask: Callable[[str], pa.Table], out: Path, where: str) -> dict[str, int]:
    rows = ask(_TRAJECTORIES.format(where=where))
    return _write(out, {"train.parquet": rows})


def _verl(ask: Callable[[str], pa.Table], out: Path, where: str) -> dict[str, int]:
    files: dict[str, list[dict[str, Any]]] = {}
    for row in ask(_TASKS.format(where=where)).to_pylist():
        own = files.setdefault(row["split"], [])
        own.append({
            "data_source": row["environment"],
            "prompt": row["prompt"],
            "ability": row["environment"],
            "reward_model": {"style": "rule", "ground_truth": row["gold"]},
            "extra_info": {
                "split": row["split"], "index": len(own), "task_id": row["task_id"], "verifier": row["verifier"],
                "meta": row["meta"], "difficulty": row["difficulty"],
            },
        })  # fmt: skip
    schema = pa.schema([
        ("data_source", pa.string()), ("prompt", MESSAGES), ("ability", pa.string()),
        ("reward_model", pa.struct([("style", pa.string()), ("ground_truth", pa.string())])),
        ("extra_info", pa.struct([
            ("split", pa.string()), ("index", pa.int64()), ("task_id", pa.string()), ("verifier", pa.string()),
            ("meta", pa.string()), ("difficulty", pa.float32()),
        ])),
    ])  # fmt: skip
    return _write(out, {f"{split}.parquet": pa.Table.from_pylist(rows, schema=schema) for split, rows in files.items()})


def _hugging_face(ask: Callable[[str], pa.Table], out: Path, where: str) -> dict[str, int]:
    chosen = f"SELECT t.trajectory_id FROM trajectories AS t JOIN tasks AS k USING (task_id) WHERE {where}"
    order = "ORDER BY iteration, round, trajectory_id"
    tables = {
        "tasks": ask("SELECT * FROM tasks ORDER BY split, environment, task_id"),
        "trajectories": ask(f"SELECT * FROM trajectories WHERE trajectory_id IN ({chosen}) {order}"),
        "verdicts": ask(f"SELECT * FROM verdicts WHERE trajectory_id IN ({chosen}) {order}, role"),
    }
    counts: dict[str, int] = {}
    configurations, meaning = "", ""
    for name, table in tables.items():
        splits = pc.unique(table["split"]).to_pylist() if name == "tasks" else ["train"]
        parts = {s: table.filter(pc.equal(table["split"], s)) if name == "tasks" else table for s in splits}
        files = {split: f"{name}/{split}.parquet" for split, part in parts.items() if len(part)}
        if files:
            counts |= _write(out, {file: parts[split] for split, file in files.items()})
            configurations += f"- config_name: {name}\n  data_files:\n"
            configurations += "".join(f"  - split: {split}\n    path: {file}\n" for split, file in files.items())
            configurations += "  default: true\n" if name == "trajectories" else ""
            meaning += f"* `{name}`: one row per {TABLES[name].row}\n"
    card = f"---\nconfigs:\n{configurations}---\n\nRollouts with their verdicts, exported by Assay.\n\n{meaning}"
    (out / "README.md").write_text(card, encoding="utf-8")
    return counts if len(tables["trajectories"]) else {}


def _write(out: Path, files: dict[str, pa.Table]) -> dict[str, int]:
    for name, table in files.items():
        path = out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, path, compression="zstd")
    return {name: len(table) for name, table in files.items()}
