"""Helpers of these tests: a small real project under git and DVC, and ways to find the processes that it starts."""

import contextlib
import os
import subprocess
import sys
import textwrap
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import psutil

PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
ENVIRONMENT = {**os.environ, "DVC_NO_ANALYTICS": "1", "PATH": PATH}


class Project:
    """A folder with git, DVC and the parameters of Assay, whose stages are shell commands."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def create(self) -> None:
        """Make the folder into a project."""
        for kind, name in {"scale": "tiny", "environment": "arithmetic", "method": "grpo"}.items():
            preset = self.root / "conf" / kind / f"{name}.yaml"
            preset.parent.mkdir(parents=True)
            preset.touch()
        self.params()
        self.run("git", "init", "-q")
        self.run("dvc", "init", "-q")
        self.run("dvc", "config", "core.check_update", "false")
        (self.root / ".gitignore").write_text(".assay/\n")

    def run(self, *arguments: str) -> str:
        """A command in the project; its output."""
        return subprocess.run(
            arguments, cwd=self.root, env=ENVIRONMENT, check=True, capture_output=True, text=True
        ).stdout

    def stages(self, text: str) -> None:
        """The content of dvc.yaml below `stages:`."""
        (self.root / "dvc.yaml").write_text("stages:\n" + textwrap.indent(textwrap.dedent(text), "  "))

    def params(self, retries: int = 1, timeout_minutes: float = 1.0, iterations: int = 2) -> None:
        """params.yaml."""
        listed = "".join(f"  - {{k: {k}, next: {k + 1}}}\n" for k in range(iterations))
        (self.root / "params.yaml").write_text(
            f"execution: {{stage_retries: {retries}, stage_timeout_minutes: {timeout_minutes}}}\niterations:\n{listed}"
            f"last_policy: {iterations}\n"
        )

    def lines(self, name: str) -> list[str]:
        """Lines of a file that stages append to; none where it is missing."""
        path = self.root / name
        return path.read_text().splitlines() if path.is_file() else []


def living(mark: str) -> list[psutil.Process]:
    """Processes, other than this one, whose command line holds the mark."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        if process.pid != os.getpid() and process.info["status"] != psutil.STATUS_ZOMBIE:
            if any(mark in part for part in process.info["cmdline"] or []):
                found.append(process)
    return found


def wait_until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    """Return once the condition holds; fail after `seconds`, no measure of speed but a guard against hanging."""
    end, pause = time.monotonic() + seconds, 0.02
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(pause)
        pause = min(2 * pause, 0.5)


def end(started: subprocess.Popen[bytes], seconds: float) -> None:
    """Ask a process to end; after `seconds`, kill it and all below it that are left."""
    process = psutil.Process(started.pid)
    family = [process, *process.children(recursive=True)]
    process.terminate()
    for left in psutil.wait_procs(family, seconds)[1]:
        with contextlib.suppress(psutil.NoSuchProcess):
            left.kill()
    started.wait()


def sleeper(mark: str) -> str:
    """A shell command that a mark can find and that would outlast any test."""
    return f"python -c 'import time; time.sleep(600)' {mark}"


def answers(url: str) -> bool:
    """Whether something answers there."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False
