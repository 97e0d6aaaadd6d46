"""From parameters to tasks: shares, splits that share nothing, duplicates and contamination removed and counted."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from random import Random
from typing import Any

from assay.environments.asking import MakeTeacher
from assay.environments.bad_rows import note_of
from assay.environments.base import Environment, HasTexts
from assay.environments.candidates import Counts, Progress, Seen, collect, empty, remarks
from assay.environments.chain_arithmetic.environment import ChainArithmeticEnvironment
from assay.environments.dataset import DatasetEnvironment
from assay.environments.protocols.environment import ProtocolsEnvironment
from assay.environments.protocols.records import PublishedProtocolsEnvironment
from assay.environments.protocols.written import WrittenProtocolsEnvironment
from assay.environments.rational import RationalEnvironment
from assay.environments.reasoning_gym import ReasoningGymEnvironment
from assay.environments.task import SPLITS, Task, TaskError
from assay.environments.text_to_sql.environment import TextToSqlEnvironment
from assay.environments.text_to_sql.user_databases import SqlDatabasesEnvironment
from assay.environments.tools.environment import ToolsEnvironment
from assay.environments.tools.published import PublishedToolsEnvironment
from assay.params import Params
from assay.params.data import ChainArithmetic, RationalArithmetic, ReasoningGym, SqlDatabases, TextToSql, UserDataset
from assay.params.protocols import EndpointProtocols, Protocols, PublishedProtocols
from assay.params.tools import EndpointTools, Tools
from assay.trajectories import seed_from

Excess = Callable[[Task], int | None]
"""Tokens of a task's prompt where they are more than policy.max_prompt_tokens, else None."""
_SHOWN = 5  # tasks named in an error


@dataclass(frozen=True)
class Generated:
    """What `generate` makes."""

    tasks: list[Task]
    """Splits in the order train, eval, ood; within a split in an order by hash that mixes the environments."""
    demonstrations: list[dict[str, Any]]
    """Rows of the `demonstrations` table."""
    counts: Counts
    demonstrated: dict[str, Task]
    """Tasks of the demonstrations, by id."""
    notes: list[str]
    """Sentences for the person who started it: shortfalls, columns left out."""
    texts: list[dict[str, Any]] = field(default_factory=list)
    """Rows of the `texts` table."""
    commits: dict[str, str] = field(default_factory=dict)
    """Of data sets from the hub, by environment."""


def make_environment(name: str, params: Params, root: Path, make_teacher: MakeTeacher | None = None) -> Environment:
    """The environment that params.yaml defines under `name`. Nothing is read or imported yet. make_teacher: gives the language model
    that a backend names."""
    section = params.environments[name]
    if isinstance(section, RationalArithmetic):
        return RationalEnvironment(name, section, params.seed)
    if isinstance(section, ChainArithmetic):
        return ChainArithmeticEnvironment(name, section, params.seed)
    if isinstance(section, ReasoningGym):
        return ReasoningGymEnvironment(name, section, params.seed)
    if isinstance(section, TextToSql):
        return TextToSqlEnvironment(name, section, params.seed)
    share, reward = params.tasks.eval / (params.tasks.eval + params.tasks.train), params.verification.protocol
    if isinstance(section, Protocols):
        if isinstance(section.backend, EndpointProtocols):
            return WrittenProtocolsEnvironment(name, section, params.seed, root, share, reward, make_teacher)
        return ProtocolsEnvironment(name, section, params.seed)
    if isinstance(section, SqlDatabases):
        return SqlDatabasesEnvironment(name, section, params.seed, root, share)
    if isinstance(section, Tools):
        if section.path is not None:
            return PublishedToolsEnvironment(name, section, params.seed, root, share)
        teacher = make_teacher(section.backend) if make_teacher is not None and isinstance(section.backend, EndpointTools) else None
        execution = params.execution
        return ToolsEnvironment(name, section, params.seed, root, execution.verifier_workers, teacher, execution.teacher.concurrency)
    if isinstance(section, PublishedProtocols):
        return PublishedProtocolsEnvironment(name, section, params.seed, root, share, reward)
    return DatasetEnvironment(name, section, params.seed, root, share)


def divide(total: int, shares: Mapping[str, float]) -> dict[str, int]:
    """`total` in proportion to the shares, by largest remainder; equal remainders go to the first named."""
    if not shares:
        return {}
    whole = sum(shares.values())
    parts = {name: int(total * share / whole) for name, share in shares.items()}
    by_remainder = sorted(shares, key=lambda name: parts[name] - total * shares[name] / whole)
    for name in by_remainder[: total - sum(parts.values())]:
        parts[name] += 1
    return parts


