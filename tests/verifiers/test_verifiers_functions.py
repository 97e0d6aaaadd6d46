"""Reward functions of the user as verifiers: TRL's convention, three-valued verdicts, and nothing of them in our process."""

import json
import os
import sys
from pathlib import Path

import psutil
import pyarrow as pa
import pytest
import yaml

from assay.environments import Task, generate
from assay.params import ParameterError, Params, load_params, read_stage_view, write_stage_views
from assay.params.functions import RewardFunction
from assay.params.verification import VerificationParams
from assay.trajectories import schema
from assay.verifiers import Judge, VerifierError, verify_trajectories
from assay.verifiers.cascade import resolve
from assay.verifiers.spec import spec_of

ROOT = Path(__file__).parents[2]
NAMES = ("trajectory_id", "iteration", "round", "task_id", "kind", "text")


def params(source: str, name: str = "score", timeout: float = 5.0, **more) -> VerificationParams:
    """The function as the rule, and no other role."""
    functions = {"own": RewardFunction(name=name, source=source, **more)}
    return VerificationParams(functions=functions, rule="own", reference="none", oracle=False, timeout=timeout, memory_mib=256)


def task(gold: str = "5", prompt="What is 2 + 3?", meta: dict | None = None) -> Task:
    return Task.create("own", "train", prompt, gold, "string_match", meta)


def verdicts(options: VerificationParams, *texts: str, of: Task | None = None, **more) -> list[dict]:
    """Rows of the rule for completions of one task."""
    one = of or task()
    rows = [dict(zip(NAMES, (f"t{n}", 0, 0, one.task_id, "solution", text), strict=True)) for n, text in enumerate(texts)]
    table = pa.Table.from_pylist(rows, pa.schema([schema("trajectories").field(name) for name in NAMES]))
    return verify_trajectories({one.task_id: one}, table, options, 2, **more).to_pylist()


SCORES = """
import itertools
def score(completions, **kwargs):
    said = completions[0]
    if said == "raise":
        raise KeyError("no such thing")
    return {
        "one": [1.0], "more": [7], "less": [0.25], "below": [-1], "none": [None], "nan": [float("nan")], "inf": [float("inf")],
        "two": [1, 1], "zero": [], "text": ["1.0"], "bare": 1.0, "string": "1", "true": [True], "tuple": (1.0,), "dict": {"score": 1},
        "nothing": None, "endless": itertools.count(),
    }[said]
"""


def test_scores_become_verdicts_and_what_is_no_score_an_abstention():
    said = {
        "one": ("correct", "equal", 1.0), "more": ("correct", "equal", 7.0), "true": ("correct", "equal", 1.0),
        "tuple": ("correct", "equal", 1.0), "less": ("wrong", "different", 0.25), "below": ("wrong", "different", -1.0),
        "none": ("abstain", "not_applicable", None),
        **dict.fromkeys(
            ("raise", "nan", "inf", "two", "zero", "text", "bare", "string", "dict", "nothing", "endless"), ("abstain", "error", None)
        ),
    }  # fmt: skip
    rows = verdicts(params(SCORES), *said)
    assert {text: (row["verdict"], row["reason"], row["score"]) for text, row in zip(said, rows, strict=True)} == said
    why = {text: json.loads(row["components"])["error"] for text, row in zip(said, rows, strict=True) if row["reason"] == "error"}
    assert why["raise"] == "KeyError: 'no such thing'"
    assert why["two"] == "ValueError: it returned 2 scores for one completion"
    assert why["endless"] == "ValueError: it returned 1000 or more scores for one completion"
    assert why["nan"] == "ValueError: its score is nan, expected a finite number, or None where it does not apply"
    assert why["bare"] == "TypeError: it returned float, expected a list with one number for the one completion"
    assert why["text"] == "TypeError: its score is str, expected a number or None"
    assert [row["observed_reward"] for row in rows] == [{"correct": 1.0, "wrong": 0.0, "abstain": None}[row["verdict"]] for row in rows]
    assert {row["verifier"] for row in rows} == {"own"}


