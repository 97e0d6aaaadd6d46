"""Real generators of the installed reasoning-gym: those that can be used, and those that must be refused, and why."""

import json
import sys
from fractions import Fraction
from itertools import islice
from types import ModuleType

import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.environments import Task, TaskError
from assay.environments.reasoning_gym import ReasoningGymEnvironment, decode, encode, make_dataset, score
from assay.environments.reasoning_gym_answers import disarm, read_formula, read_value
from assay.environments.reasoning_gym_probe import find_problem, find_problems, refuse_unusable
from assay.params.data import ReasoningGym

SMALL = {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 2}
USABLE = ["chain_sum", "gsm_symbolic", "coin_flip"]
REFUSED = {
    "propositional_logic": "has no gold",
    "rush_hour": "has no gold",
    "list_functions": "not repeatable",  # not even with PYTHONHASHSEED fixed
    "ransom_note": "not repeatable",  # across PYTHONHASHSEED
    "game_of_life_halting": "accepts rubbish",
    "prime_factorization": "its scorer raises ValueError on the wrong answer '-' of task 0",
}


def test_generators_are_refused_by_test():
    names = [*USABLE, *REFUSED]
    problems = dict(zip(names, find_problems([(f"environments.{n}", n, {}) for n in names]), strict=True))
    assert {name: problems[name] for name in USABLE} == dict.fromkeys(USABLE)
    for name, reason in REFUSED.items():
        assert reason in (problems[name] or "no problem was found"), (name, problems[name])


def test_the_error_names_environment_generator_and_reason():
    expected = (
        r"environments.x: reasoning-gym generator chain_sum cannot be used: its test \(64 tasks\) was ended after"
    )
    with pytest.raises(TaskError, match=expected):
        refuse_unusable([("environments.x", "chain_sum", SMALL)], timeout=0.2)


@pytest.mark.parametrize(
    ("generator", "config", "message"),
    [
        ("chain_sums", {}, "no generator 'chain_sums'; did you mean chain_sum"),
        ("qqqq", {}, "no generator 'qqqq'; known are ab, "),
        ("chain_sum", {"max_term": 3}, "chain_sum does not accept the configuration"),
        ("chain_sum", {"min_terms": 0}, "chain_sum does not accept the configuration"),
        ("chain_sum", {"seed": 3}, "seed cannot be configured"),
    ],
)
def test_mistakes_in_the_configuration(generator, config, message):
    with pytest.raises(TaskError, match=message):
        make_dataset(generator, config, 0, 1)


@pytest.mark.parametrize("generator", ["chain_sum", "gsm_symbolic", "rearc", "countdown", "n_queens"])
def test_a_stored_task_is_scored_as_the_generator_scores_it(generator):
    environment = ReasoningGymEnvironment("x", ReasoningGym(generator=generator), 1)
    dataset = None
    for candidate in islice(environment.candidates("train"), 12):
        task = Task.from_row(json.loads(json.dumps(candidate.task.to_row())))
        assert task.verifier == "reasoning_gym"
        assert score(task.gold, task.gold, task.meta) == 1.0
        assert environment.demonstration(task, None) == task.gold
        dataset = dataset or make_dataset(generator, {}, 0, 1)
        entry = {"answer": task.gold, "metadata": decode(task.meta["entry_metadata"])}
        for answer in ("", "zzz", "5", f"{task.gold} or so"):
            value = score(answer, task.gold, task.meta)
            assert value == dataset.score_answer(answer, entry)
            assert value < 1.0 or answer.startswith(task.gold) or answer == "5"


def test_splits_and_seeds_differ_and_repeat():
    def prompts(split, seed=1, **more):
        environment = ReasoningGymEnvironment("x", ReasoningGym(generator="chain_sum", config=SMALL, **more), seed)
        return [(c.task.prompt_key, c.task.split) for c in islice(environment.candidates(split), 1500)]

    assert prompts("train") == prompts("train")
    assert len({*prompts("train")[:50], *prompts("train", seed=2)[:50], *prompts("demonstration")[:50]}) > 100
    longer = {"ood_config": {"min_terms": 3, "max_terms": 3}}
    assert all(key.count("+") + key.count(" - ") == 2 and split == "ood" for key, split in prompts("ood", **longer))
    assert not ReasoningGymEnvironment("x", ReasoningGym(generator="chain_sum"), 1).has("ood")
    assert ReasoningGymEnvironment("x", ReasoningGym(generator="chain_sum", **longer), 1).has("ood")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"answer": None}, "has no gold: the answer of task 1 is None"),
        ({"answer": " "}, "has no gold"),
        ({"answer": 5}, "has no gold"),
        ({"metadata": {"expression": {1, 2}}}, "cannot be stored: metadata of task 1: set"),
    ],
)
def test_single_bad_entries_are_found(changes, reason):
    dataset = make_dataset("chain_sum", SMALL, 0, 4)
    entries = [dataset[index] for index in range(4)]
    assert find_problem("chain_sum", SMALL, entries) is None
    entries[1] = entries[1] | changes
    assert reason in find_problem("chain_sum", SMALL, entries)


