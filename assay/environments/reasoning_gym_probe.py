"""Is a reasoning-gym generator usable? Found out by generating a few of its tasks and putting its scorer to the test.

Run as a module it is the child process of `refuse_unusable`: a second interpreter whose hashes of text differ from
ours. Tasks that depend on them would silently change from run to run.
"""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import assay
from assay.environments.reasoning_gym import encode, make_dataset, score
from assay.environments.task import TaskError
from assay.isolation import die_with_parent

PROBE = 64
"""Tasks that are generated and scored. More would find rarer faults."""
PROBE_SEED = 20_250_901
"""The same for every run, so that a generator is not refused for one seed and accepted for another."""
TIMEOUT = 300.0
"""Seconds for one generator and configuration, the import of reasoning-gym included."""
RUBBISH = ("", "-", "no idea", "zz zz")
"""Never right. `score` must stay below 1.0. (A single word can be: `zzz` is a constant, so an antiderivative of 0.)"""
ORDINARY = (*RUBBISH, "zzz", "0.5", "-1", "12345", "[1, 2]", "a, b")
"""Wrong as a rule, but of ordinary shapes: a scorer that raises on them would make the policy's slips abstentions."""

_ROOT = str(Path(assay.__file__).parents[1])
Spec = tuple[str, str, dict[str, Any]]  # name in params.yaml, generator, configuration


def refuse_unusable(specs: Sequence[Spec], timeout: float = TIMEOUT) -> None:
    """Raise TaskError for the first generator that cannot be used, naming it and the reason (see `find_problems`)."""
    for (name, generator, _), problem in zip(specs, find_problems(specs, timeout), strict=True):
        if problem is not None:
            raise TaskError(
                f"{name}: reasoning-gym generator {generator} cannot be used: {problem}. "
                "Choose another generator or configuration"
            )


def find_problems(specs: Sequence[Spec], timeout: float = TIMEOUT) -> list[str | None]:
    """For each generator what makes it unusable, or None:

    a configuration that it does not accept; a task without gold; an entry that cannot be stored; a scorer that refuses
    the gold, accepts rubbish or other tasks' answers, or raises on ordinary wrong answers; tasks that differ in a
    second process; `timeout` seconds on average exceeded. Raises TaskError where there is no such generator.
    """
    environment = os.environ | {
        "PYTHONHASHSEED": "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1",
        "PYTHONPATH": os.pathsep.join(path for path in (_ROOT, os.environ.get("PYTHONPATH")) if path),
    }
    command = [sys.executable, "-W", "ignore", "-m", "assay.environments.reasoning_gym_probe"]
    request = json.dumps([(generator, config) for _, generator, config in specs])
    # The import takes seconds: ours runs while the child works.
    warm = threading.Thread(target=make_dataset, args=("chain_sum", {}, 0, 1), daemon=True)
    warm.start()
    ended = ""
    try:
        child = subprocess.run(
            command, input=request, env=environment, capture_output=True, text=True, timeout=timeout * len(specs)
        )
        output = child.stdout
        if child.returncode != 0:
            ended = f"its test ended with exit code {child.returncode}: {child.stderr.strip()[-300:]}"
    except subprocess.TimeoutExpired as expired:
        # Bytes, in spite of text=True.
        output = expired.stdout.decode() if isinstance(expired.stdout, bytes) else ""
        ended = f"its test ({PROBE} tasks) was ended after {timeout * len(specs):g} s"
    warm.join()
    # A killed child may leave half a line.
    answers = [json.loads(line) for line in output.splitlines(keepends=True) if line.endswith("\n")]
    problems: list[str | None] = []
    for (name, generator, config), answer in zip_longest(specs, answers):
        if answer is None:
            problems.append(ended)
            continue
        if answer["error"]:
            raise TaskError(f"{name}: {answer['error']}")
        problem = answer["problem"]
        if problem is None and (index := _first_difference(answer["entries"], generator, config)) is not None:
            problem = (
                f"it is not repeatable: its task {index} differs between two processes with the same seed "
                f"(PYTHONHASHSEED {environment['PYTHONHASHSEED']} and {os.environ.get('PYTHONHASHSEED', 'random')})"
            )
        problems.append(problem)
    return problems


