"""How fast the record is written, how large it is, and how long a question to a million trajectories takes.

    python -m benchmarks.storage                 a million invented trajectories; a few minutes and 1 GB of disk
    python -m benchmarks.storage --rows 50000

Aims: five times smaller than JSON lines; an aggregate over a million trajectories in less than a second.
Where a run has left trajectories in data/rollout, its own size is printed too.
"""

import argparse
import io
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from assay.trajectories import query, read_table, schema, shard_files, sync, write_shard

ROWS_PER_SHARD = 65_536
GROUP = 8
MEAN_TOKENS = 10
LONG_TOKENS = 512
VERSION = "imported/benchmark"
QUESTIONS = {
    "pass@1 and length by iteration and environment (three tables joined)": """
        SELECT t.iteration, k.environment, avg((v.verdict = 'correct')::INT), avg(len(t.completion_ids)), count(*)
        FROM trajectories AS t JOIN tasks AS k USING (task_id) JOIN verdicts AS v USING (trajectory_id)
        WHERE v.role = 'rule' GROUP BY ALL ORDER BY ALL""",
    "truncated share and mean length by iteration": """
        SELECT iteration, avg((finish_reason = 'length')::INT), avg(len(completion_ids)) FROM trajectories GROUP BY ALL""",
    "mean log-probability of all tokens by iteration": """
        SELECT iteration, sum(list_sum(sampled_logprobs)) / sum(len(sampled_logprobs)) FROM trajectories GROUP BY ALL""",
}


def names(draw: np.random.Generator, rows: int) -> pa.Array:
    """Ids that look like content hashes."""
    text = draw.bytes(10 * rows).hex()
    return pa.array([text[start : start + 20] for start in range(0, len(text), 20)])


