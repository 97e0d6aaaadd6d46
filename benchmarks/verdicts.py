"""Verdicts per second: the cascade against plain math-verify in series, and how often its numeric step agrees with it.

    python -m benchmarks.verdicts [data/rollout] [data/tasks] [--workers 2] [--rows 4096]

Measured on stored answers of a run; without such, on answers generated to look like them (the table says which).
Plain: `verify(parse(gold), parse(answer))` for every row, one after the other, without isolation. Cascade:
`verify_trajectories` with math-verify as the rule, nothing remembered from before. The start of
its workers counts, and is shown on its own line. Each is the best of three.
"""

import argparse
import logging
import os
import resource
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa

from assay.environments import Task, tasks_from_table
from assay.isolation.processes import descendants
from assay.params.data import RationalArithmetic
from assay.params.verification import VerificationParams
from assay.trajectories import ShardError, read_table, seed_from
from assay.verifiers import extract_answer, numeric, verify_trajectories
from assay.verifiers.cascade import open_pool

COLUMNS = ("trajectory_id", "iteration", "round", "task_id", "kind", "text")
AIM = 20.0
REPEATS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trajectories", nargs="?", type=Path, default=Path("data/rollout"))
    parser.add_argument("tasks", nargs="?", type=Path, default=Path("data/tasks"))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument(
        "--rows", type=int, default=4096, help="rows for plain math-verify, spread over the whole table"
    )
    arguments = parser.parse_args()
    try:
        trajectories = read_table("trajectories", arguments.trajectories, columns=COLUMNS)
        tasks = tasks_from_table(read_table("tasks", arguments.tasks / "tasks.parquet"))
        source = f"stored answers of {arguments.trajectories}"
    except ShardError as error:
        tasks, trajectories = sample()
        source = f"GENERATED answers, as there are no stored ones ({str(error).split(';')[0]})"
    print(f"{source}: {len(trajectories)} rows, {len(set(trajectories['text'].to_pylist()))} different texts\n")
    report(tasks, trajectories, arguments.workers, arguments.rows)


def report(tasks: dict[str, Task], trajectories: pa.Table, workers: int, rows: int) -> None:
    """Measure and print the table."""
    pairs = [
        (tasks[task].gold, extract_answer(text))
        for task, text in zip(trajectories["task_id"].to_pylist(), trajectories["text"].to_pylist(), strict=True)
    ]
    chosen = sorted(Random(0).sample(range(len(pairs)), min(rows, len(pairs))))
    plain = plain_math_verify()
    plain("1/2", "0.5")
    seconds, says = timed(lambda: [plain(*pairs[row]) for row in chosen])
    base = len(chosen) / seconds
    alone = VerificationParams(rule="math_verify", reference="none", oracle=False)
    start, worker_mib = timed(lambda: warm_pool(alone, workers))
    cold, verdicts = timed(lambda: verify_trajectories(tasks, trajectories, alone, workers))
    every = timed(lambda: verify_trajectories(tasks, trajectories, VerificationParams(), workers))
    lines = [
        ("plain math-verify, in series", len(chosen), base),
        (f"cascade, cold, {workers} workers", len(pairs), len(pairs) / cold),
        ("  without the start of the workers", len(pairs), len(pairs) / max(cold - start, 1e-9)),
        ("rule + reference + oracle, cold", len(every[1]), len(every[1]) / every[0]),
    ]
    print(f"{'':<38}{'verdicts':>10}{'per second':>12}{'ratio':>9}")
    for name, count, rate in lines:
        print(f"{name:<38}{count:>10}{rate:>12.0f}{rate / base:>8.1f}x")
    print(f"\naim: {AIM:.0f}x on two cores; starting the workers takes {start:.2f} s, when any answer needs them")
    agreement(pairs, chosen, says, verdicts)
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory: {own:.0f} MiB here (plain math-verify included), {worker_mib:.0f} MiB in a warm worker, mostly shared")


def agreement(pairs: list[tuple[str, str]], chosen: list[int], says: list[bool], verdicts: pa.Table) -> None:
    """Where numeric step and cascade decide otherwise than plain math-verify."""
    decided = [
        (row, numeric.equal(pairs[row][1], pairs[row][0]), said) for row, said in zip(chosen, says, strict=True)
    ]
    sure = [(row, mine, said) for row, mine, said in decided if mine is not None]
    print(
        f"numeric step: decides {len(sure)} of {len(chosen)} rows, agrees with math-verify on {sum(m == s for _, m, s in sure)}"
    )
    final, reasons = verdicts["verdict"].to_pylist(), verdicts["reason"].to_pylist()
    other = [row for row, said in zip(chosen, says, strict=True) if (final[row] == "correct") != said]
    shown = Counter((*pairs[row], f"{final[row]} ({reasons[row]})") for row in other)
    print(f"whole cascade: differs from plain math-verify on {len(other)} rows")
    for (gold, answer, mine), count in shown.most_common(8):
        print(f"  {count}x gold {gold!r}, answer {answer!r}: cascade {mine}")


def plain_math_verify() -> Callable[[str, str], bool]:
    """math-verify as its users call it, with its time limits off."""
    from math_verify import parse, verify

    logging.getLogger("math_verify").setLevel(logging.ERROR)
    return lambda gold, answer: verify(
        parse(gold, parsing_timeout=None), parse(answer, parsing_timeout=None), timeout_seconds=None
    )


def warm_pool(params: VerificationParams, workers: int) -> float:
    """Start workers and have each say something; returns the largest one's peak memory in MiB."""
    with open_pool(params, workers, ["math_verify"]) as pool:
        pool.map([("math_verify", "x", "1", "{}")] * workers)
        return max(peak_mib(process.pid) for process in descendants(os.getpid()))


def peak_mib(pid: int) -> float:
    """The most resident memory that a process ever had."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), 0.0)


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of the fastest of REPEATS calls, each from nothing, and the last one's value."""
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        value = call()
        seconds.append(time.perf_counter() - start)
    return min(seconds), value


def sample(count: int = 6144, group: int = 8) -> tuple[dict[str, Task], pa.Table]:
    """Tasks of the default environment with answers such as an early policy gives: right in many forms, near misses,
    rubbish."""
    from assay.environments.rational import RationalEnvironment

    environment = RationalEnvironment("rational", RationalArithmetic(), seed=0)
    random = Random(seed_from("benchmarks.verdicts"))
    stream = environment.candidates("train")
    tasks = {task.task_id: task for task in (next(stream).task for _ in range(count))}
    rows = []
    for task in tasks.values():
        for index in range(group):
            text = environment.demonstration(task, random)
            if random.random() < 0.55:
                text = spoil(text, random)
            rows.append(
                {
                    "trajectory_id": f"{task.task_id}-{index}",
                    "iteration": 0,
                    "round": 0,
                    "task_id": task.task_id,
                    "kind": "solution",
                    "text": text,
                }
            )
    return tasks, pa.Table.from_pylist(rows)


def spoil(text: str, random: Random) -> str:
    """A wrong answer near the right one: a digit changed, dropped or added; seldom a slip of syntax."""
    position = random.randrange(len(text))
    digit = str(random.randint(0, 9))
    kind = random.choices(("change", "drop", "add", "syntax"), (70, 14, 14, 2))[0]
    if kind == "change" and text[position].isdigit():
        return text[:position] + digit + text[position + 1 :]
    if kind == "drop":
        return text[:position] + text[position + 1 :]
    return text[:position] + (random.choice("/.-") if kind == "syntax" else digit) + text[position:]


if __name__ == "__main__":
    main()