def test_the_least_score_of_a_right_answer_is_a_parameter():
    rows = verdicts(params(SCORES, correct_at=0.25), "one", "less", "below")
    assert [row["verdict"] for row in rows] == ["correct", "correct", "wrong"]


@pytest.mark.parametrize(("form", "prompts", "completions"), [
    ("text", ["Be brief.\n\nWhat is 2 + 3?"], ["it is 5"]),
    ("messages", [[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is 2 + 3?"}]],
     [[{"role": "assistant", "content": "it is 5"}]]),
])  # fmt: skip
def test_a_function_gets_what_trl_passes(form, prompts, completions):
    own = task(prompt=[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is 2 + 3?"}],
               meta={"level": 3, "solution": "2 + 3 = 5", "gold": "not this"})  # fmt: skip
    wanted = {
        "prompts": prompts, "completions": completions, "gold": ["5"], "answer": ["5"], "ground_truth": ["5"],
        "solution": ["2 + 3 = 5"], "level": [3],
    }  # fmt: skip
    source = (
        f"WANTED = {wanted!r}\n"
        "def score(prompts, completions, **kwargs):\n"
        "    kwargs.pop('log_metric')('name', 1.0)\n    kwargs.pop('log_extra')('column', ['x'])\n"
        "    given = {'prompts': prompts, 'completions': completions, **kwargs}\n"
        "    assert given == WANTED, given\n    return [1.0]\n"
    )
    (row,) = verdicts(params(source, format=form), "it is 5", of=own)
    assert (row["verdict"], row["components"]) == ("correct", None)
    (row,) = verdicts(params("def score(completions, level):\n    return [level[0] / 3]", format=form), "it is 5", of=own)
    assert row["verdict"] == "correct", "a function that names what it takes gets only that"


def test_a_function_gets_the_columns_of_a_dataset(tmp_path):
    row = {"prompt": "Double it.", "gold": "4", "test_cases": [[1, 2], [2, 4]], "solution": "def double(x): ...", "prompts": "not this"}
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(row | {"prompt": f"Double it, {i}."}) + "\n" for i in range(4)))
    sizes = {"train": 2, "eval": 1, "ood": 0, "demonstrations": 0}
    made = generate(Params(environments={"own": {"type": "dataset", "path": "own.jsonl"}}, tasks=sizes), tmp_path)
    source = (
        "def score(completions, answer, test_cases, **kwargs):\n"
        "    wanted = (['4'], [[[1, 2], [2, 4]]], ['def double(x): ...'], False)\n"
        "    assert (answer, test_cases, kwargs['solution'], 'columns' in kwargs) == wanted\n"
        "    assert kwargs['prompts'][0].startswith('Double it, ')\n    return [1.0]\n"
    )
    (found,) = verdicts(params(source), "8", of=made.tasks[0])
    assert (found["verdict"], found["components"]) == ("correct", None)


def test_the_whole_completion_is_read_whatever_its_length():
    source = "def score(completions, **kwargs):\n    return [float(len(completions[0]) == 50_000 and completions[0][:3] == 'and')]"
    text = "and so on " * 4_999 + "answer: 5\n"
    (row,) = verdicts(params(source), text)
    assert len(text) == 50_000
    assert (row["verdict"], row["answer"], row["answer_format"]) == ("correct", "5", "integer")


def test_equal_completions_of_one_question_are_scored_once_and_of_another_again():
    options, seen = params("def score(prompts, completions, **kwargs):\n    return [float('2 + 3' in prompts[0])]"), []
    rows = verdicts(options, *["5"] * 20, "6", progress=lambda *count: seen.append(count))
    assert seen == [(1, 2), (2, 2)] and {row["verdict"] for row in rows} == {"correct"}
    (row,) = verdicts(options, "5", of=task(prompt="What is 1 + 4?"))
    assert row["verdict"] == "wrong"


def test_the_file_is_executed_in_workers_alone(tmp_path):
    before = set(sys.modules)
    source = f"import os\nOURS = {os.getpid()}\nassert os.getpid() != OURS\ndef score(completions, **kwargs):\n    return [1.0]"
    assert verdicts(params(source), "x")[0]["verdict"] == "correct"
    assert not [name for name in set(sys.modules) - before if "reward_functions" in name]


HOSTILE = """
import ctypes, os, socket, subprocess, sys, threading, time

def score(completions, answer, **kwargs):
    said = completions[0]
    if said == "exit":
        os._exit(0)
    if said == "leave":
        sys.exit(0)
    if said == "segfault":
        ctypes.string_at(0)
    if said == "eat":
        hoard = [bytearray(8 << 20) for _ in range(10_000)]
    if said == "hang":
        time.sleep(600)
    if said == "abort":
        os.abort()
    if said == "network":
        socket.create_connection(("127.0.0.1", 9), timeout=1)
    if said == "write":
        with open(FILE, "w") as stream:
            stream.write("x" * 100_000)
    if said == "parent":
        os.kill(os.getppid(), 9)
    if said == "everyone":
        os.kill(-1, 0)
    if said == "forks":
        for _ in range(100):
            subprocess.Popen(["sleep", "86427"])
        time.sleep(600)
    if said == "thread":
        threading.Thread(target=lambda: time.sleep(600)).start()
    if said == "orphan":
        subprocess.Popen(["sleep", "86427"], start_new_session=True)
    return [float(said.strip() == answer[0])]
"""
REASONS = {
    "exit": "crash", "leave": "error", "segfault": "crash", "eat": "memory", "hang": "timeout", "abort": "crash",
    "network": "error", "write": "error", "parent": "error", "everyone": "error", "forks": "crash",
    "thread": "different", "orphan": "different",
}  # fmt: skip


@pytest.mark.timeout(120)
def test_a_function_that_does_harm_costs_its_own_verdict_and_nobody_else_s(tmp_path):
    file = tmp_path / "written"
    before = set(psutil.Process().children(recursive=True))
    texts = [text for number, kind in enumerate(REASONS) for text in (kind, "5" + " " * number, "6" + " " * number)]
    rows = verdicts(params(HOSTILE.replace("FILE", repr(str(file))), timeout=1.5), *texts)
    assert [row["verdict"] for row in rows[1::3]] == ["correct"] * len(REASONS)
    assert [row["verdict"] for row in rows[2::3]] == ["wrong"] * len(REASONS)
    assert {kind: row["reason"] for kind, row in zip(REASONS, rows[::3], strict=True)} == REASONS
    assert set(psutil.Process().children(recursive=True)) <= before
    assert not [p for p in psutil.process_iter(["cmdline"]) if p.info["cmdline"] == ["sleep", "86427"]]
    assert not file.exists() or file.stat().st_size == 0


def test_a_changed_file_or_threshold_is_another_version():
    versions = set()
    for source, more in (("a = 1\ndef score(**k):\n    return [1]", {}), ("a = 2\ndef score(**k):\n    return [1]", {})):
        for options in (params(source, **more), params(source, correct_at=0.5), params(source, format="messages")):
            versions.add(spec_of(resolve("own", options)).version)
    assert len(versions) == 6


def test_what_the_file_imports_is_loaded_once_and_not_by_every_worker():
    options = params("import json\nfrom fractions import Fraction as F\nif True:\n    import ast\ndef score(**k):\n    return [F(1)]")
    assert spec_of(resolve("own", options)).preload == ("json", "fractions")
    assert verdicts(options, "x")[0]["score"] == 1.0


def test_golds_need_a_verdict_and_no_particular_one():
    strict = "def score(completions, **kwargs):\n    return [float('boxed' in completions[0])]"
    failing = "def score(completions, **kwargs):\n    return [1 / 0]"
    with Judge(params(strict)) as judge:
        assert judge.gold_problem(task()) is None
        assert judge.verdict(task(), r"\boxed{5}").verdict == "correct"
    with Judge(params(failing)) as judge:
        assert judge.gold_problem(task()) == "own fails on it (error: ZeroDivisionError: division by zero)"


def project(tmp_path: Path, source: str | None, verification: dict) -> Path:
    """A project folder with a file my_rewards.py."""
    (tmp_path / "conf").symlink_to(ROOT / "conf")
    own = yaml.safe_load((ROOT / "params.yaml").read_text())
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(own | {"verification": verification}))
    if source is not None:
        (tmp_path / "my_rewards.py").write_text(source)
    return tmp_path