def test_a_gold_that_its_own_scorer_refuses_is_found():
    dataset = make_dataset("countdown", {}, 0, 4)
    entries = [dataset[index] for index in range(4)]
    assert find_problem("countdown", {}, entries) is None
    entries[2] = entries[2] | {"answer": "1 + 1"}
    assert "not 1, to its own gold '1 + 1' of task 2" in find_problem("countdown", {}, entries)


def test_no_answer_is_executed(tmp_path):
    """Of every generator whose scorer evaluates answers: neither code nor a formula that calls something."""
    for generator in ("countdown", "polynomial_multiplication", "simple_integration", "n_queens", "spiral_matrix", "binary_matrix"):
        task = next(ReasoningGymEnvironment("x", ReasoningGym(generator=generator), 1).candidates("train")).task
        made = tmp_path / generator
        call = f"__import__('os').mkdir({str(made)!r})"
        for answer in (call, f"[{call}]", f"exec({call!r})", f"(lambda: {call})()", f"[{call} for x in [1]]", f"x.func({call!r})"):
            assert score(answer, task.gold, task.meta) < 1.0
            assert not made.exists(), answer
        assert score(task.gold, task.gold, task.meta) == 1.0


@pytest.mark.parametrize("answer", [
    "len('3 4 5')+2", "12.0", "3 + 4 + 5 # 1", "max(3, 4) + 8", "3+4+5 if 1 else 0", "3 + 4.5", "(3, 4, 5)", "x", "1_2",
])  # fmt: skip
def test_arithmetic_with_given_numbers_is_nothing_else(answer):
    entry = encode({"numbers": [3, 4, 5], "target": 12})
    meta = {"generator": "countdown", "config": {}, "entry_metadata": entry}
    assert score(answer, "3+4+5", meta) < 1.0
    assert score(" (3 + 4) + 5\n", "3+4+5", meta) == 1.0


@pytest.mark.parametrize(("text", "value"), [("[[1, -2], 'a']", [[1, -2], "a"]), (" (0x1f - 2) << 3", 232), ("{1: 2}", {1: 2})])
def test_values_are_read(text, value):
    assert read_value(text) == value


@pytest.mark.parametrize("text", ["x", "[].append(1)", "f''", "[1][0]", "lambda: 1", "[i for i in ()]", "(1).real", "1 if 1 else 2"])
def test_all_else_is_no_value(text):
    with pytest.raises(ValueError, match="no value"):
        read_value(text)


@pytest.mark.parametrize("text", ["x.subs", "x[0]", "f('a')", "x if x else y", "a_b", "lambda", "x=1", "x; y", "{x}", "1 .real"])
def test_what_is_no_formula_is_not_evaluated(text):
    with pytest.raises(ValueError, match="formula"):
        read_formula(text)


def test_a_formula_knows_functions_and_variables_and_calls_nothing_else():
    found = read_formula("exp(2*x)*ln(k)/3 + C + exec(x) + open(y) + eval + 3!")
    assert {str(one) for one in found.free_symbols} == {"x", "k", "C", "y", "eval"}
    assert {str(one.func) for one in found.atoms(sympy.Function)} == {"exp", "log", "exec", "open"}


def test_a_scorer_that_executes_in_another_way_is_refused(monkeypatch):
    source = (
        "class Data:\n    def score_answer(self, answer, entry):\n        return helper(answer)\n"
        "def helper(answer):\n    return exec(answer)\n"
    )
    module = ModuleType("reasoning_gym.executes")
    exec(source, module.__dict__)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    with pytest.raises(TaskError, match=r"generator executes: its scorer may execute an answer \(exec\)"):
        disarm("executes", module.Data)


leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.fractions()
keys = st.text() | st.integers() | st.tuples(st.integers(), st.integers())


@settings(deadline=None, max_examples=50)
@given(st.recursive(leaves, lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(keys, inner)))
def test_metadata_survive_json(value):
    back = decode(json.loads(json.dumps(encode(value))))
    assert back == value
    assert repr(back) == repr(value)


def test_metadata_that_json_cannot_hold_are_refused():
    assert encode({"a": (1, Fraction(3, 4))}) == {"a": {"@tuple": [1, {"@fraction": "3/4"}]}}
    with pytest.raises(TypeError, match="set cannot be stored as JSON"):
        encode([{1, 2}])


def test_an_entry_that_fails_later_than_the_probe_names_generator_seed_and_entry(monkeypatch):
    class Fails:
        def __getitem__(self, index):
            raise KeyError("digits")

    monkeypatch.setattr("assay.environments.reasoning_gym.make_dataset", lambda *arguments: Fails())
    with pytest.raises(TaskError, match=r"environments\.x: chain_sum \(seed \d+, entry 0\): the generator fails \(KeyError"):
        next(ReasoningGymEnvironment("x", ReasoningGym(generator="chain_sum"), 1).candidates("train"))
