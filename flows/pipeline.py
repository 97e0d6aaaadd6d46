"""The pipeline as a Prefect flow: when stages run, what is retried, what is shown. What is stale is DVC's decision.

`python -m flows.pipeline` runs it once, with Prefect's temporary server, or with the one that PREFECT_API_URL names.
"""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import TaskRun
from prefect.context import TaskRunContext
from prefect.runtime import flow_run
from prefect.states import Completed, Failed, State
from prefect.tasks import exponential_backoff

from assay.cli import PERSON_MUST_ACT
from assay.params import ParameterError, load_params
from assay.trajectories import ShardError
from flows import artifacts
from flows.commands import Busy, FlowError, PersonNeeded, Runner, TimedOut, duration
from flows.dvc_runner import Reproduced, own_words, reproduce, stage_order
from flows.rounds import watched
from flows.run_lock import run_lock
from flows.run_log import stage_log

SYNC_SECONDS = 1800.0
# Names of final states. Prefect shows them; their types are COMPLETED and FAILED.
SKIPPED = "Skipped"
NAMES = {"run": "Completed", "cached": "Cached", "unchanged": SKIPPED}
REFUSED, BUSY, TIMED_OUT, NOT_SYNCED = "Refused", "Busy", "TimedOut", "NotSynced"


def worth_retrying(task: Any, run: TaskRun, state: State) -> bool:
    """Whether a failed stage is run again: not where a person must act, nor while somebody else works there."""
    return not (isinstance(state.data, State) and state.data.name in (REFUSED, BUSY))


@task(persist_result=False, cache_policy=NO_CACHE, retry_condition_fn=worth_retrying, task_run_name="{stage}")
def run_stage(stage: str, runner: Runner, timeout: float, wait: float, force: bool, allow_missing: bool) -> State:
    """One DVC stage, and no other. The state's name says what happened; its data is a `Reproduced`."""
    logger = get_run_logger()
    context = TaskRunContext.get()
    again = context is not None and context.task_run.run_count > 1
    with stage_log(runner.root, stage, logger.info, again=again) as on_line:
        try:
            result = reproduce(
                runner, stage, timeout, force=force, allow_missing=allow_missing, wait=wait, on_line=watched(on_line)
            )  # fmt: skip
        except FlowError as error:
            return failure(error)
    if result.left:
        logger.warning("%s left %d processes behind, which were ended", stage, result.left)
    return Completed(name=NAMES[result.outcome], message=f"{result.outcome}, {duration(result.seconds)}", data=result)


@task(persist_result=False, cache_policy=NO_CACHE, name="sync")
def sync_warehouse(runner: Runner) -> State:
    """Bring the warehouse up to date, also with what DVC restored without running a stage.

    Its failure does not fail the run: the shards are the record, and `assay sql` syncs too.
    """
    logger = get_run_logger()
    with stage_log(runner.root, "sync", logger.info) as on_line:
        try:
            finished = runner.run([sys.executable, "-m", "assay", "sync", "--strict"], SYNC_SECONDS, on_line)
            why = f"`assay sync` exited with {finished.code}: {own_words(finished.tail)}" if finished.code else ""
        except FlowError as error:
            why = str(error)
    if why:
        logger.warning("the warehouse is not up to date: %s", why)
        return Completed(name=NOT_SYNCED, message=why)
    return Completed(message="the warehouse is up to date")