MINE = {"functions": {"mine": {"path": "my_rewards.py", "name": "score"}}, "rule": "mine"}


def test_configure_puts_the_file_into_the_parameters_of_the_stages_that_verify(tmp_path):
    root = project(tmp_path, "def score(**kwargs):\n    return [1.0]\n", MINE)
    contents = []
    for extra in ("", "# another\n"):
        with (root / "my_rewards.py").open("a") as stream:
            stream.write(extra)
        write_stage_views(load_params(root), tmp_path / f"views{extra[:1]}")
        contents.append({file.stem: file.read_text() for file in (tmp_path / f"views{extra[:1]}").iterdir()})
    changed = {stage for stage in contents[0] if contents[0][stage] != contents[1][stage]}
    assert changed == {"generate", "presample", "verify", "filter", "train", "finish", "evaluate"}
    options = read_stage_view(tmp_path / "views" / "verify.json").verification
    assert options.functions["mine"].path is None
    assert options.functions["mine"].source == "def score(**kwargs):\n    return [1.0]\n"
    (tmp_path / "my_rewards.py").unlink()
    assert verdicts(options.model_copy(update={"reference": "none", "oracle": False}), "x")[0]["verdict"] == "correct"


def test_the_example_of_the_project_loads_and_scores(tmp_path):
    root = project(tmp_path, None, {"functions": {"boxed": {"path": "conf/functions/boxed.py"}}, "rule": "boxed", "reference": "boxed"})
    options = load_params(root).verification.model_copy(update={"oracle": False})
    rows = verdicts(options, r"so \boxed{5}", r"\boxed{6}", "5")
    assert [(row["role"], row["verdict"], round(row["score"], 3)) for row in rows] == [
        (role, verdict, score) for role in ("rule", "reference") for verdict, score in (("correct", 1), ("wrong", 0.1), ("wrong", 0))
    ]  # fmt: skip


