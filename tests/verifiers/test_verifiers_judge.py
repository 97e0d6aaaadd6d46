"""Golds are checked before anything is spent on them; single texts are judged without a table."""

import psutil
import pytest

from assay.environments import Task
from assay.params.verification import VerificationParams
from assay.verifiers import Judge, Verdict, check_gold, is_correct

PARAMS = VerificationParams()


def task(gold: str, verifier: str = "string_match", meta: dict | None = None) -> Task:
    return Task.create("own", "train", "?", gold, verifier, meta)


@pytest.fixture(scope="module")
def judge():
    with Judge(PARAMS.model_copy(update={"timeout": 3.0})) as judge:
        yield judge


@pytest.mark.parametrize(
    ("gold", "verifier"),
    [
        ("cat", "string_match"),
        ("1/2", "numeric"),
        ("50%", "numeric"),
        ("1/2", "math_verify"),
        (r"2\sqrt{3}", "math_verify"),
        (r"\text{cat}", "math_verify"),
        ("x^2+1", "math_verify"),
        (r"\boxed{5}", "math_verify"),
    ],
)
def test_sound_golds(judge, gold, verifier):
    assert judge.gold_problem(task(gold, verifier)) is None


@pytest.mark.parametrize(
    ("gold", "verifier", "problem"),
    [
        ("cat", "numeric", "numeric cannot read it"),
        ("1/0", "numeric", "numeric cannot read it"),
        ("cat", "math_verify", "math_verify cannot read it"),
        (r"\frac{1}{", "math_verify", "math_verify cannot read it"),
        ("see the figure", "math_verify", "math_verify cannot read it"),
        ("9" * 5000, "string_match", "longer than verification.max_answer_characters"),
        ("((((((((((((((((((1))))))))))))))))))", "math_verify", "fails on it (too_complex)"),
    ],
)
def test_unsound_golds(judge, gold, verifier, problem):
    assert problem in judge.gold_problem(task(gold, verifier))


def test_the_rule_of_the_parameters_counts():
    assert check_gold(task("cat"), PARAMS) is None
    assert check_gold(task("cat"), VerificationParams(rule="numeric")) == "numeric cannot read it"


def test_a_scorer_must_accept_its_own_gold():
    meta = {"generator": "leg_counting", "config": {}, "entry_metadata": {}}
    with Judge(PARAMS) as judge:
        assert judge.gold_problem(task("10", "reasoning_gym", meta)) is None
        assert "fails on it (error" in judge.gold_problem(
            task("1", "reasoning_gym", meta | {"entry_metadata": 7, "generator": "no"})
        )


def test_single_verdicts(judge):
    assert judge.verdict(task("1/2"), r"so \boxed{1/2}") == Verdict("correct", "equal", 1.0, "1/2", "fraction")
    assert judge.verdict(task("1/2"), "0.5").verdict == "wrong"
    assert judge.verdict(task("1/2"), "0.5", "math_verify").verdict == "correct"
    assert judge.verdict(task("3", "math_verify"), r"\int_0^1 e^{x^x} \sin(x^x) dx").reason == "timeout"


def test_is_correct_asks_the_oracle_where_there_is_one():
    assert not is_correct(task("1/2"), "0.5")
    assert is_correct(task("1/2", meta={"oracle": "rational"}), "0.5")
    assert not is_correct(task("1/2", meta={"oracle": "rational"}), "0.6")
    assert not is_correct(task("1/2", meta={"oracle": "rational"}), "nonsense")


def test_nothing_is_left_and_nothing_is_started_without_need():
    before = set(psutil.Process().children(recursive=True))
    with Judge() as judge:
        assert judge.is_correct(task("1/2", meta={"oracle": "rational"}), "3/6")
        assert judge.gold_problem(task("1/2", "math_verify")) is None
        assert set(psutil.Process().children(recursive=True)) == before
        assert judge.gold_problem(task(r"\sqrt{2}", "math_verify")) is None
        assert set(psutil.Process().children(recursive=True)) > before
    assert set(psutil.Process().children(recursive=True)) == before
