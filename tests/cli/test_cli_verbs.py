"""Every verb by its arguments: what it prints, and the exit codes of ordinary mistakes (2, one sentence, no traceback)."""

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from assay.cli import VERBS, main, speak
from assay.params import load_params
from assay.trajectories import write_shard

HERE = Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path):
    """The parameters of this repository at the smallest scale."""
    text = (HERE / "params.yaml").read_text(encoding="utf-8")
    lines = ["scale: micro" if line.startswith("scale:") else line for line in text.splitlines()]
    assert "scale: micro" in lines
    (tmp_path / "params.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (tmp_path / "conf").symlink_to(HERE / "conf")
    return tmp_path


def assay(capsys, *arguments: str, code: int = 0) -> tuple[str, str]:
    """Output and errors of `assay ARGUMENTS`, in this process."""
    try:
        given = main(arguments)
    except SystemExit as error:  # argparse
        given = error.code
    out, err = capsys.readouterr()
    assert given == code, err
    assert "Traceback" not in err
    return out, err


def test_help_names_every_verb_and_its_mistakes_name_the_verbs(capsys):
    out, _ = assay(capsys, "--help")
    assert all(f"    {verb} " in out for verb in VERBS)
    _, err = assay(capsys, "sqll", code=2)
    assert "sqll" in err and "rebuild" in err
    assert "VERB" in assay(capsys, code=2)[1]


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_has_help_and_refuses_what_it_does_not_know(capsys, verb):
    out, _ = assay(capsys, verb, "--help")
    assert out.startswith(f"usage: assay {verb}") and "--root" in out
    _, err = assay(capsys, verb, "--nonsense", code=2)
    assert "error:" in err


def test_the_command_is_installed_and_gives_its_exit_code(tmp_path):
    command = [sys.executable, "-m", "assay", "show", "--root", str(tmp_path)]
    done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


def test_plan_says_what_each_stage_will_cost(project, capsys):
    out, _ = assay(capsys, "plan", "--root", str(project))
    for stage in ("generate", "warm_start", "rollout", "verify", "filter", "update", "finish", "evaluate", "together"):
        assert stage in out
    assert "parameters; measured matrix rate" in out
    assert sorted(path.name for path in project.iterdir()) == ["conf", "params.yaml"]


def test_validate_checks_parameters_tasks_and_golds_and_writes_nothing(project, capsys):
    short, _ = assay(capsys, "validate", "--root", str(project), "--params-only")
    assert short.startswith("parameters: valid (") and "scale micro" in short
    assert short.count("\n") == 2 and "environments: rational 75%, chain_sum 25%" in short
    out, _ = assay(capsys, "validate", "--root", str(project))
    assert out.startswith(short) and "every gold accepted by its own verifier" in out
    counts = json.loads(out[out.index("{") :])
    assert counts
    assert sorted(path.name for path in project.iterdir()) == ["conf", "params.yaml"]


@pytest.fixture
def judged(project):
    """A function that gives the project these parameters of appeals, and questions of its own in place of the preset's."""
    (project / "conf").unlink()
    shutil.copytree(HERE / "conf", project / "conf")
    kept, skipping = [], False
    for own in (project / "params.yaml").read_text(encoding="utf-8").splitlines():
        skipping = own.startswith(("verification:", "environment:", "execution:")) or (skipping and own.startswith((" ", "#")))
        kept += [] if skipping else [own]
    for verifier, first in (("numeric", 0), ("string_match", 100)):
        rows = [json.dumps({"prompt": f"{n} + 1 = ?", "gold": str(n + 1)}) for n in range(first, first + 100)]
        (project / f"{verifier}.jsonl").write_text("\n".join(rows), encoding="utf-8")

    def write(judge, urls=(), verifiers=("numeric",)):
        environments = {name: {"type": "dataset", "path": f"{name}.jsonl", "verifier": name} for name in verifiers}
        sizes = {"train": 40, "eval": 8, "ood": 0, "demonstrations": 8}
        (project / "conf" / "environment" / "own.yaml").write_text(json.dumps({"environments": environments, "tasks": sizes}))
        more = {
            "environment": "own", "execution": {"judge": {"urls": list(urls)}},
            "verification": {"appeals": {"enabled": True, "probability": 0.5, "judge": judge}},
        }  # fmt: skip
        text = "\n".join([*kept, *(f"{key}: {json.dumps(value)}" for key, value in more.items())])
        (project / "params.yaml").write_text(text + "\n", encoding="utf-8")
        return "--root", str(project)

    return write


def test_a_judge_without_a_place_is_found_before_a_run(judged, project, capsys):
    endpoint, file = {"type": "endpoint", "model": "some/judge"}, project / "params.yaml"
    for verb in ("plan", "validate"):
        _, err = assay(capsys, verb, *judged(endpoint), code=2)
        assert err.startswith(f"error: {file}: verification.appeals.judge.type is endpoint, but execution.judge.urls is empty")
    _, err = assay(capsys, "validate", *judged(endpoint, ["localhost"]), "--params-only", code=2)
    assert err.startswith("error: execution.judge.urls holds 'localhost', which is no address") and err.count("\n") == 1
    _, err = assay(capsys, "validate", *judged({"type": "local", "model": "models/no/judge"}), "--params-only", code=2)
    assert err.startswith("error: verification.appeals.judge.model is 'models/no/judge': there is no such folder")
    out, _ = assay(capsys, "validate", *judged(endpoint, ["http://localhost:1/v1"]), "--params-only")
    assert out.splitlines()[2] == "judge: some/judge at http://localhost:1/v1 (not asked now; one that is down abstains)"


def test_the_plan_counts_what_goes_before_the_judge(judged, project, capsys):
    root = judged({"type": "endpoint", "model": "some/judge"}, ["http://localhost:1/v1"])
    out, _ = assay(capsys, "plan", *root)
    sampling = load_params(project).sampling
    calls = sampling.tasks_per_iteration * sampling.group_size // 2
    assert f"\nappeals: at most {calls:,} answers an iteration go before the judge (endpoint some/judge), " in out
    assert "it reads and writes at most" in out


def test_validate_says_where_the_judge_is_the_rule_of_the_tasks(judged, project, capsys):
    numeric = {"type": "symbolic", "verifier": "numeric"}
    _, err = assay(capsys, "validate", *judged(numeric), code=2)
    said = "verification.appeals.judge.verifier is numeric, the rule itself of"
    assert err.startswith(f"error: {project / 'params.yaml'}: {said} all 40 training tasks: it would uphold no appeal")
    out, _ = assay(capsys, "validate", *judged(numeric, verifiers=("numeric", "string_match")))
    assert f"warning: {said} 20 of 40 training tasks (numeric): it would" in out and "judge: the verifier numeric\n" in out
    out, _ = assay(capsys, "validate", *judged(numeric, verifiers=("string_match",)))
    assert "warning" not in out


@pytest.mark.parametrize("verb", ["plan", "validate"])
@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("sampling: {group_size: none}", "sampling.group_size"),
        ("no_such_section: 1", "unknown parameter no_such_section"),
        ("scale: enormous", "scale is 'enormous', but there is no"),
        ("verification: {rule: guess}", "verification.rule"),
        ("a: [", "not valid YAML"),
    ],
)
def test_a_mistake_in_params_is_named(project, capsys, verb, line, words):
    key = line.split(":")[0]
    kept, skipping = [], False
    for own in (project / "params.yaml").read_text().splitlines():
        skipping = own.startswith(f"{key}:") or (skipping and own.startswith((" ", "#")))
        kept += [] if skipping else [own]
    (project / "params.yaml").write_text("\n".join([*kept, line]) + "\n")
    _, err = assay(capsys, verb, "--root", str(project), code=2)
    assert err.startswith(f"error: {project / 'params.yaml'}: ") and words in err


