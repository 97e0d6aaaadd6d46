"""dvc.yaml names the code that a stage's outputs come from: a changed loss, filter or verifier must run its stage again."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

import stages
from assay.params import Params
from stages.verdict_code import VERDICT_CODE, read_verdict_code, write_verdict_code

ROOT = Path(__file__).parents[2]
STAGES: dict[str, Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"] | {
    f"fused {name}": stage for name, stage in yaml.safe_load((ROOT / "fused/dvc.yaml").read_text())["stages"].items()
}
CODE = (
    "assay/engines", "assay/environments", "assay/evaluation", "assay/objectives", "assay/rewards", "assay/rollouts",
    "assay/rounds", "assay/sandbox", "assay/training", "assay/trajectories/gates", "assay/verifiers",
)  # fmt: skip
"""Rooms that decide what a stage writes. The others: parameters reach a stage as values, through its file in data/config;
shards, warehouse and processes carry results and do not make them."""
LEFT_OUT: dict[tuple[str, str], str] = {
    ("generate", "assay/verifiers"): "a corrected verifier is for verify; golds are checked again by `assay validate`",
    ("warm_start", "assay/verifiers"): "a corrected verifier must not make every policy anew",
    ("generate", "assay/engines"): "only the client of a language model that builds environments; its replies are remembered",
    ("warm_start", "assay/rollouts"): "only the episodes that the warm start's pass@1 plays",
    ("warm_start", "assay/sandbox"): "the tools of those episodes",
    ("presample", "assay/environments/tools"): "presamples are answered in one turn",
    ("presample", "assay/sandbox"): "the same",
    ("generate", "assay/rewards/boxes.py"): "how a verifier finds an answer",
    ("generate", "assay/rewards/voting.py"): "a name that critiques pass on",
    ("warm_start", "assay/rewards"): "how a verifier finds an answer",
    ("warm_start", "assay/environments"): "only the oracle that the warm start's pass@1 asks; its tasks are a dependency",
    ("warm_start", "assay/rounds/scratch.py"): "where unfinished work lies",
    **dict.fromkeys(
        (("rollout", path) for path in VERDICT_CODE),
        "a corrected verifier judges stored rollouts again; where verdicts choose what is sampled, `configure` hands on its digests",
    ),
    ("rollout", "assay/environments/base.py"): "the error of a generator that is not asked",
    ("rollout", "assay/environments/reasoning_gym_probe.py"): "tests generators before tasks are made",
    ("evaluate", "assay/environments/protocols"): "an oracle that is not asked: of oracles.py the reading of numbers is used",
    ("evaluate", "assay/environments/text_to_sql"): "the same",
    ("rollout", "assay/rounds/scratch.py"): "where unfinished work lies",
    ("pretrain", "assay/rounds/scratch.py"): "where unfinished work lies",
    ("update", "assay/rounds/scratch.py"): "where unfinished work lies",
    ("finish", "assay/rounds/scratch.py"): "where unfinished work lies",
    ("train", "assay/rounds/scratch.py"): "where unfinished work lies",
    ("begin", "assay/rounds/scratch.py"): "where unfinished work lies",
    ("train", "assay/rounds/lines.py"): "progress for people",
    ("train", "assay/rounds/round_report.py"): "progress for people",
    ("train", "assay/rounds/shared_device.py"): "how much of a card an engine may take",
    ("filter", "assay/rounds/lines.py"): "progress for people",
    ("filter", "assay/engines/base.py"): "an error",
    ("update", "assay/engines"): "whether there is a tokenizer; no text is read",
    ("train", "assay/environments/base.py"): "the error of a generator that is not asked",
    ("train", "assay/environments/reasoning_gym_probe.py"): "tests generators before tasks are made",
    ("generate", "assay/rounds/lines.py"): "progress for people",
    ("verify", "assay/rounds/lines.py"): "progress for people",
    ("presample", "assay/rounds/lines.py"): "progress for people",
    ("presample", "assay/rounds/scratch.py"): "where unfinished work lies",
    ("presample", "assay/environments/base.py"): "the error of a generator that is not asked",
    ("presample", "assay/environments/reasoning_gym_probe.py"): "tests generators before tasks are made",
    ("finish", "assay/rounds/lines.py"): "progress for people",
    ("verify", "assay/environments/base.py"): "the error of a generator that is not asked",
    ("verify", "assay/environments/reasoning_gym_probe.py"): "tests generators before tasks are made",
    ("finish", "assay/environments/base.py"): "the error of a generator that is not asked",
    ("finish", "assay/environments/reasoning_gym_probe.py"): "tests generators before tasks are made",
}  # fmt: skip


def module_file(name: str) -> Path | None:
    path = Path(*name.split("."))
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if (ROOT / file).is_file()), None)


@cache
def imports(file: Path) -> tuple[tuple[str, str | None], ...]:
    """(module, name) of all imports of ours, also those inside functions."""
    found: list[tuple[str, str | None]] = []
    for node in ast.walk(ast.parse((ROOT / file).read_text())):
        if isinstance(node, ast.Import):
            found += [(alias.name, None) for alias in node.names if alias.name.split(".")[0] == "assay"]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "assay":
            found += [(str(node.module), alias.name) for alias in node.names]
    return tuple(found)


def home(module: str, name: str | None) -> Path | None:
    """The file in which an imported name is defined, found through packages that pass it on."""
    if name and (file := module_file(f"{module}.{name}")):
        return file
    file = module_file(module)
    if file is not None and file.name == "__init__.py" and name:
        for other, passed in imports(file):
            if passed == name:
                return home(other, passed)
    return file


def used_by(stage: str) -> Iterator[str]:
    """Files that the stage's code comes from, packages' own __init__ files left out."""
    seen: set[Path] = set()
    waiting = [Path(f"stages/{stage.removeprefix('fused ')}.py")]
    while waiting:
        file = waiting.pop()
        if file not in seen:
            seen.add(file)
            if file.name != "__init__.py":
                waiting += filter(None, (home(*one) for one in imports(file)))
    return (file.as_posix() for file in sorted(seen) if file.name != "__init__.py")


def below(file: str, path: str) -> bool:
    return file == path or file.startswith(f"{path}/")


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_the_code_that_makes_its_outputs(stage):
    named = STAGES[stage].get("do", STAGES[stage])["deps"]
    used = [file for file in used_by(stage) if any(below(file, room) for room in CODE)]
    left_out = [path for name, path in LEFT_OUT if name == stage.removeprefix("fused ")]
    assert f"stages/{stage.removeprefix('fused ')}.py" in named
    assert [file for file in used if not any(below(file, path) for path in [*named, *left_out])] == []


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_no_code_that_it_does_not_use(stage):
    named = [path for path in STAGES[stage].get("do", STAGES[stage])["deps"] if path.startswith("assay/")]
    used = [*used_by(stage), *(VERDICT_CODE if stage == "configure" else ())]
    assert [path for path in named if (ROOT / path).suffix == ".py" and path not in used] == []


@pytest.mark.parametrize(("stage", "path"), LEFT_OUT)
def test_nothing_is_left_out_for_no_reason(stage, path):
    assert any(below(file, path) for file in used_by(stage))


def test_configure_watches_the_folders_whose_files_parameters_name():
    assert {"conf/functions", "conf/templates"} <= set(STAGES["configure"]["deps"])
    assert all((ROOT / path).exists() for path in STAGES["configure"]["deps"] if "$" not in path)


def test_a_corrected_verifier_samples_nothing_again_unless_verdicts_choose_what_is_sampled(tmp_path, monkeypatch):
    named = {name: set(STAGES[name].get("do", STAGES[name])["deps"]) for name in ("configure", "rollout", "verify")}
    assert set(VERDICT_CODE) <= named["configure"] and not set(VERDICT_CODE) & named["rollout"]
    assert "data/config/rollout.code" in named["rollout"]
    assert all(any(below(path, own) for own in named["verify"]) for path in VERDICT_CODE)

    plain, stratified = (Params(self_verification={"share": 0.5, "selection": how}) for how in ("uniform", "stratified"))
    monkeypatch.chdir(tmp_path)
    verifier, compiled = Path("assay/verifiers/numeric.py"), Path("assay/verifiers/__pycache__/numeric.cpython-311.pyc")
    compiled.parent.mkdir(parents=True)
    written = []
    for text in ("a = 1\n", "a = 2\n"):
        verifier.write_text(text)
        compiled.write_text(text)
        for params in (Params(), plain, stratified):
            write_verdict_code(params, tmp_path)
            written.append(read_verdict_code(tmp_path))
    assert written[:2] == written[3:5] == [{}, {}]
    assert written[2].keys() == written[5].keys() == {"assay/verifiers/numeric.py"} and written[2] != written[5]


@pytest.mark.parametrize("stage", ["rollout", "fused train"])
def test_unfinished_work_is_compared_with_the_code_of_its_stage(stage, monkeypatch):
    module = f"stages.{stage.removeprefix('fused ')}"
    monkeypatch.setattr(stages, "module_name", lambda: module)
    monkeypatch.setattr("sys.argv", [module, "0", *(["fused"] if stage.startswith("fused") else [])])
    monkeypatch.chdir(ROOT)
    code = stages.stage_code()
    named = [path for path in STAGES[stage]["do"]["deps"] if path.startswith(("assay/", "stages/"))]
    assert all(any(below(file, path) for file in code) for path in named)
    assert all(any(below(file, path) for path in named) and not file.endswith(".pyc") for file in code)
