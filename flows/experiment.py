"""A DVC experiment as a Prefect flow: the pipeline with some parameters changed, beside the workspace.

`python -m flows.experiment NAME -S method=grpo -S seed=1`. DVC makes a temporary copy of the project, runs all of its
stages there and keeps the result as the experiment NAME (`dvc exp show`, `dvc exp apply`); the workspace and its
params.yaml stay as they are. Stages that have run before with the same inputs are restored from the run cache.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.states import Completed, Failed, State

from assay.cli import PERSON_MUST_ACT
from assay.params import ParameterError, load_params
from flows.commands import FlowError, Runner
from flows.dvc_runner import ASK_SECONDS, ask, stage_order
from flows.pipeline import REFUSED, failure, sync_warehouse, worth_retrying
from flows.run_lock import run_lock
from flows.run_log import stage_log


@task(persist_result=False, cache_policy=NO_CACHE, retry_condition_fn=worth_retrying, task_run_name="{name}")
def run_experiment(name: str, changes: list[str], runner: Runner, timeout: float, wait: float) -> State:
    """`dvc exp run` in a temporary folder; ended with all of its processes after `timeout` seconds."""
    options = [option for change in changes for option in ("--set-param", change)]
    with stage_log(runner.root, f"experiment-{name}", get_run_logger().info) as on_line:
        try:
            ask(runner, ["exp", "run", "--temp", "--name", name, *options], timeout, wait, on_line)
        except FlowError as error:
            return failure(error)
    return Completed(message=f"experiment {name} is kept; see `dvc exp show`")


@flow(name="assay-experiment", persist_result=False)
def experiment(
    name: str, set_params: dict[str, Any], root: str = ".", sync: bool = True, wait_seconds: float = 60.0
) -> State:
    """Run the project in the folder `root` with some parameters changed, as the DVC experiment `name`.

    Args:
        name: Of the experiment; one that exists already is refused.
        set_params: Parameters with their values, e.g. {"method": "grpo", "training": {"learning_rate": 1e-4}}; keys may
            be dotted too.
        root: Folder of dvc.yaml and params.yaml; what git has not committed there takes part as it is.
        sync: Bring the warehouse up to date at the end.
        wait_seconds: How long to wait for another process that holds DVC's lock before giving up.
    """
    folder = Path(root).resolve()
    try:
        execution = load_params(folder).execution
        # DVC puts the workspace aside for a moment to copy it: nobody else may read or write it then.
        with run_lock(folder, f"experiment {name}", wait_seconds) as lock, Runner(folder, keep_open=[lock]) as runner:
            timeout = execution.stage_timeout_minutes * 60 * len(stage_order(runner, wait=wait_seconds))
            run = run_experiment.with_options(retries=execution.stage_retries, retry_delay_seconds=10)
            state = run(name, list(overrides(set_params)), runner, timeout, wait_seconds, return_state=True)
            if not state.is_completed():
                return Failed(name=state.name, message=f"experiment {name}: {state.message}")
            compare = ["metrics", "diff", "--md", "--precision", "3", "HEAD", name]
            table = ask(runner, compare, ASK_SECONDS, wait_seconds)
            create_markdown_artifact(key="experiment", markdown="\n".join([f"{name} against HEAD\n", *table.lines]))
            if sync:
                sync_warehouse(runner, return_state=True)
    except (FlowError, ParameterError) as error:
        return failure(error)
    return state


def overrides(changes: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Changes in the form of `dvc exp run --set-param`; a key that only a preset has is added to params.yaml's copy."""
    for key, value in changes.items():
        if isinstance(value, Mapping):
            yield from overrides(value, f"{prefix}{key}.")
        else:
            yield f"++{prefix}{key}={_hydra(value)}"


def _hydra(value: Any) -> str:
    """A value in the grammar of Hydra's overrides, in which keys of mappings stand without quotation marks."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_hydra(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_hydra, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one experiment. Exit code 0; 2 where a person must act; 1 for other failures."""
    parser = argparse.ArgumentParser(prog="python -m flows.experiment", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("name", help="of the experiment")
    parser.add_argument("-S", "--set-param", action="append", default=[], metavar="KEY=VALUE", help="may be repeated")
    parser.add_argument("--root", type=Path, default=Path(), help="project folder (default: here)")
    parser.add_argument("--no-sync", action="store_true", help="leave the warehouse as it is")
    chosen = parser.parse_args(argv)
    if wrong := [change for change in chosen.set_param if "=" not in change]:
        parser.error(f"-S {wrong[0]}: expected KEY=VALUE")
    pairs = (change.split("=", 1) for change in chosen.set_param)
    changes = {key: yaml.safe_load(value) for key, value in pairs}
    state = experiment(chosen.name, changes, str(chosen.root), not chosen.no_sync, return_state=True)
    if not state.is_completed():
        print(f"error: {state.message}", file=sys.stderr)
        return PERSON_MUST_ACT if state.name == REFUSED else 1
    print(state.message)
    return 0


if __name__ == "__main__":
    sys.exit(main())