@pytest.mark.parametrize("verb", ["plan", "validate"])
def test_a_folder_without_parameters(tmp_path, capsys, verb):
    _, err = assay(capsys, verb, "--root", str(tmp_path / "nowhere"), code=2)
    assert err == f"error: {tmp_path / 'nowhere' / 'params.yaml'}: no such file\n"


def test_show_prints_the_last_result_and_where_the_report_is(tmp_path, capsys):
    _, err = assay(capsys, "show", "--root", str(tmp_path), code=2)
    assert err == f"error: {tmp_path / 'data' / 'evaluate'}: no evaluation yet; run `dvc repro`\n"
    write_shard(tmp_path / "data" / "evaluate" / "evaluations.parquet", "evaluations", [
        {"iteration": k, "environment": "all", "split": "eval", "metric": "pass@1", "value": 0.25 * (k + 1),
         "low": 0.2 * (k + 1), "high": 0.3 * (k + 1), "n": 20}
        for k in range(2)
    ])  # fmt: skip
    out, _ = assay(capsys, "show", "--root", str(tmp_path))
    assert "held-out tasks (20)" in out and "0.25" in out and "0.50" in out
    assert out.splitlines()[-1] == f"report: {tmp_path / 'data' / 'evaluate' / 'report.html'}"


def test_a_policy_is_exported_with_its_card(tmp_path, capsys):
    policy, card, out = tmp_path / "models/2/policy", tmp_path / "data/evaluate/cards/policy-2.md", tmp_path / "out"
    root = ("--root", str(tmp_path))
    ask = ("export", "--policy", "2", "--output", str(out), *root)
    assert "no policy there; run `dvc repro`, or `dvc pull models/2`" in assay(capsys, *ask, code=2)[1]
    assert "`dvc pull models/fused/2`" in assay(capsys, *ask, "--fused", code=2)[1]
    policy.mkdir(parents=True)
    for name, text in (("config.json", "{}"), ("model.safetensors", "w"), ("README.md", "of the base")):
        (policy / name).write_text(text)
    assert "policy 2 has no card" in assay(capsys, *ask, code=2)[1]
    card.parent.mkdir(parents=True)
    card.write_text("ours")
    assert "choose rows" in assay(capsys, *ask, "--where", "true", code=2)[1] and not out.exists()
    assert assay(capsys, *ask)[0] == f"{out}: policy 2, with its card as README.md\n"
    assert {file.name: file.read_text() for file in out.iterdir()} == {"config.json": "{}", "model.safetensors": "w", "README.md": "ours"}
    assert "exists already" in assay(capsys, *ask, code=2)[1]
    assert "not allowed with" in assay(capsys, *ask, "--layout", "trl", code=2)[1]