@flow(name="assay", persist_result=False)
def pipeline(
    root: str = ".",
    targets: list[str] | None = None,
    force: bool = False,
    allow_missing: bool = False,
    sync: bool = True,
    wait_seconds: float = 60.0,
    retry_delay_seconds: float = 10.0,
    skip_if_busy: bool = False,
) -> State:
    """Bring the project in the folder `root` up to date through DVC, one stage after the other.

    Args:
        root: Folder of dvc.yaml and params.yaml.
        targets: Stages to bring up to date, with all that they depend on; default: every stage of dvc.yaml. The name of another
            dvc.yaml, such as fused/dvc.yaml, stands for all of its stages.
        force: Run stages also where nothing has changed.
        allow_missing: Do not make again what is only missing here, as policies are after `assay prune`.
        sync: Bring the warehouse up to date at the end.
        wait_seconds: How long to wait for another process that works on the same folder before giving up.
        retry_delay_seconds: Pause before a failed stage is run again; doubled each time.
        skip_if_busy: End at once as Skipped, not as failed, where another run works on the same folder.
    """
    began = time.monotonic()
    logger = get_run_logger()
    folder = Path(root).resolve()
    try:
        params = load_params(folder)
        timeout = params.execution.stage_timeout_minutes * 60
        delays = exponential_backoff(retry_delay_seconds)
        configured = run_stage.with_options(retries=params.execution.stage_retries, retry_delay_seconds=delays)
        lock_wait = 0.0 if skip_if_busy else wait_seconds
        with run_lock(folder, str(flow_run.name), lock_wait) as lock, Runner(folder, keep_open=[lock]) as runner:
            stages = stage_order(runner, targets or (), wait_seconds)
            logger.info("%d stages: %s", len(stages), ", ".join(stages))
            rows = {stage: artifacts.Row(stage=stage, outcome="not reached", seconds=None) for stage in stages}
            last: State | None = None
            for stage in stages:
                run = configured.with_options(name=stage.partition("@")[0])
                before = [last] if last else None
                last = run(stage, runner, timeout, wait_seconds, force, allow_missing, wait_for=before, return_state=True)
                rows[stage] = stage_row(stage, last)
                if not last.is_completed():
                    artifacts.publish_stages(list(rows.values()), time.monotonic() - began)
                    return Failed(name=last.name, message=f"{stage}: {last.message}")
                for text in artifacts.stage_warnings(folder, stage):
                    logger.warning("verifier noise, %s", text)
            if sync:
                sync_warehouse(runner, return_state=True)
            artifacts.publish_stages(list(rows.values()), time.monotonic() - began)
            artifacts.publish_results(folder, [iteration.k for iteration in params.iterations], artifacts.pipeline_of(stages))
    except (FlowError, ParameterError, ShardError) as error:
        if skip_if_busy and isinstance(error, Busy):
            return Completed(name=SKIPPED, message=str(error))
        return failure(error)
    return Completed(message=summary(rows.values()))


def failure(error: Exception) -> State:
    """The final state that an error stands for: its name says who has to act, its message how."""
    names = {Busy: BUSY, TimedOut: TIMED_OUT, PersonNeeded: REFUSED, ParameterError: REFUSED}
    return Failed(name=next((names[kind] for kind in names if isinstance(error, kind)), "Failed"), message=str(error))


def stage_row(stage: str, state: State) -> artifacts.Row:
    """A stage's row in the table of stages."""
    if not state.is_completed():
        return artifacts.Row(stage=stage, outcome=f"{state.name}: {state.message}", seconds=None)
    result: Reproduced = state.result()
    return artifacts.Row(stage=stage, outcome=result.outcome, seconds=round(result.seconds, 1))


def summary(rows: Iterable[artifacts.Row]) -> str:
    """3 stages run, 1 restored from the run cache, 20 unchanged."""
    counts = Counter(row["outcome"] for row in rows)
    return (
        f"{counts['run']} stages run, {counts['cached']} restored from the run cache, {counts['unchanged']} unchanged"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the flow once and print the result. Exit code 0; 2 where a person must act; 1 for other failures."""
    parser = argparse.ArgumentParser(prog="python -m flows.pipeline", description=(__doc__ or "").splitlines()[0])
    chosen_only = "bring only this up to date, and all that it needs; fused/dvc.yaml: the fused pipeline"
    parser.add_argument("targets", nargs="*", metavar="STAGE", help=chosen_only)
    parser.add_argument("--root", type=Path, default=Path(), help="project folder (default: here)")
    parser.add_argument("--force", action="store_true", help="run stages also where nothing has changed")
    parser.add_argument("--allow-missing", action="store_true", help="what is only missing here (`assay prune`) is not made again")
    parser.add_argument("--no-sync", action="store_true", help="leave the warehouse as it is")
    parser.add_argument(
        "--wait", type=float, default=60.0, metavar="SECONDS", help="for another run to end (default: 60)"
    )
    chosen = parser.parse_args(argv)
    state = pipeline(
        root=str(chosen.root),
        targets=chosen.targets or None,
        force=chosen.force,
        allow_missing=chosen.allow_missing,
        sync=not chosen.no_sync,
        wait_seconds=chosen.wait,
        return_state=True,
    )
    if not state.is_completed():
        print(f"error: {state.message}", file=sys.stderr)
        return PERSON_MUST_ACT if state.name == REFUSED else 1
    places = artifacts.pipeline_of(chosen.targets)
    table = artifacts.evaluation_table(artifacts.read_rows("evaluations", chosen.root / places.evaluations))
    report = chosen.root / places.report
    print("\n\n".join(filter(None, [table, state.message, f"report: {report}" if report.is_file() else ""])))
    return 0


if __name__ == "__main__":
    sys.exit(main())
