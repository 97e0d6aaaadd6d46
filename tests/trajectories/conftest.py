"""A real git and DVC project whose stages copy invented shards, with two commits and an experiment."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from synthetic_record import write_run

PIPELINE = """
stages:
  configure:
    cmd: mkdir -p data/config && cp configured/${variant}.json data/config/verify.json
    params:
      - params.yaml:
    deps:
      - configured/${variant}.json
    outs:
      - data/config
  generate:
    cmd: cp -r made/${variant}/tasks data/tasks
    deps:
      - made/${variant}/tasks
    outs:
      - data/tasks
  warm_start:
    cmd: mkdir -p models && cp -r made/${variant}/models/0 models/0
    deps:
      - made/${variant}/models/0
    outs:
      - models/0
  rollout:
    foreach: ${iterations}
    do:
      cmd: mkdir -p data/rollout && cp -r made/${variant}/rollout/${item.k} data/rollout/${item.k}
      deps:
        - made/${variant}/rollout/${item.k}
        - data/tasks/tasks.parquet
        - models/${item.k}/policy
      outs:
        - data/rollout/${item.k}
  verify:
    foreach: ${iterations}
    do:
      cmd: mkdir -p data/verify && cp -r made/${variant}/verify/${item.k} data/verify/${item.k}
      deps:
        - made/${variant}/verify/${item.k}
        - data/config/verify.json
        - data/rollout/${item.k}
      outs:
        - data/verify/${item.k}
  filter:
    foreach: ${iterations}
    do:
      cmd: mkdir -p data/filter && cp -r made/${variant}/filter/${item.k} data/filter/${item.k}
      deps:
        - data/verify/${item.k}
      outs:
        - data/filter/${item.k}
  update:
    foreach: ${iterations}
    do:
      cmd: >-
        mkdir -p data/update && cp -r made/${variant}/update/${item.k} data/update/${item.k}
        && cp -r made/${variant}/models/${item.next} models/${item.next}
      deps:
        - data/filter/${item.k}
      outs:
        - data/update/${item.k}
        - models/${item.next}
  finish:
    cmd: cp -r made/${variant}/finish data/finish
    deps:
      - made/${variant}/finish
      - models/${last_policy}/policy
    outs:
      - data/finish
  evaluate:
    cmd: cp -r made/${variant}/evaluate data/evaluate
    deps:
      - data/finish
      - data/verify
    outs:
      - data/evaluate
"""
PARAMS = "variant: strict\niterations:\n  - {k: 0, next: 1}\n  - {k: 1, next: 2}\nlast_policy: 2\n"
IDENTITY = ("-c", "user.name=Test", "-c", "user.email=test@example.org", "-c", "init.defaultBranch=main")


class Project:
    """A project folder and the commands of a person who works in it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def git(self, *arguments: str) -> str:
        return self._run("git", *IDENTITY, *arguments)

    def dvc(self, *arguments: str) -> str:
        return self._run(str(Path(sys.executable).with_name("dvc")), *arguments)

    def assay(self, *arguments: str, stdin: str = "", code: int | None = 0) -> subprocess.CompletedProcess[str]:
        """`python -m assay ARGUMENTS`; fails the test where the exit code is not the expected one."""
        command = [sys.executable, "-m", "assay", *arguments]
        done = subprocess.run(command, cwd=self.root, input=stdin, capture_output=True, text=True, env=environment())
        assert code is None or done.returncode == code, f"{command} gave {done.returncode}:\n{done.stdout}\n{done.stderr}"
        return done

    def script(self, *lines: str) -> None:
        """Several commands of `git` and `dvc`; the latter in one process, which saves a second for each."""
        driver = (
            "import json, subprocess, sys\n"
            "from dvc.cli import main\n"
            "for command in json.loads(sys.argv[1]):\n"
            "    name, *rest = command\n"
        "    code = main(rest) if name == 'dvc' else subprocess.run(command).returncode\n"
            "    assert code == 0, f'{command} gave {code}'\n"
        )
        commands = [shlex.split(line) for line in lines]
        self._run(sys.executable, "-c", driver, json.dumps(commands))

    def commit(self, message: str) -> str:
        self.git("add", "-A")
        self.git("commit", "-q", "-m", message)
        return self.git("rev-parse", "HEAD").strip()

    def set_param(self, old: str, new: str) -> None:
        file = self.root / "params.yaml"
        assert old in file.read_text()
        file.write_text(file.read_text().replace(old, new))

    def _run(self, *command: str) -> str:
        done = subprocess.run(command, cwd=self.root, capture_output=True, text=True, env=environment())
        assert done.returncode == 0, f"{command} gave {done.returncode}:\n{done.stdout}\n{done.stderr}"
        return done.stdout


def environment() -> dict[str, str]:
    """Real programs, told where this checkout is and to keep their data to themselves."""
    here = str(Path(__file__).parents[2])
    who = {"NAME": "Test", "EMAIL": "test@example.org"}
    names = {f"GIT_{role}_{what}": value for role in ("AUTHOR", "COMMITTER") for what, value in who.items()}
    python = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return os.environ | names | {"DVC_NO_ANALYTICS": "1", "PYTHONPATH": python, "PATH": path}


@pytest.fixture(scope="session", autouse=True)
def own_site_cache(tmp_path_factory: pytest.TempPathFactory):
    """DVC keeps its databases about each project here, and not where the other projects of this machine have theirs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path_factory.mktemp("site_cache")))
        yield


@pytest.fixture(scope="session")
def finished_project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Tags `baseline` (a strict rule) and `tolerant` (another verifier over the same rollouts), the experiment
    `shorter` (one iteration). Not to be changed: take `project`.
    """
    root = tmp_path_factory.mktemp("finished") / "project"
    for name, iterations, version in (("strict", 2, "1"), ("tolerant", 2, "2"), ("shorter", 1, "1")):
        write_run(root / "made" / name, iterations, verifier_version=version)
        (root / "configured").mkdir(exist_ok=True)
        settings = {"verification": {"rule": "string_match", "version": int(version)}}
        (root / "configured" / f"{name}.json").write_text(json.dumps(settings))
    (root / "dvc.yaml").write_text(PIPELINE)
    (root / "params.yaml").write_text(PARAMS)
    (root / ".gitignore").write_text("*.duckdb*\n.assay/\n")
    (root / "data").mkdir()
    (root / "data" / ".gitignore").write_text("/*\n!/.gitignore\n")
    project = Project(root)
    project.script(
        "git init -q", "dvc init -q", "dvc config core.analytics false", "dvc config cache.type copy",
        "dvc remote add -q -d store ../store",
        "git add -A", "git commit -q -m made",
        "dvc repro -q", "git add -A", "git commit -q -m baseline", "git tag baseline",
    )  # fmt: skip
    project.set_param("variant: strict", "variant: tolerant")
    project.script(
        "dvc repro -q", "git add -A", "git commit -q -m tolerant", "git tag tolerant",
        "dvc exp run -q -n shorter -S variant=shorter -S 'iterations=[{k: 0, next: 1}]' -S last_policy=1",
        "git checkout -q -- .", "dvc checkout -q",
    )  # fmt: skip
    return project


@pytest.fixture
def project(finished_project: Project, tmp_path: Path) -> Project:
    """A copy of the finished project that a test may change."""
    root = tmp_path / "project"
    subprocess.run(["cp", "-a", str(finished_project.root), str(root)], check=True)
    return Project(root)