def test_export_says_what_it_needs_and_writes_where_it_is_told(tmp_path, capsys):
    root = ("--root", str(tmp_path))
    assert "--layout" in assay(capsys, "export", "--output", "x", *root, code=2)[1]
    assert "invalid choice: 'csv'" in assay(capsys, "export", "--layout", "csv", "--output", "x", *root, code=2)[1]
    missing = assay(capsys, "export", "--layout", "trl", "--output", str(tmp_path / "x"), "--no-sync", *root, code=1)[1]
    assert "run `assay sync`" in missing
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"prompt": "2 + 2?", "completion": "4", "gold": "4"}) + "\n")
    assay(capsys, "import", str(rows), "--name", "own", *root)
    assay(capsys, "export", "--layout", "verl", "--output", str(tmp_path / "x"), *root, code=2)
    out, _ = assay(capsys, "export", "--layout", "verl", "--version", "imported/own", "--output", str(tmp_path / "x"), *root)
    assert out == f"{tmp_path / 'x' / 'eval.parquet'}: 1 rows\n"
    again = assay(capsys, "export", "--layout", "verl", "--version", "imported/own", "--output", str(tmp_path / "x"), *root, code=2)[1]
    assert "exists already" in again
    bad = assay(capsys, "export", "--layout", "trl", "--version", "nope", "--output", str(tmp_path / "y"), *root, code=2)[1]
    assert 'there is no version "nope"' in bad


def test_sync_rebuild_and_import_in_an_empty_folder(tmp_path, capsys):
    root = ("--root", str(tmp_path))
    assert "there is nothing to store yet" in assay(capsys, "sync", *root)[0]
    assert "there is nothing to store yet" in assay(capsys, "rebuild", *root)[0]
    assert "cannot be read" in assay(capsys, "import", str(tmp_path / "none.jsonl"), "--name", "x", *root, code=2)[1]
    (tmp_path / "f.jsonl").write_text("{}\n")
    named = ("import", str(tmp_path / "f.jsonl"), "--name")
    assert "expected KEY=OTHER" in assay(capsys, *named, "x", "--columns", "gold", *root, code=2)[1]
    (tmp_path / "f.jsonl").write_text('{"prompt": "2 + 2?", "completion": "4", "gold": "4"}\n')
    unknown = assay(capsys, *named, "x", "--verifier", "guess", *root, code=2)[1]
    assert "row 1, verifier: there is no 'guess'; there are math_verify" in unknown
    (tmp_path / "conf").symlink_to(HERE / "conf")
    (tmp_path / "guess.py").write_text("def guess(completions, **_):\n    return [1.0]\n")
    own = {"method": "grpo", "scale": "micro", "environment": "arithmetic", "iterations": [{"k": 0, "next": 1}], "last_policy": 1}
    own |= {"verification": {"functions": {"guess": {"path": "guess.py"}}}}
    (tmp_path / "params.yaml").write_text(json.dumps(own))
    assay(capsys, *named, "mine", "--verifier", "guess", *root)
    assert "cannot be a folder's" in assay(capsys, *named, "iteration=7", *root, code=2)[1]


@pytest.mark.parametrize(("number", "words"), [(errno.ENOSPC, "free some space"), (errno.EROFS, "that can be written")])
def test_what_the_disk_refuses_is_one_sentence(capsys, number, words):
    def refused():
        raise OSError(number, os.strerror(number), "data/x")

    assert speak(refused) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: data/x: {os.strerror(number)}; ") and words in said and said.count("\n") == 1
