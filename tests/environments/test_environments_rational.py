"""Rational arithmetic: golds agree with an independent evaluation of the question, demonstrations with the oracle."""

import ast
import re
from fractions import Fraction
from itertools import islice
from random import Random

import pytest
from pydantic import ValidationError

from assay.environments import ORACLES
from assay.environments.oracles import parse_rational
from assay.environments.rational import (
    FORMS,
    RationalEnvironment,
    canonical,
    decimal,
    demonstration,
    over_one,
    unreduced,
)
from assay.params.data import RationalArithmetic

FOUR = {"operations": ["+", "-", "*", "/"], "terms": (2, 5), "max_denominator": 12, "max_value": 20}


def tasks(split="train", number=500, seed=3, **params):
    environment = RationalEnvironment("rational", RationalArithmetic(**params), seed)
    return [candidate.task for candidate in islice(environment.candidates(split), number)]


def evaluate(question: str) -> Fraction:
    """By Python's own grammar and precedence, over exact fractions."""
    operations = {
        ast.Add: Fraction.__add__,
        ast.Sub: Fraction.__sub__,
        ast.Mult: Fraction.__mul__,
        ast.Div: Fraction.__truediv__,
    }

    def value(node):
        if isinstance(node, ast.BinOp):
            return operations[type(node.op)](value(node.left), value(node.right))
        return Fraction(ast.get_source_segment(text, node))

    text = question.removesuffix(" = ?")
    return value(ast.parse(text, mode="eval").body)


@pytest.mark.parametrize(
    "params", [{}, FOUR, {"max_denominator": 1}, {"operations": ["/"], "terms": (3, 3), "decimals": 1.0}]
)
def test_golds_are_the_value_of_the_question_in_lowest_terms(params):
    for task in tasks(**params):
        question = task.prompt[0]["content"]
        assert question.endswith(" = ?")
        assert task.gold == str(evaluate(question))
        assert task.verifier == "string_match"
        assert task.meta == {"oracle": "rational"}
        assert task.difficulty == len(re.findall(r"\d", question))


def test_operands_stay_within_the_parameters():
    decimals = fractions = 0
    for task in tasks(max_denominator=8, max_value=3, decimals=0.5, number=2000):
        operands = re.findall(r"\d+(?:\.\d+|/\d+)?", task.prompt[0]["content"])
        assert len(operands) == 2
        for operand in operands:
            assert 0 < Fraction(operand) <= 3
            assert Fraction(operand).denominator <= 8
            exact = decimal(Fraction(operand)) is not None and Fraction(operand).denominator > 1
            decimals += exact and "." in operand
            fractions += exact and "/" in operand
    assert 0.45 < decimals / (decimals + fractions) < 0.55


def test_share_of_whole_operands():
    questions = [t.prompt[0]["content"] for t in tasks(max_denominator=7, whole=0.5, number=2000)]
    operands = [Fraction(text) for q in questions for text in re.findall(r"\d+(?:\.\d+|/\d+)?", q)]
    # Numerators are multiples of the denominator now and then: of 7 denominators d, a share 1/d each.
    by_chance = sum(1 / d for d in range(1, 8)) / 7
    expected = 0.5 + 0.5 * by_chance
    assert abs(sum(value.denominator == 1 for value in operands) / len(operands) - expected) < 0.03


def test_ood_has_more_terms():
    assert {len(re.findall(r" [-+] ", t.prompt[0]["content"])) for t in tasks("ood", ood_terms=(3, 4))} == {2, 3}
    assert {task.split for task in tasks("ood")} == {"ood"}


def test_equal_seeds_give_equal_tasks_and_others_give_others():
    assert tasks(seed=5) == tasks(seed=5)
    assert not {t.task_id for t in tasks(seed=5, number=50)} >= {t.task_id for t in tasks(seed=6, number=50)}
    assert [t.prompt for t in tasks("train", number=20)] != [t.prompt for t in tasks("eval", number=20)]


def test_every_form_is_right_by_the_oracle():
    seen = {form.name: 0 for form in FORMS}
    for task in tasks(number=1500) + tasks(number=1500, **FOUR):
        question, answer = task.prompt[0]["content"], Fraction(task.gold)
        for form in FORMS:
            text = form.write(answer, question)
            if text is not None:
                seen[form.name] += 1
                assert ORACLES["rational"](text, task.gold, task.meta) is True
                assert form.name == "canonical" or text != task.gold
    assert min(seen.values()) > 100


def test_every_form_is_right_by_math_verify():
    from math_verify import parse, verify

    for task in tasks(number=40) + tasks(number=40, **FOUR):
        for form in FORMS:
            text = form.write(Fraction(task.gold), task.prompt[0]["content"])
            assert text is None or verify(parse(task.gold), parse(text)), (task.gold, text)


def test_forms():
    assert canonical(Fraction(-6, 8)) == "-3/4"
    assert [decimal(Fraction(text)) for text in ("3/4", "-1/8", "5", "0", "1/16", "-7/2")] == [
        "0.75", "-0.125", "5.0", "0.0", "0.0625", "-3.5",
    ]  # fmt: skip
    assert decimal(Fraction(1, 3)) is None
    assert decimal(Fraction(1, 32)) is None  # five places
    assert unreduced(Fraction(3, 4), "1/2 + 0.25 = ?") == "6/8"
    assert unreduced(Fraction(1), "1/2 + 1/2 = ?") == "4/4"
    assert unreduced(Fraction(5, 6), "1/2 + 1/3 = ?") is None
    assert unreduced(Fraction(5), "2 + 3 = ?") is None
    assert over_one(Fraction(-5), "") == "-5/1"
    assert over_one(Fraction(1, 2), "") is None


def test_forms_are_drawn_by_weight():
    random, question = Random(1), "1/2 + 0.25 = ?"  # has canonical, unreduced and decimal forms
    drawn = [demonstration(Fraction(3, 4), question, random) for _ in range(4000)]
    weights = {
        form.write(Fraction(3, 4), question): form.weight for form in FORMS if form.write(Fraction(3, 4), question)
    }
    assert set(drawn) == set(weights) == {"3/4", "6/8", "0.75"}
    for text, weight in weights.items():
        assert abs(drawn.count(text) / 4000 - weight / sum(weights.values())) < 0.03
    assert max(FORMS, key=lambda form: form.weight).name == "canonical"


@pytest.mark.parametrize(
    "params",
    [
        {"terms": (3, 2)},
        {"terms": (1, 2)},
        {"operations": []},
        {"operations": ["^"]},
        {"decimals": 1.5},
        {"denominators": 3},
    ],
)
def test_parameters_out_of_range_are_refused(params):
    with pytest.raises(ValidationError):
        RationalArithmetic(**params)


def test_the_oracle_reads_every_gold():
    assert all(parse_rational(task.gold) == Fraction(task.gold) for task in tasks(**FOUR))