def generate(
    params: Params,
    root: Path,
    check_golds: Callable[[list[Task]], list[str | None]] | None = None,
    progress: Progress | None = None,
    make_teacher: MakeTeacher | None = None,
    excess: Excess | None = None,
) -> Generated:
    """Tasks of all splits and demonstrations, as the sections `environments` and `tasks` ask for.

    eval is chosen first, then ood, then train: what a held-out split shares with another is taken out of the other.
    No prompt is in two splits, whatever its gold. Demonstrations come from further tasks of the training
    distribution, and where there are too few from the training tasks again; none are made where `policy.base` names
    a model that is not fine-tuned. Equal parameters give equal output.

    `check_golds(tasks)` returns what is wrong with the gold of each, or None. `progress(what, done, wanted)` is called now and
    then. `make_teacher(backend)` gives the language model that an environment's backend names. `excess` counts the tokens of prompts
    that are too long, for policy.too_long. Raises TaskError: no environment, an unusable one, an empty split, golds that `check_golds`
    refuses, prompts that are too long where that is an error.
    """
    if not params.environments:
        raise TaskError(
            "environments is empty: define at least one in params.yaml, or choose a preset with `environment`"
        )
    environments = {name: make_environment(name, params, root, make_teacher) for name in params.environments}
    with ExitStack() as stack:
        for environment in environments.values():
            if (close := getattr(environment, "close", None)) is not None:
                stack.callback(close)
        return _generate(params, environments, check_golds, progress, excess)


def _generate(
    params: Params, environments: Mapping[str, Environment], check_golds: Callable[[list[Task]], list[str | None]] | None,
    progress: Progress | None, excess: Excess | None,
) -> Generated:  # fmt: skip
    for environment in environments.values():
        environment.check()
    shares = {name: params.environments[name].share for name in environments}
    seen, limit = Seen(), params.policy.max_prompt_tokens
    if excess is not None and params.policy.too_long == "drop":
        seen.too_long = lambda task: excess(task) is not None
    counts: Counts = {name: {} for name in environments}
    by_split: dict[str, list[Task]] = {}
    origins: dict[str, str] = {}
    for split in ("eval", "ood", "train"):
        wanted = divide(getattr(params.tasks, split), {n: s for n, s in shares.items() if environments[n].has(split)})
        kept: list[Task] = []
        for name, number in wanted.items():
            kept += _take(environments[name], split, number, seen, counts[name], origins, progress, limit)
        by_split[split] = sorted(kept, key=lambda task: (seed_from(params.seed, "order", task.task_id), task.task_id))
    tasks = [task for split in SPLITS for task in by_split[split]]
    if excess is not None:
        _refuse_long_prompts(tasks, [excess(task) for task in tasks], origins, limit)
    notes: list[str] = []
    if check_golds is not None:
        notes = _check_golds(params, by_split, [*zip(tasks, check_golds(tasks), strict=True)], origins, counts)
        tasks = [task for split in SPLITS for task in by_split[split]]
    total = params.tasks.demonstrations if params.supervises else 0
    demonstrations: list[dict[str, Any]] = []
    demonstrated: dict[str, Task] = {}
    for name, number in divide(total, shares).items():
        train = [task for task in by_split["train"] if task.environment == name]
        rows, known = _demonstrate(environments[name], number, train, seen, params.seed, counts[name], progress)
        demonstrations += rows
        demonstrated |= known
    demonstrations.sort(key=lambda row: seed_from(params.seed, "order", row["task_id"], row["completion"]))
    notes = [note for environment in environments.values() for note in environment.notes] + notes + remarks(counts, limit)
    texts = _texts(environments, shares, [*demonstrated.values()], params) if params.supervises else []
    commits = {name: commit for name, one in environments.items() if (commit := getattr(one, "commit", None)) is not None}
    return Generated(tasks, demonstrations, counts, demonstrated, notes, texts, commits)


def _texts(
    environments: Mapping[str, Environment], shares: Mapping[str, float], tasks: list[Task], params: Params
) -> list[dict[str, Any]]:
    """Different plain texts about the tasks that are demonstrated, from the environments that have such."""
    having = {name: environment for name, environment in environments.items() if isinstance(environment, HasTexts)}
    if params.tasks.texts and not having:
        raise TaskError(
            f"tasks.texts is {params.tasks.texts}, but none of the environments ({', '.join(environments)}) has plain texts: set it to 0, "
            "or add one of type protocols or chain_arithmetic"
        )
    rows: list[dict[str, Any]] = []
    for name, number in divide(params.tasks.texts, {name: shares[name] for name in having}).items():
        found = dict.fromkeys(having[name].pretraining_text(task) for task in tasks if task.environment == name)
        rows += [{"environment": name, "text": text} for text in islice(found, number)]
    return sorted(rows, key=lambda row: seed_from(params.seed, "order", row["text"]))