def trajectories(draw: np.random.Generator, tasks: pa.Array, rows: int, iteration: int, mean_tokens: int) -> pa.Table:
    """Invented rows of the shape that sampling gives: ids of a skewed distribution, log-probabilities mostly near 0."""
    sizes = np.clip(draw.poisson(mean_tokens, rows), 1, None)
    offsets = pa.array(np.concatenate(([0], np.cumsum(sizes))), type=pa.int32())
    total = int(sizes.sum())
    ids = np.minimum(draw.zipf(1.4, total), 499).astype(np.int32)
    logprobs = -draw.exponential(0.5, total).astype(np.float32)
    number = np.arange(rows)
    prompts = np.repeat(draw.integers(0, 500, (rows // GROUP + 1, 20), dtype=np.int32), GROUP, axis=0)[:rows]
    prompt_ids = pa.ListArray.from_arrays(pa.array(np.arange(0, 20 * rows + 1, 20, dtype=np.int32)), prompts.ravel())
    group = tasks.take(pa.array(number // GROUP % len(tasks)))
    text = pa.array([f"{value}/{size}" for value, size in zip(draw.integers(1, 99, rows), sizes, strict=True)])
    constant = {"iteration": iteration, "round": 0, "policy": str(iteration), "kind": "solution", "parent_id": None}
    sampling = {"temperature": 1.0, "top_p": 1.0, "max_tokens": 16, "engine": "vllm", "engine_version": "0.32.0"}
    target = schema("trajectories")
    kinds = target.field("sampling").type
    seeds = pa.array(draw.integers(0, 2**31, rows), type=pa.int64())
    parts = [seeds if f.name == "seed" else pa.array([sampling[f.name]] * rows, type=f.type) for f in kinds]
    columns = {
        "trajectory_id": names(draw, rows), "task_id": group, "group_id": group,
        "sample_index": pa.array(number % GROUP, type=pa.int32()), "prompt_ids": prompt_ids,
        "completion_ids": pa.ListArray.from_arrays(offsets, pa.array(ids)),
        "loss_mask": pa.ListArray.from_arrays(offsets, pa.array(np.ones(total, dtype=bool))),
        "sampled_logprobs": pa.ListArray.from_arrays(offsets, pa.array(logprobs)),
        "finish_reason": pa.array(np.where(draw.random(rows) < 0.05, "length", "stop")), "text": text,
        "sampling": pa.StructArray.from_arrays(parts, fields=list(kinds)),
    } | {name: pa.array([value] * rows, type=target.field(name).type) for name, value in constant.items()}  # fmt: skip
    return pa.table({name: columns[name] for name in target.names}).cast(target)


def verdicts(draw: np.random.Generator, rows: pa.Table) -> pa.Table:
    """One verdict of the rule for each trajectory."""
    target = schema("verdicts")
    count = len(rows)
    right = draw.random(count) < 0.5
    constant = {
        "round": 0, "verifier": "numeric", "verifier_version": "1", "role": "rule", "components": None,
        "appealed": False, "upheld": None, "flipped": False, "answer_format": "fraction",
    }  # fmt: skip
    columns = {
        "trajectory_id": rows["trajectory_id"], "iteration": rows["iteration"], "answer": rows["text"],
        "verdict": pa.array(np.where(right, "correct", "wrong")),
        "reason": pa.array(np.where(right, "equal", "different")), "score": pa.array(right.astype(np.float32)),
        "observed_reward": pa.array(right.astype(np.float32)),
    } | {name: pa.array([value] * count, type=target.field(name).type) for name, value in constant.items()}  # fmt: skip
    return pa.table({name: columns[name] for name in target.names}).cast(target)


def sizes_of(rows: pa.Table, files: list[Path]) -> tuple[float, float, float, int]:
    """Bytes of the shards, of JSON lines with Python's digits and with float32's, for these rows; and their tokens."""
    tokens = sum(len(ids) for ids in rows["completion_ids"].to_pylist())
    plain = short = 0
    for row in rows.to_pylist():
        plain += len(json.dumps(row)) + 1
        row["sampled_logprobs"] = [float(f"{value:.7g}") for value in row["sampled_logprobs"]]
        short += len(json.dumps(row)) + 1
    return sum(file.stat().st_size for file in files), plain, short, tokens


def with_dictionary(rows: pa.Table) -> int:
    """Bytes of the same rows in one shard whose log-probabilities are encoded as everything else is."""
    out = io.BytesIO()
    pq.write_table(rows.combine_chunks(), out, compression="zstd", compression_level=3, write_page_checksum=True)
    return len(out.getbuffer())


def print_sizes(label: str, rows: pa.Table, files: list[Path]) -> None:
    stored, plain, short, tokens = sizes_of(rows, files)
    prompts = sum(len(ids) for ids in rows["prompt_ids"].to_pylist())
    print(f"  {label}: {len(rows):,} rows, {tokens / len(rows):.1f} completion and {prompts / len(rows):.1f} prompt tokens each")
    sizes = {
        "shards": stored, "shards, bytes not split": with_dictionary(rows), "JSON lines, float32 digits": short,
        "JSON lines, Python's digits": plain,
    }  # fmt: skip
    for name, size in sizes.items():
        ratio = "" if size == stored else f"{size / stored:7.2f} times the shards"
        print(f"    {name:28}{size / 1e6:9.1f} MB {size / len(rows):9.1f} per row {size / tokens:8.2f} per token {ratio}")


def memory() -> float:
    """Largest resident memory of this process so far, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def ask(root: Path) -> None:
    """Each question three times, in a process of its own."""
    for label, sql in QUESTIONS.items():
        seconds = []
        for _ in range(3):
            start = time.perf_counter()
            query(sql, root, version=VERSION)
            seconds.append(time.perf_counter() - start)
        print(f"  {label}: {', '.join(f'{value:.2f}' for value in seconds)} s")
    print(f"  peak memory {memory():,.0f} MiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--ask", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.ask is not None:
        ask(arguments.ask)
        return
    with tempfile.TemporaryDirectory(prefix="assay-storage-") as folder:
        measure(Path(folder), arguments.rows)


def measure(root: Path, rows: int) -> None:
    draw = np.random.default_rng(0)
    target = root / "data" / "imported" / "benchmark"
    task_ids = names(draw, max(rows // GROUP // 8, 1))
    environment = pa.array(["rational", "chain_sum"]).take(pa.array(np.arange(len(task_ids)) % 2))
    write_shard(target / "tasks.parquet", "tasks", [
        {"task_id": i, "environment": e, "split": "train", "prompt": [{"role": "user", "content": "1 + 1"}], "gold": "2",
         "verifier": "numeric", "meta": "{}", "difficulty": None}
        for i, e in zip(task_ids.to_pylist(), environment.to_pylist(), strict=True)
    ])  # fmt: skip
    seconds = 0.0
    written = tokens = 0
    first: tuple[pa.Table, list[Path]] | None = None
    for number, start in enumerate(range(0, rows, ROWS_PER_SHARD)):
        table = trajectories(draw, task_ids, min(ROWS_PER_SHARD, rows - start), number % 10, MEAN_TOKENS)
        path = target / f"trajectories-{number:04d}.parquet"
        began = time.perf_counter()
        write_shard(path, "trajectories", table)
        seconds += time.perf_counter() - began
        written += len(table)
        tokens += len(table["completion_ids"].combine_chunks().flatten())
        write_shard(target / f"verdicts-{number:04d}.parquet", "verdicts", verdicts(draw, table))
        if first is None:
            first = table, [path]
    print(f"writing: {written:,} trajectories of {tokens / written:.1f} tokens in {seconds:.1f} s "
          f"({written / seconds:,.0f} rows/s, {tokens / seconds:,.0f} tokens/s), peak memory {memory():,.0f} MiB")  # fmt: skip

    print("size:")
    assert first is not None
    print_sizes("short answers", *first)
    long = trajectories(draw, task_ids, min(2000, rows), 0, LONG_TOKENS)
    write_shard(root / "long" / "trajectories.parquet", "trajectories", long)
    print_sizes("long answers", long, [root / "long" / "trajectories.parquet"])
    own = shard_files("trajectories", Path("data/rollout")) if Path("data/rollout").is_dir() else []
    if own:
        print_sizes("data/rollout", read_table("trajectories", *own), own)

    began = time.perf_counter()
    report = sync(root)
    took = time.perf_counter() - began
    file = root / "data" / "trajectories.duckdb"
    print(f"sync: {report.rows:,} rows in {took:.1f} s ({report.rows / took:,.0f} rows/s), "
          f"warehouse {file.stat().st_size / 1e6:,.0f} MB, peak memory {memory():,.0f} MiB")  # fmt: skip
    began = time.perf_counter()
    sync(root)
    print(f"sync with nothing new: {time.perf_counter() - began:.2f} s")

    print(f"questions to {written:,} trajectories, opening the file included, first time and again:", flush=True)
    subprocess.run([sys.executable, "-m", "benchmarks.storage", "--ask", str(root)], check=True)


if __name__ == "__main__":
    main()
