"""Many on-policy rounds in one process. The body of the stage `train`, made of the bodies of the staged pipeline.

Engine, verifier pool, model and optimizer are started once. Each round samples, verifies, assembles and updates, is written
to the journal, and hands its weights to the engine. A killed run goes on after the last complete round and ends with the
same tables: seeds are hashes, and what a round starts from is all in the journal.
"""

import ctypes
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from assay.environments import Task, tasks_from_table
from assay.params import Params, round_params
from assay.params.execution import ExecutionParams
from assay.rollouts import PlanRow, make_plan, sample_rows, split_shards
from assay.rollouts.derived import derives_anything
from assay.rollouts.episodes import Stage, open_executor, play_episodes
from assay.rollouts.plan import PlannedFrom
from assay.rollouts.progress import Reporter
from assay.rounds.assemble import assemble, check_whole
from assay.rounds.further import further_samples, level_pool
from assay.rounds.gates import check_abstentions
from assay.rounds.journal import ALONE, STATE, TABLES, Journal
from assay.rounds.round_report import RoundReport
from assay.rounds.sample import Sampler, open_sampler
from assay.rounds.shared_device import beside_trainer, card_bytes
from assay.rounds.verify import Bench, open_bench, verify
from assay.training.filters import SOLVED, FilterError
from assay.trajectories import publish_folder, read_table, to_table, write_shard
from assay.verifiers import NoiseState
from assay.verifiers.critiques import Outcome, outcomes
from assay.verifiers.noise_state import FILE

if TYPE_CHECKING:
    from assay.training.rehearsal import Presampled

Watch = Callable[[RoundReport], None]
KEPT_KERNELS = "128"
"""Compiled matrix products that oneDNN keeps. Each new batch size makes some; its default of 1,024 lets memory grow for hundreds
of rounds, and more than these are never met again."""

TRIM_EVERY = 8
"""Rounds between two returns of freed memory to the system, each of which takes some 20 ms."""


@dataclass
class Clock:
    """Seconds of each part of a round."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - began


@dataclass(frozen=True)
class Places:
    """Where an iteration reads and writes."""

    tasks: Path
    model: Path
    """models/K: policy, and trainer where there is one."""
    reference: Path
    """Policy 0."""
    out: Path
    """Tables."""
    next_model: Path
    scratch: Path
    gates: Path | None
    """Data docs; None runs no gate."""
    noise: Path | None = None
    """State of noise estimates that the iteration starts from; None: nothing is known yet."""
    next_noise: Path | None = None
    """Where it is written after the last round; None: nowhere."""
    presample: Path | None = None
    """Answers of policy 0; None: no method asks for them."""
    offline: Path | None = None
    """Tables with solutions of another policy, which critiques judge in place of this one's: an ablation."""


def train(params: Params, k: int, places: Places, execution: ExecutionParams, watch: Watch = lambda report: None) -> None:
    """Run the rounds of iteration `k` and publish places.next_model and the tables in places.out.

    `watch` is called after each round that this process ran. A round whose groups all have equal rewards changes nothing. Raises the
    errors of the rooms that a round goes through, and FilterError where no round of the iteration had anything to train on.
    """
    journal = Journal(places.scratch, params.fused.max_staleness, execution.state_every)
    rounds, done = params.fused.rounds, journal.completed()
    if done < rounds:
        journal.forget_from(done)
        with ExitStack() as stack:
            run = _Run(params, k, places, execution, journal, done, stack)
            for number in range(done, rounds):
                watch(run.round(number))
    shutil.rmtree(places.scratch / "draft", ignore_errors=True)
    if not any(map(len, journal.tables("updates", rounds))):
        raise FilterError(f"in no round of iteration {k} had any group different rewards, so there is nothing to train on: {SOLVED}")
    if places.gates is not None:
        tasks = read_table("tasks", places.tasks)
        policy, gates = places.model / "policy", places.gates / "whole"
        check_whole(tasks, lambda name: pa.concat_tables(journal.tables(name, rounds)), params, policy, gates)
    journal.publish(rounds, places.out, places.scratch / "draft")
    if places.next_noise is not None:
        NoiseState.read(journal.folder(rounds - 1) / FILE).write(places.next_noise)
    shutil.rmtree(places.scratch / "model", ignore_errors=True)
    shutil.copytree(journal.state(rounds - 1), places.scratch / "model")
    publish_folder(places.scratch / "model", places.next_model)


