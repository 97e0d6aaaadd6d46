"""Carrying out a plan: shard by shard in an idle engine, resumable, published whole.

A shard's requests enter the engine together and nothing else with them, so a run that was killed and resumed gives the
bytes of one that was not (with engines that are deterministic; a server is not).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from assay.engines import Engine, Progress, Renderer, Request
from assay.params import Params
from assay.rollouts.derived import DERIVED_FROM
from assay.rollouts.lock import folder_lock
from assay.rollouts.plan import SPLITS_OF, PlanError, PlanRow, split_shards
from assay.rollouts.progress import Reporter
from assay.rollouts.rows import trajectory_rows
from assay.trajectories import ShardError, publish_folder, read_table, write_shard

SHARDS_OF_OTHERS = ("-episodes-", "-singles-")
"""In names of shards that are played in turns, and written into the same folder."""
_IDENTITY = ("iteration", "round", "policy", "task_id", "group_id", "sample_index", "kind", "parent_id", "sampling")
Derive = Callable[[pa.Table], Sequence[PlanRow]]
"""What is sampled next, from the table of what was sampled by the plan, with the columns DERIVED_FROM."""


@dataclass(frozen=True)
class Summary:
    """What sampling gave, over all rows of the plan."""

    completions: int
    tokens: int
    truncated: int
    """Completions without an end token, cut at max_tokens."""
    resumed: int
    """Completions that an earlier, interrupted run had sampled."""
    seconds: float
    """Spent sampling in this run."""

    @property
    def mean_length(self) -> float:
        return self.tokens / self.completions if self.completions else 0.0

    @property
    def truncated_share(self) -> float:
        return self.truncated / self.completions if self.completions else 0.0


def run_plan(
    plan: Sequence[PlanRow],
    engine: Engine,
    renderer: Renderer,
    params: Params,
    out: Path,
    scratch: Path,
    derive: Derive | None = None,
    tables: Callable[[Path], None] = lambda folder: None,
) -> Summary:
    """Sample the plan and publish its shards as the folder `out`: trajectories-0000.parquet and so on.

    derive: gives a second plan, whose shards follow. tables: called with the folder before it is published, to add to it. `scratch`:
    folder for unfinished work, keyed by everything that the plan and the policy were made from, on the file system of `out`.
    Shards found there whole are not sampled again; others are discarded. It stays, empty, for the caller to
    remove. Raises RolloutError where another process holds `scratch`, EngineError, ShardError (disk full).
    """
    if not plan:
        raise PlanError("the plan has no rows; there is nothing to sample")
    draft = scratch / "trajectories"
    with folder_lock(scratch):
        summary = sample_shards(plan, engine, renderer, params.sampling.shard_rows, draft, derive)
        tables(draft)
        publish_folder(draft, out)
    return summary


def sample_shards(
    plan: Sequence[PlanRow],
    engine: Engine,
    renderer: Renderer,
    shard_rows: int,
    folder: Path,
    derive: Derive | None = None,
) -> Summary:
    """Make `folder` hold exactly the shards of the plan, and of the plan that is derived from them where there is one.

    Prompts are rendered first, so a bad one fails before any work. Returns the summary of the plan itself.
    """
    paths, summary = _sample_part(plan, engine, renderer, shard_rows, folder, 0)
    if derive is not None:
        tables = [read_table("trajectories", path, columns=DERIVED_FROM) for path in paths]
        further = derive(pa.concat_tables(tables))
        del tables
        if further:
            paths += _sample_part(further, engine, renderer, shard_rows, folder, len(paths))[0]
    for leftover in set(folder.iterdir()) - set(paths):
        if not any(own in leftover.name for own in SHARDS_OF_OTHERS):
            leftover.unlink()
    return summary


def _sample_part(
    plan: Sequence[PlanRow], engine: Engine, renderer: Renderer, shard_rows: int, folder: Path, first: int
) -> tuple[list[Path], Summary]:
    """The shards of one plan, numbered from `first`. Those found whole are not sampled again."""
    prompts = render_prompts(plan, renderer)
    shards = split_shards(plan, shard_rows)
    paths = [folder / f"trajectories-{first + index:04d}.parquet" for index in range(len(shards))]
    counts = _Counts()
    missing: list[int] = []
    for index, (path, rows) in enumerate(zip(paths, shards, strict=True)):
        finished = read_finished(path, rows, prompts_of(rows, prompts), engine)
        if finished is None:
            path.unlink(missing_ok=True)
            missing.append(index)
        else:
            counts.add(finished)
    resumed = counts.completions
    with Reporter(_label(plan), len(plan), done=resumed) as reporter:
        if resumed:
            reporter.say(f"resumed: {len(shards) - len(missing)} of {len(shards)} shards were sampled before")
        for index in missing:
            rows = shards[index]
            table = sample_rows(rows, prompts_of(rows, prompts), engine, renderer, reporter)
            counts.add(write_shard(paths[index], "trajectories", table))
        summary = Summary(counts.completions, counts.tokens, counts.truncated, resumed, reporter.seconds)
        reporter.say(describe(summary, reporter.rate))
        if summary.truncated_share >= 0.5 and plan[0].kind in SPLITS_OF:
            reporter.say(warning(summary, max(row.max_tokens for row in plan)))
    return paths, summary


def sample_rows(
    rows: Sequence[PlanRow],
    prompts: Sequence[tuple[int, ...]],
    engine: Engine,
    renderer: Renderer,
    progress: Progress | None = None,
) -> pa.Table:
    """One shard: its requests enter the idle engine together. Returns table `trajectories`."""
    requests = [
        Request(prompt, row.seed, row.temperature, row.top_p, row.max_tokens)
        for row, prompt in zip(rows, prompts, strict=True)
    ]
    return trajectory_rows(rows, prompts, engine.generate(requests, progress), engine, renderer)


def render_prompts(plan: Sequence[PlanRow], renderer: Renderer) -> dict[int, tuple[int, ...]]:
    """Token ids by identity of a row's messages (rows of one task share them). Raises EngineError naming the task."""
    prompts: dict[int, tuple[int, ...]] = {}
    for row in plan:
        if row.prompt_ids is None and id(row.messages) not in prompts:
            prompts[id(row.messages)] = renderer.prompt_ids(row.messages, row.task_id)
    return prompts


