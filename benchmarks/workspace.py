"""A copy of the project with parameters of its own, driven by the real `dvc`. Used by tests and benchmarks."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml

from assay.trajectories import file_digest, read_table

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent

MICRO: dict[str, Any] = {
    "method": "grpo",
    "scale": "micro",
    "environment": "arithmetic",
    "seed": 0,
    "iterations": [{"k": 0, "next": 1}],
    "last_policy": 1,
}


@dataclass
class Workspace:
    """A project folder."""

    root: Path

    def environment(self) -> dict[str, str]:
        """The caller's, with this interpreter's commands first and no hub."""
        path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
        return os.environ | {"PATH": path, "HF_HUB_OFFLINE": "1", "GIT_CONFIG_GLOBAL": os.devnull}

    def run(self, *command: str, check: bool = True, timeout: float = 1800) -> subprocess.CompletedProcess[str]:
        """Run a command in the folder. Raises AssertionError with its output when `check` and it fails."""
        done = subprocess.run(command, cwd=self.root, env=self.environment(), capture_output=True, text=True, timeout=timeout)
        if check and done.returncode:
            raise AssertionError(f"{' '.join(command)} ended with {done.returncode}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}")
        return done

    def repro(self, *arguments: str) -> list[str]:
        """`dvc repro`; returns the stages that ran, in order."""
        output = self.run("dvc", "repro", *arguments).stdout
        return [line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage '")]

    def set_params(self, **values: Any) -> None:
        """Replace top-level keys of params.yaml."""
        content = yaml.safe_load((self.root / "params.yaml").read_text()) | values
        (self.root / "params.yaml").write_text(yaml.safe_dump(content, sort_keys=False))

    def commit(self, message: str) -> None:
        self.run("git", "add", "-A")
        self.run("git", "-c", "user.name=test", "-c", "user.email=test@localhost", "commit", "-qm", message)

    def table(self, name: str, *parts: str) -> pa.Table:
        """Rows of a table below folders of the project."""
        return read_table(name, *(self.root / part for part in parts))


def copy_project(target: Path, params: dict[str, Any] | None = None) -> Workspace:
    """The working tree as git sees it (what is not committed yet too), as a fresh git repository without outputs."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout  # fmt: skip
    for name in filter(None, listed.split("\0")):
        source = ROOT / name
        if source.is_file() and name != "dvc.lock":
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target / name)
    workspace = Workspace(target)
    workspace.run("git", "init", "-q")
    (target / "params.yaml").write_text(yaml.safe_dump(MICRO if params is None else params, sort_keys=False))
    workspace.commit("start")
    return workspace


def fingerprints(workspace: Workspace) -> dict[str, str]:
    """Digest of every cached output file of the workspace, by name."""
    locks = [file for name in ("dvc.lock", "fused/dvc.lock") if (file := workspace.root / name).is_file()]
    stages = [stage for file in locks for stage in yaml.safe_load(file.read_text())["stages"].values()]
    outputs = [workspace.root / out["path"] for stage in stages for out in stage.get("outs", [])]
    files = [file for out in outputs for file in (sorted(out.rglob("*")) if out.is_dir() else [out]) if file.is_file()]
    return {file.relative_to(workspace.root).as_posix(): file_digest(file) for file in files}