class _Run:
    """Everything that stays alive between rounds."""

    def __init__(
        self, params: Params, k: int, places: Places, execution: ExecutionParams, journal: Journal, done: int, stack: ExitStack
    ) -> None:
        os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", KEPT_KERNELS)  # read at the first product
        from assay.training.session import UpdateSession

        self.params, self.k, self.places, self.journal = round_params(params), k, places, journal
        self.noted: set[str] = set()
        self.start = journal.state(done - 1) if done else places.model
        table = read_table("tasks", places.tasks)
        self.tasks: Mapping[str, Task] = tasks_from_table(table)
        self.presampled = self._presampled()
        self.offline = self._offline()
        self.table, self.planned = table, PlannedFrom.of(table)
        self.environment_of = {name: task.environment for name, task in self.tasks.items()}
        self.sampler_round = self.journal.sampler_round(done)
        policy = self._policy_of(self.sampler_round)
        execution = beside_trainer(execution, policy, self.params, card_bytes())
        self.bench: Bench = stack.enter_context(open_bench(self.tasks, params, execution))
        self.execution = execution
        self.levels = stack.enter_context(level_pool(self.tasks, self.params, execution.verifier_workers))
        self.bench.pool.start()  # warms up while the engine starts
        before = journal.folder(done - 1) / FILE if done else places.noise
        self.noise = NoiseState() if before is None else NoiseState.read(before)
        # The engine first: vLLM seeds torch's global state when it starts.
        first = self._plan(done)
        self.sampler: Sampler = stack.enter_context(
            open_sampler(self.params, policy, execution, first, shares_device=True, plays=bool(self.planned.played))
        )
        self.sampler.engine.pause()  # the trainer comes onto the card next
        executor = stack.enter_context(open_executor(self.params, execution.verifier_workers))
        self.stage = Stage(self.sampler.engine, self.sampler.renderer, executor, self.params)
        self.prompts: dict[str, tuple[int, ...]] = {}
        # Checkpoints inside a round that was cut short: it is run again from its beginning.
        shutil.rmtree(places.scratch / "session", ignore_errors=True)
        trainer = self.start / "trainer"
        self.session = UpdateSession(
            self.start / "policy", trainer if trainer.is_dir() else None, self.params, scratch=places.scratch / "session"
        )
        self.writer = stack.enter_context(ThreadPoolExecutor(1))

    def round(self, number: int) -> RoundReport:
        """One round, complete in the journal when this returns."""
        clock, draft = Clock(), self.journal.draft()
        with clock.part("swap"):
            self.sampler.engine.resume()
            self._swap(number)
        with clock.part("plan"):
            plan = self._plan(number)
        with clock.part("sample"):
            trajectories, states = self._sample([row for row in plan if not row.played]), to_table("states", [])
        if derives_anything(self.params):
            with clock.part("sample further"):
                further = further_samples(
                    self.sampler.renderer, trajectories, self.tasks, self.params, self.execution.verifier_workers, self.offline[0],
                    self._note, self.levels,
                )
                states = further.states
                if further.plan:
                    trajectories = pa.concat_tables([trajectories, self._sample(further.plan)])
        with clock.part("sample"):
            played = play_episodes(self.stage, self.tasks, [row for row in plan if row.played])
            trajectories = pa.concat_tables([trajectories, played.trajectories])
            self.sampler.engine.pause()
        with clock.part("verify"):
            verified = verify(
                self.tasks, trajectories, self.params, self.execution, self.bench, self.noise, states=states, offline=self.offline[1],
                turns=played.turns, tool_calls=played.tool_calls,
            )  # fmt: skip
            verdicts, estimates, self.noise = verified.verdicts, verified.noise_estimates, verified.state
        # Written while the update runs: neither waits for the other.
        pending = self._write(draft, {
            "trajectories": trajectories, "states": states, "turns": played.turns, "tool_calls": played.tool_calls, "verdicts": verdicts,
            "steps": verified.steps, "noise_estimates": estimates,
        })  # fmt: skip
        if self.places.gates is not None and number > 0:  # of the first round the gate asks it
            names, tasks = (trajectories[column].to_pylist() for column in ("trajectory_id", "task_id"))
            asked = {name: (self.tasks[task].environment, task) for name, task in zip(names, tasks, strict=True)}
            check_abstentions(verdicts, asked, self.params, number, draft)
        with clock.part("assemble"):
            gates = self.places.gates / "first" if self.places.gates is not None and number == 0 else None
            batches = assemble(
                self.table, trajectories, verdicts, estimates, self.params, policy=self._policy_of(self.sampler_round),
                reference=self.places.reference, gates=gates, steps=verified.steps,
                values_of=None if self.session.critic is None else self.session.critic.values, rehearsal=self.presampled.rehearsal,
                rounds=self.params.fused.rounds, may_be_solved=True, environment_of=self.environment_of, note=self._note,
            )  # fmt: skip
        pending += self._write(draft, {"batches": batches})
        record = {name: to_table(name, []) for name in ("updates", "token_statistics")}
        if pc.any(batches["kept"]).as_py():
            with clock.part("update"):
                result = self.session.run(batches)
                record = {"updates": result.updates, "token_statistics": result.token_statistics}
        with clock.part("write"):
            pending += self._write(draft, record)
            whole = self.journal.has_state(number, self.params.fused.rounds)
            self.session.publish(draft / (STATE if whole else ALONE), whole=whole)
            self.noise.write(draft / FILE)
            for future in pending:
                future.result()
            self.journal.commit(number, draft, keep=self.start)
            self.session.forget_checkpoints()
        if number % TRIM_EVERY == 0:
            _give_back_memory()
        return RoundReport.of(
            self.k, number, self.params.fused.rounds, batches, estimates, record["updates"], trajectories, clock.seconds
        )  # fmt: skip

    def _note(self, line: str) -> None:
        """Say what a correction could not do, once a run and not each round; the batches tell of every row."""
        kind = line.split(", which is")[0]
        if kind not in self.noted:
            self.noted.add(kind)
            print(line, flush=True)

    def _presampled(self) -> "Presampled":
        from assay.training.rehearsal import Presampled, read_presampled

        if self.places.presample is None:
            return Presampled(to_table("rehearsal", []))
        return read_presampled(self.places.presample, self.places.reference, self.params.sampling.temperature)

    def _offline(self) -> tuple[pa.Table | None, dict[str, Outcome] | None]:
        """Solutions of another policy that are judged in place of this one's, and what is known of them."""
        folder = self.places.offline
        if folder is None:
            return None, None
        rows = read_table("trajectories", folder)
        solutions = rows.filter(pc.equal(rows["kind"], "solution"))
        return solutions, outcomes(solutions, read_table("verdicts", folder), self.params.self_verification)

    def _policy_of(self, number: int) -> Path:
        """The policy that round `number` starts from."""
        return self.journal.policy(number - 1) if number else self.places.model / "policy"

    def _swap(self, number: int) -> None:
        wanted = self.journal.sampler_round(number)
        if wanted != self.sampler_round:
            self.sampler.engine.load_policy(self._policy_of(wanted))
            self.sampler_round = wanted

    def _plan(self, number: int) -> list[PlanRow]:
        kinds = ("solution", "evaluation") if number == 0 else ("solution",)
        return make_plan(
            self.planned, self.params, self.k, kinds, round=number, rounds=self.params.fused.rounds,
            policy_round=self.journal.sampler_round(number), explore=self.presampled.explore,
        )  # fmt: skip

    def _sample(self, plan: Sequence[PlanRow]) -> pa.Table:
        for row in plan:
            if row.prompt_ids is None and row.task_id not in self.prompts:
                self.prompts[row.task_id] = self.sampler.renderer.prompt_ids(row.messages, row.task_id)

        def prompt(row: PlanRow) -> tuple[int, ...]:
            return self.prompts[row.task_id] if row.prompt_ids is None else row.prompt_ids

        with Reporter(f"policy {plan[0].policy}, round" if plan else "round", len(plan), stays=False) as reporter:
            shards = [
                sample_rows(shard, [prompt(row) for row in shard], self.sampler.engine, self.sampler.renderer, reporter)
                for shard in split_shards(plan, self.params.sampling.shard_rows)
            ]
        return pa.concat_tables(shards) if shards else to_table("trajectories", [])

    def _write(self, draft: Path, tables: Mapping[str, pa.Table]) -> list[Future[Any]]:
        assert tables.keys() <= set(TABLES)
        return [self.writer.submit(write_shard, draft / f"{name}.parquet", name, table) for name, table in tables.items()]


def _give_back_memory() -> None:
    """Hand freed memory to the system. A round frees thousands of small pieces, between which glibc would keep the rest: without
    this, resident memory grows by two MiB a round for hundreds of rounds."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # other C libraries have none
    if trim is not None:
        trim(0)
