"""Thin entry points, one per DVC stage: read parameters and inputs, call the library, write outputs."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import assay  # noqa: F401  telemetry is switched off before any library is imported
from assay.cli import speak
from assay.isolation import die_with_parent
from assay.params import Params, load_execution, read_stage_view

CONFIG = Path("data/config")
TASKS = Path("data/tasks")
SCRATCH = Path(".assay/scratch")


def stage(body: Callable[[], None]) -> None:
    """Run a stage's body and exit with its code. The stage dies with the `dvc` that started it."""
    die_with_parent()
    threads = load_threads()
    if threads:
        os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    sys.exit(speak(body))


def load_threads() -> int | None:
    """execution.threads of params.yaml; a params.yaml that does not load is reported by the stage itself."""
    try:
        return load_execution().threads
    except ValueError:
        return None


def stage_params(name: str) -> Params:
    """The resolved parameters that the stage `name` may read."""
    return read_stage_view(CONFIG / f"{name}.json")


def iteration_argument() -> int:
    """The iteration on the command line. Raises SystemExit with the usage."""
    if len(sys.argv) != 2 or not sys.argv[1].isdigit():
        sys.exit(f"usage: python -m {sys.modules['__main__'].__spec__.name} ITERATION")  # type: ignore[union-attr]
    return int(sys.argv[1])