@pytest.mark.parametrize(("source", "verification", "said"), [
    (None, MINE, "functions.mine.path is 'my_rewards.py', which cannot be read (No such file or directory)"),
    ("def other():\n    pass", MINE, "functions.mine.name is 'score', but my_rewards.py has no such function; its functions: other"),
    ("def score(:\n", MINE, "functions.mine.path is 'my_rewards.py', line 1: invalid syntax"),
    ("async def score():\n    pass", MINE, "functions.mine.name is 'score', which is asynchronous in my_rewards.py"),
    ("import no_such_module\ndef score():\n    pass", MINE, "functions.mine.path is 'my_rewards.py', which imports no_such_module"),
    ("score = 1", {"functions": {"numeric": {"path": "my_rewards.py"}}}, "functions is"),
    ("score = 1", {"functions": {"mine": {}}}, "functions.mine.path is missing"),
    ("score = 1", {"functions": {"mine": {"path": "my_rewards.py", "source": "x"}}}, "functions.mine.source is filled in by `configure`"),
    ("score = 1", {"functions": {"mine": {"path": "my_rewards.py", "at": 1}}}, "unknown parameter verification.functions.mine.at"),
    ("score = 1", MINE | {"rule": "guess"}, "verification.rule is 'guess': expected one of task, string_match, numeric, math_verify, "
     "reasoning_gym, sql_execution, protocol_score, tool_use, mine"),
    ("score = 1", MINE | {"reference": "guess"}, "verification.reference is 'guess': expected one of task, string_match, numeric, "
     "math_verify, reasoning_gym, sql_execution, protocol_score, tool_use, none, mine"),
])  # fmt: skip
def test_mistakes_are_one_sentence_that_names_file_and_key(tmp_path, source, verification, said):
    root = project(tmp_path, source, verification)
    with pytest.raises(ParameterError) as caught:
        load_params(root)
    assert str(caught.value).startswith(f"{root / 'params.yaml'}: ")
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_parameters_that_were_not_read_by_configure_are_refused():
    options = VerificationParams(functions={"own": RewardFunction(path="x.py")}, rule="own")
    with pytest.raises(VerifierError, match=r"functions\.own has no source"):
        verdicts(options, "x")