def prompts_of(rows: Sequence[PlanRow], rendered: Mapping[int, tuple[int, ...]]) -> list[tuple[int, ...]]:
    """Prompts of some rows: their own, or those that `render_prompts` made."""
    return [rendered[id(row.messages)] if row.prompt_ids is None else row.prompt_ids for row in rows]


def read_finished(
    path: Path, rows: Sequence[PlanRow], prompts: Sequence[tuple[int, ...]], engine: Engine
) -> pa.Table | None:
    """A shard of an earlier run, where it is whole and holds these rows, sampled from these prompts by this engine at
    this version; else None.
    """
    if not path.is_file():
        return None
    try:
        table = read_table("trajectories", path)
    except ShardError:
        return None
    if len(table) != len(rows):
        return None
    if [tuple(ids) for ids in table["prompt_ids"].to_pylist()] != list(prompts):
        return None
    found = table.select(_IDENTITY).to_pylist()
    for row, stored in zip(rows, found, strict=True):
        sampling = stored.pop("sampling")
        if any(stored[name] != getattr(row, name) for name in _IDENTITY if name != "sampling"):
            return None
        if (sampling["seed"], sampling["engine"], sampling["engine_version"]) != (
            row.seed,
            engine.name,
            engine.version,
        ):
            return None
    return table


def describe(summary: Summary, rate: float) -> str:
    """One line for people."""
    speed = f" at {rate:,.0f} tokens/s" if summary.resumed < summary.completions else ""
    return (
        f"{summary.completions:,} completions, {summary.tokens:,} tokens{speed}; mean length "
        f"{summary.mean_length:.1f}, "
        f"{summary.truncated_share:.1%} cut at max_tokens"
    )


def warning(summary: Summary, max_tokens: int) -> str:
    """What a high share of truncated completions means."""
    share = (
        "all completions are"
        if summary.truncated == summary.completions
        else f"{summary.truncated_share:.0%} of the completions are"
    )
    return (
        f"warning: {share} cut at sampling.max_tokens ({max_tokens}) without an end token. Either max_tokens is too "
        "small, or the policy does "
        "not emit its end token: look at policy.stop_tokens and at the chat template that it was trained with"
    )


class _Counts:
    def __init__(self) -> None:
        self.completions = self.tokens = self.truncated = 0

    def add(self, table: pa.Table) -> None:
        self.completions += len(table)
        self.tokens += pc.sum(pc.list_value_length(table["completion_ids"])).as_py() or 0
        self.truncated += pc.sum(pc.equal(table["finish_reason"], "length")).as_py() or 0


def _label(plan: Sequence[PlanRow]) -> str:
    kinds = ", ".join(dict.fromkeys(row.kind for row in plan))
    return f"policy {plan[0].policy}, {kinds}"
