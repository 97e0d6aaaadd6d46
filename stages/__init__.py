"""Thin entry points, one per DVC stage: read parameters and inputs, call the library, write outputs."""

import os
import sys

import assay  # noqa: F401  telemetry is switched off before any library is imported
from assay.isolation import die_with_parent, is_orphan

# Before anything that takes long to import: a `dvc` that is killed meanwhile would leave a stage that nobody waits for, beside
# the one that the next `dvc repro` starts. Only where DVC started us: a person's own programs may import this package too.
if "DVC_STAGE" in os.environ:
    if is_orphan():
        sys.exit("the dvc that started this stage is gone")
    die_with_parent()

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from pathlib import Path

import yaml

from assay.cli import speak
from assay.params import Params, load_execution, read_stage_view
from assay.params.execution import ExecutionParams
from assay.rollouts.lock import folder_lock
from assay.rounds.scratch import is_main_process
from assay.trajectories import file_digest

CONFIG = Path("data/config")
TASKS = Path("data/tasks")
PRETRAINED = Path("data/pretrained")
PRESAMPLE = Path("data/presample")
"""Of both pipelines, as tasks and policy 0 are."""
SCRATCH = Path(".assay/scratch")
LOCKS = Path(".assay/locks")
WAIT_SECONDS = 20.0
"""For a killed run of the same stage, whose processes end within a second or two."""


def stage(body: Callable[[], None]) -> None:
    """Run a stage's body and exit with its code. The stage dies with the `dvc` that started it, and no other process runs
    the same stage meanwhile."""
    die_with_parent()
    if threads := machine().threads:
        os.environ.setdefault("OMP_NUM_THREADS", str(threads))

    def alone() -> None:
        # Processes of one `accelerate launch` are one run: the main one holds the lock for all.
        with folder_lock(LOCKS / stage_name(), WAIT_SECONDS) if is_main_process() else nullcontext():
            body()

    sys.exit(speak(alone))


def stage_name() -> str:
    """This process's stage with its arguments, such as rollout-0."""
    return "-".join([module_name().rpartition(".")[2], *sys.argv[1:]])


def module_name() -> str:
    """As given to `python -m`."""
    return str(sys.modules["__main__"].__spec__.name)  # type: ignore[union-attr]


def machine() -> ExecutionParams:
    """Machine settings of params.yaml; a params.yaml that does not load is reported by the stage itself."""
    try:
        return load_execution()
    except ValueError:
        return ExecutionParams()


def stage_params(name: str) -> Params:
    """The resolved parameters that the stage `name` may read."""
    return read_stage_view(CONFIG / f"{name}.json")


def iteration_argument() -> int:
    """The iteration on the command line. Raises SystemExit with the usage."""
    if len(sys.argv) < 2 or not sys.argv[1].isdigit() or sys.argv[2:] not in ([], ["fused"]):
        sys.exit(f"usage: python -m {module_name()} ITERATION [fused]")
    return int(sys.argv[1])


def is_fused() -> bool:
    """Whether the stage belongs to the fused pipeline, whose outputs lie in folders of their own."""
    return sys.argv[-1] == "fused"


def data_folder() -> Path:
    """Outputs of this pipeline's stages, but for tasks and parameters, which both share."""
    return Path("data/fused") if is_fused() else Path("data")


def noise_folder(k: int) -> Path:
    """What this pipeline's iteration k finds of earlier noise estimates."""
    return data_folder() / "noise" / str(k)


def policy_folder(k: int) -> Path:
    """Policy k of this pipeline, with its trainer. (Policy 0 of both is the same.)"""
    return (Path("models/fused") if is_fused() else Path("models")) / str(k)


def stage_code() -> dict[str, str]:
    """Digest of each file of the code that DVC has this stage depend on."""
    pipeline = Path("fused/dvc.yaml" if is_fused() else "dvc.yaml")
    described = yaml.safe_load(pipeline.read_text(encoding="utf-8"))["stages"][module_name().rpartition(".")[2]]
    named = described.get("do", described)["deps"]
    return code_digests(path for path in named if Path(path).parts[0] in ("assay", "stages"))


def code_digests(paths: Iterable[str]) -> dict[str, str]:
    """Digest of each file of the given files and folders, by its path in the project."""
    found: list[Path] = []
    for path in map(Path, paths):
        found += [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file() and "__pycache__" not in p.parts]
    return {path.as_posix(): file_digest(path) for path in sorted(found)}