def _first_difference(theirs: list[str], generator: str, config: dict[str, Any]) -> int | None:
    ours = [_fingerprint(entry) for entry in entries_of(generator, config)]
    return next((index for index, pair in enumerate(zip(ours, theirs, strict=True)) if pair[0] != pair[1]), None)


def entries_of(generator: str, config: dict[str, Any]) -> list[dict[str, Any]]:
    """The probe's tasks, as the generator gives them."""
    dataset = make_dataset(generator, config, PROBE_SEED, PROBE)
    return [dataset[index] for index in range(PROBE)]


def _fingerprint(entry: dict[str, Any]) -> str:
    return json.dumps([entry["question"], entry["answer"], encode(entry.get("metadata", {}))], sort_keys=True)


def find_problem(generator: str, config: dict[str, Any], entries: Sequence[dict[str, Any]]) -> str | None:
    """What makes the generator unusable, or None. Scores are taken as later, from the stored form of a task."""
    stored = []
    for index, entry in enumerate(entries):
        gold = entry["answer"]
        if not isinstance(gold, str) or not gold.strip():
            return f"it has no gold: the answer of task {index} is {gold!r}"
        try:
            meta = {"generator": generator, "config": config, "entry_metadata": encode(entry.get("metadata", {}))}
        except TypeError as error:
            return f"its tasks cannot be stored: metadata of task {index}: {error}"
        stored.append((gold, json.loads(json.dumps(meta))))
    for index, (gold, meta) in enumerate(stored):
        other = stored[(index + 1) % len(stored)][0]
        for kind, answer in (
            ("its own gold", gold.strip()),
            *(("the wrong answer", text) for text in (*ORDINARY, other)),
        ):
            try:
                value = score(answer, gold, meta)
            except Exception as error:  # a scorer may raise anything: that is what is tested
                return (
                    f"its scorer raises {type(error).__name__} on {kind} {answer[:60]!r} of task {index} "
                    f"({str(error)[:120]})"
                )
            if kind == "its own gold" and value < 1.0:
                return f"its scorer gives {value:g}, not 1, to its own gold {answer[:60]!r} of task {index}"
            if answer in RUBBISH and answer != gold.strip() and value >= 1.0:
                return (
                    f"its scorer accepts rubbish: {answer!r} scores {value:g} on task {index}, whose gold is "
                    f"{gold[:60]!r}"
                )
    others = [(stored[(i + 1) % len(stored)][0], *item) for i, item in enumerate(stored)]
    others = [item for item in others if item[0].strip() != item[1].strip()]
    accepted = sum(score(*item) >= 1.0 for item in others)
    # Puzzles with many solutions may rightly accept another task's answer now and then.
    if len(others) >= 4 and accepted > len(others) / 2:
        return (
            f"its scorer accepts rubbish: {accepted} of {len(others)} tasks accept the different answer of another task"
        )
    return None


def answer_one(generator: str, config: dict[str, Any]) -> dict[str, Any]:
    """The child's answer about one generator: fingerprints of its tasks, or what is wrong."""
    try:
        entries = entries_of(generator, config)
    except TaskError as error:
        return {"error": str(error), "problem": None, "entries": []}
    except Exception as error:  # a generator may raise anything: that is what is tested
        return {"error": None, "problem": f"it raises {type(error).__name__} ({str(error)[:200]})", "entries": []}
    problem = find_problem(generator, config, entries)
    return {"error": None, "problem": problem, "entries": [] if problem else [_fingerprint(entry) for entry in entries]}


def main(write: Callable[[str], object]) -> None:
    """Read a JSON list of [generator, configuration] from standard input, write one line of JSON for each."""
    for generator, config in json.load(sys.stdin):
        write(json.dumps(answer_one(generator, config)) + "\n")


if __name__ == "__main__":
    die_with_parent()
    channel = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what generators print is not our answer
    main(channel.write)
