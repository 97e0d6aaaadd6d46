"""The contracts in pyproject.toml leave no room and no stage out, and what they say of files holds in a running program too."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONTRACTS = {one["name"]: one for one in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]}
ROOMS = {f"assay.{path.parent.name}" for path in (ROOT / "assay").glob("*/__init__.py")}


def test_every_stage_is_independent_of_the_others():
    stages = {f"stages.{path.stem}" for path in (ROOT / "stages").glob("*.py")} - {"stages.__init__", "stages.verdict_code"}
    assert set(CONTRACTS["Stages meet in files only"]["modules"]) == stages


@pytest.mark.parametrize(("name", "room"), [("Only engines import vLLM", "engines"), ("Only training imports TRL", "training")])
def test_heavy_libraries_have_one_room(name, room):
    assert set(CONTRACTS[name]["source_modules"]) == (ROOMS | {"stages", "flows"}) - {f"assay.{room}"}


def test_objectives_and_rewards_load_no_library_that_reads_or_writes():
    pure = CONTRACTS["Objectives and rewards are pure"]
    folders = [Path(*name.split(".")) for name in pure["source_modules"]]
    modules = [".".join(file.relative_to(ROOT).with_suffix("").parts) for folder in folders for file in (ROOT / folder).rglob("*.py")]
    program = f"import importlib, sys; [importlib.import_module(name) for name in {modules}]; print(sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert [name for name in pure["forbidden_modules"] if f"'{name}'" in loaded] == []