def _take(
    environment: Environment, split: str, wanted: int, seen: Seen, counts: dict[str, dict[str, int]],
    origins: dict[str, str], progress: Progress | None, limit: int,
) -> list[Task]:  # fmt: skip
    """Up to `wanted` new tasks of one environment and split. limit: policy.max_prompt_tokens."""
    kept, count = collect(environment, split, wanted, seen.refuse, progress)
    counts[split] = count
    if wanted and not kept:
        raise TaskError(empty(environment.name, split, count, limit))
    origins.update((candidate.task.task_id, candidate.origin) for candidate in kept)
    return [candidate.task for candidate in kept]


def _refuse_long_prompts(tasks: list[Task], found: list[int | None], origins: Mapping[str, str], limit: int) -> None:
    long = [(task, tokens) for task, tokens in zip(tasks, found, strict=True) if tokens is not None]
    if long:
        shown = "\n".join(f"  {task.environment}: {origins[task.task_id]}: {tokens} tokens" for task, tokens in long[:_SHOWN])
        raise TaskError(
            f"{len(long)} of {len(tasks)} prompts are longer than policy.max_prompt_tokens ({limit}), first:\n{shown}\n"
            "Raise it, remove them, or set policy.too_long to drop"
        )


def _check_golds(
    params: Params, by_split: dict[str, list[Task]], found: Sequence[tuple[Task, str | None]], origins: Mapping[str, str], counts: Counts
) -> list[str]:
    """Take out of `by_split` the tasks whose golds cannot be read, where their environment's bad_rows says so, and count them. Returns
    notes. found: what is wrong with the gold of each task. Raises TaskError for all others, for too many, and for a split left empty."""
    bad = [(task, problem) for task, problem in found if problem is not None]
    sections = {name: section for name, section in params.environments.items() if isinstance(section, UserDataset)}
    droppable = [name for name, section in sections.items() if section.bad_rows == "drop"]
    refused = [(task, problem) for task, problem in bad if task.environment not in droppable]
    if refused:
        shown = "\n".join(
            f"  {task.environment}: {origins[task.task_id]}: gold {task.gold[:80]!r}: {problem}" for task, problem in refused[:_SHOWN]
        )
        raise TaskError(
            f"{len(refused)} of {len(found)} golds cannot be read by the verifier of their task, first:\n{shown}\n"
            "Correct them, choose another verifier for the environment, or, for a data set, set bad_rows to drop"
        )
    notes = []
    for name in droppable:
        places = [f"{origins[task.task_id]} ({problem})" for task, problem in bad if task.environment == name]
        total = sum(task.environment == name for task, _ in found)
        if (note := note_of(f"environments.{name}", f"environments.{name}", {"gold_unreadable": places}, total)) is not None:
            notes.append(note)
    dropped = {task.task_id for task, _ in bad}
    for task, _ in bad:
        count = counts[task.environment][task.split]
        count |= {"kept": count["kept"] - 1, "gold_unreadable": count["gold_unreadable"] + 1}
        if not count["kept"]:
            raise TaskError(empty(task.environment, task.split, count, params.policy.max_prompt_tokens))
    by_split |= {split: [task for task in tasks if task.task_id not in dropped] for split, tasks in by_split.items()}
    return notes


def _demonstrate(
    environment: Environment, wanted: int, train: list[Task], seen: Seen, seed: int, counts: dict[str, dict[str, int]],
    progress: Progress | None,
) -> tuple[list[dict[str, Any]], dict[str, Task]]:  # fmt: skip
    """Worked answers: tasks beyond the training split, then those of it, then both again in other forms. And their tasks."""
    taken: set[str] = set()

    def refuse(task: Task) -> str | None:
        if seen.too_long(task):
            return "too_long"
        if seen.loose.get(task.contamination_key, "train") != "train":
            return "contamination"
        if task.prompt_key in taken or task.prompt_key in seen.exact:
            return "duplicates"
        taken.add(task.prompt_key)
        return None

    collected, count = collect(environment, "demonstration", wanted, refuse, progress)
    fresh = [candidate.task for candidate in collected]
    again = chain(train, *([*train, *fresh] for _ in range(environment.forms - 1)))
    plan = [*fresh, *islice(again, wanted - len(fresh))]
    rows: list[dict[str, Any]] = []
    for index, task in enumerate(plan):
        shown = environment.demonstration(task, Random(seed_from(seed, "demonstration", task.task_id, index)))
        row: dict[str, Any] = {"task_id": task.task_id, "environment": task.environment, "prompt": list(task.prompt)}
        if isinstance(shown, str):
            rows.append({**row, "completion": shown, "turns": None})
        else:
            rows.append({**row, "completion": shown[-1]["content"], "turns": [dict(message) for message in shown]})
    counts["demonstrations"] = count | {"kept": len(rows), "reused": len(rows) - len(fresh)}
    return rows, {task.task_id: task for task in plan}
