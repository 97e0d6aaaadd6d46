"""DVC as the flow sees it: the stages in their order, and one stage at a time brought up to date.

What is stale is DVC's decision alone; here its command line is called and its answer is read.
"""

import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter
from typing import Literal

from assay.cli import PERSON_MUST_ACT
from flows.commands import Busy, FlowError, OnLine, PersonNeeded, Runner

ASK_SECONDS = 300.0  # for a question to DVC that runs no stage
RETRY_SECONDS = 2.0  # between two attempts to get DVC's lock

_EDGE = re.compile(r'^"(?P<source>[^"]+)"(?: -> "(?P<target>[^"]+)")?;$')
_STARTED = re.compile(r"^Running stage '")
_CACHED = re.compile(r"^Stage '.*' is cached - skipping run")
_UNCHANGED = re.compile(r"^(Stage )?'.*' didn't change, skipping")
_EXITED = re.compile(r"failed to run: .*, exited with (-?\d+)")
# Advice that DVC repeats after every stage; it would fill the log.
_ADVICE = re.compile(
    r"^(To track the changes with git|\tgit add |To enable auto staging|\tdvc config core.autostage|Use `dvc push`"
    r"|(Updating|Generating) lock file|Data and pipelines are up to date)"
)
_LOCKED = re.compile(r"Unable to acquire lock|is busy, it is being blocked by")
_BLOCKER = re.compile(r"\(PID (\d+)\): (.*)")

Outcome = Literal["run", "cached", "unchanged"]


@dataclass(frozen=True)
class Reproduced:
    """A stage that is up to date now: it was run, restored from DVC's run cache, or found unchanged."""

    stage: str
    outcome: Outcome
    seconds: float
    """Wall-clock time."""
    left: int = 0
    """Processes that it left behind and that were ended."""


def stage_order(runner: Runner, targets: Sequence[str] = (), wait: float = 60.0) -> list[str]:
    """The targets (default: every stage of ./dvc.yaml) and all that they depend on, dependencies first.

    Raises PersonNeeded for an unknown target or a dvc.yaml that DVC refuses, Busy as `ask` does.
    """
    graph = parse_graph(ask(runner, ["dag", "--dot"], ASK_SECONDS, wait).lines)
    if targets:
        wanted = [name for target in targets for name in ([n for n in graph if n.startswith(f"{target}:")] or [target])]
    else:
        wanted = [name for name in graph if ":" not in name]  # others are named FOLDER/dvc.yaml:STAGE
    if unknown := [name for name in wanted if name not in graph]:
        raise PersonNeeded(f"unknown stage {', '.join(unknown)}; dvc.yaml defines {', '.join(graph) or 'none'}")
    needed = set(wanted)
    remaining = list(wanted)
    while remaining:
        new = graph[remaining.pop()] - needed
        needed |= new
        remaining.extend(new)
    sorter = TopologicalSorter({name: sorted(graph[name], key=list(graph).index) for name in graph if name in needed})
    return list(sorter.static_order())


def parse_graph(lines: Iterable[str]) -> dict[str, set[str]]:
    """Each stage with the stages that it depends on, from the output of `dvc dag --dot`."""
    graph: dict[str, set[str]] = {}
    for line in lines:
        if match := _EDGE.match(line.strip()):
            graph.setdefault(match["source"], set())
            if match["target"]:
                graph.setdefault(match["target"], set()).add(match["source"])
    return graph


def reproduce(
    runner: Runner,
    stage: str,
    timeout: float,
    *,
    force: bool = False,
    allow_missing: bool = False,
    wait: float = 60.0,
    on_line: OnLine | None = None,
) -> Reproduced:
    """Bring one stage up to date, and no other. Raises FlowErrors as `ask` does; TimedOut after `timeout` s.

    allow_missing: outputs that are missing here (`assay prune`) are no reason to run what has not changed.
    """
    began = time.monotonic()
    options = [*(["--force"] if force else []), *(["--allow-missing"] if allow_missing else [])]
    answer = ask(runner, ["repro", "--single-item", *options, stage], timeout, wait, on_line)
    outcome: Outcome = "unchanged"
    if any(map(_CACHED.match, answer.lines)):
        outcome = "cached"
    elif any(map(_STARTED.match, answer.lines)):
        outcome = "run"
    return Reproduced(stage, outcome, time.monotonic() - began, answer.left)


@dataclass(frozen=True)
class Answer:
    """DVC's lines, without what a stage itself printed, and the number of processes left behind."""

    lines: tuple[str, ...]
    left: int


def ask(runner: Runner, arguments: Sequence[str], timeout: float, wait: float, on_line: OnLine | None = None) -> Answer:
    """Run `dvc ARGUMENTS`; `on_line` gets the lines of output, a stage's own too.

    While another process holds DVC's lock, try again for `wait` seconds, then raise Busy. Raises PersonNeeded when DVC
    refuses to start, or the stage says by its exit code that a person must act; FlowError for any other failure.
    """
    runs_stages = arguments[0] in ("repro", "exp")
    end = time.monotonic() + wait
    while True:
        kept: list[str] = []

        def see(line: str, kept: list[str] = kept) -> None:
            if not runs_stages or any(pattern.match(line) for pattern in (_STARTED, _CACHED, _UNCHANGED)):
                kept.append(line)
            if on_line is not None and not _ADVICE.match(line):
                on_line(line)

        finished = runner.run(["dvc", *arguments], timeout, see)
        if finished.code == 0:
            return Answer(tuple(kept), finished.left)
        started = any(map(_STARTED.match, kept))
        if started or not any(map(_LOCKED.search, finished.tail)):
            raise explain(finished.tail, finished.code, started)
        if time.monotonic() >= end:
            raise Busy(describe_blockers(finished.tail, wait))
        time.sleep(RETRY_SECONDS)


def explain(tail: Sequence[str], code: int, started: bool) -> FlowError:
    """The error that says why `dvc` ended with an exit code, from its last lines."""
    said = own_words(tail)
    exits = [int(match[1]) for match in map(_EXITED.search, tail) if match]
    if exits and exits[-1] == PERSON_MUST_ACT:
        return PersonNeeded(said)
    if exits:
        return FlowError(f"exited with {exits[-1]}: {said}")
    if code < 0:
        return FlowError(f"dvc was ended by signal {-code}: {said}")
    if not started:
        return PersonNeeded(f"DVC does not start it: {said}")
    return FlowError(said)


def own_words(tail: Sequence[str]) -> str:
    """What a command says of its failure: its last `error: ...` and what follows, else DVC's, else the last lines."""
    lines = [line for line in tail if not _EXITED.search(line)]
    ran = len(lines) < len(tail)  # then DVC's own "ERROR" adds nothing
    for sign in ["error: "] if ran else ["error: ", "ERROR: "]:
        if starts := [i for i, line in enumerate(lines) if line.startswith(sign)]:
            return "\n".join(lines[starts[-1] :]).removeprefix(sign)
    return "\n".join(lines[-8:]) or "it printed nothing"


def describe_blockers(tail: Sequence[str], wait: float) -> str:
    """One sentence that says who holds DVC's lock, as far as DVC knows."""
    blockers = sorted({f"process {match[1]} (`{match[2].strip()}`)" for match in map(_BLOCKER.search, tail) if match})
    who = " and ".join(blockers) or "another `dvc` command"
    return f"{who} works on this workspace, and did for the {wait:g} s that the flow waited: let it finish or stop it"
