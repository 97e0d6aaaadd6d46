"""The rational oracle reads every usual way of writing a number, exactly, and nothing else."""

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.environments import ORACLES, OracleError
from assay.environments.oracles import MAX_CHARACTERS, parse_rational

numbers = st.fractions(max_denominator=2000).filter(lambda value: abs(value) < 10**12)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", "5"), ("-2", "-2"), ("+5", "5"), ("- 2", "-2"), ("007", "7"), ("-0", "0"), ("1,234", "1234"),
        ("1,234,567.5", "2469135/2"), ("0.75", "3/4"), (".75", "3/4"), ("5.", "5"), ("5.0", "5"), ("-.5", "-1/2"),
        ("6/8", "3/4"), (" 3 / 4 ", "3/4"), ("-3/4", "-3/4"), ("3/-4", "-3/4"), ("(-3)/4", "-3/4"),
        ("(-3)/(4)", "-3/4"),
        ("1.5/2", "3/4"), ("0/5", "0"), ("(3/4)", "3/4"), ("3/4.", "3/4"), ("{3/4}", "3/4"),
        ("1 3/4", "7/4"), ("-1 3/4", "-7/4"), ("1 1/2.", "3/2"),
        ("75%", "3/4"), ("75 %", "3/4"), (r"75\%", "3/4"), ("-12.5%", "-1/8"),
        (r"\frac{6}{8}", "3/4"), (r"\dfrac34", "3/4"), (r"-\tfrac{3}{4}", "-3/4"), (r"\frac{-3}{4}", "-3/4"),
        (r"1\frac{3}{4}", "7/4"), (r"-1\frac{3}{4}", "-7/4"), (r"\frac 3 4", "3/4"), (r"$\frac{3}{4}$.", "3/4"),
        (r"$$0.75$$", "3/4"), (r"\(3/4\)", "3/4"), (r"\[ \frac{3}{4} \]", "3/4"), (r"$75\%$", "3/4"),
        ("\u22123/4", "-3/4"), ("3\u20444", "3/4"), ("x = 3/4", "3/4"), ("1/2 + 0.25 = 3/4", "3/4"),
        (r"x_1 = \frac{3}{4}", "3/4"), (r"\theta = 0.75", "3/4"), ("x = 1/2 + 1/4 = 3/4", "3/4"), ("0.75 = 3/4", "3/4"),
        ("= 3/4", "3/4"), (r"\frac12 + \frac14 = 3/4", "3/4"),
    ],
)  # fmt: skip
def test_read(text, value):
    assert parse_rational(text) == Fraction(value)


@pytest.mark.parametrize(
    "text",
    [
        "", " ", ".", "-", "+", "/", "%", "=", "$$", "abc", "three quarters", "3/4/5", "1/0", "0/0", r"\frac{1}{0}",
        "--3", "+-3", "1 2", "1,23", "12,34", "1,2345", "1e3", "0.333...", "0.(3)", "1/2 + 1/4", "2*3", "2^3", "3!",
        "1 -3/4", r"1\frac{-3}{4}", "3 apples", "inf", "nan", "0x10", "1_000", "\u0663", "\u00bd", "3/4 = ?",
        "3/4 or 5", "((3)/4", "1.2.3", r"\frac{1}{2", r"\sqrt{4}",
        "x != 3/4", "x >= 3/4", "x <= 3/4", "5 = 3/4", "I do not know = 3/4", "x := 3/4", "3/4 =", "1 = 2 = 3/4",
        "9" * (MAX_CHARACTERS + 1), "(" * 150, "1/" * 90, "__import__('os')",
    ],
)  # fmt: skip
def test_not_read(text):
    assert parse_rational(text) is None


@settings(deadline=None, max_examples=100)
@given(numbers, st.integers(1, 50), st.sampled_from(["", " ", "$", "("]), st.booleans())
def test_any_fraction_however_written(value, factor, around, spaced):
    slash = " / " if spaced else "/"
    text = f"{value.numerator * factor}{slash}{value.denominator * factor}"
    right = {"(": ")"}.get(around, around)
    assert parse_rational(f"{around}{text}{right}") == value
    sign = "-" if value < 0 else ""
    assert parse_rational(rf"{sign}\frac{{{abs(value.numerator)}}}{{{value.denominator}}}") == value
    whole, rest = divmod(abs(value.numerator), value.denominator)
    assert parse_rational(f"{sign}{whole} {rest}/{value.denominator}") == value


@settings(deadline=None, max_examples=100)
@given(st.integers(-(10**9), 10**9), st.integers(0, 12))
def test_any_decimal_exactly(digits, places):
    value = Fraction(digits, 10**places)
    text = f"{abs(digits):0{places + 1}d}"
    text = f"{'-' if digits < 0 else ''}{text[: len(text) - places]}.{text[len(text) - places :]}"
    assert parse_rational(text) == value
    assert parse_rational(text + "0") == value
    assert parse_rational(text + "%") == value / 100


@settings(deadline=None, max_examples=100)
@given(st.text(max_size=40))
def test_any_text_is_read_or_not_but_never_fails(text):
    value = parse_rational(text)
    assert value is None or isinstance(value, Fraction)


@settings(deadline=None, max_examples=100)
@given(st.text(alphabet="0123456789/.,-+ %$(){}\\frac=", max_size=60))
def test_texts_of_the_right_letters_never_fail(text):
    value = parse_rational(text)
    assert value is None or isinstance(value, Fraction)


@settings(deadline=None, max_examples=100)
@given(numbers, numbers)
def test_the_verdict_is_equality(answer, gold):
    assert ORACLES["rational"](str(answer), str(gold), {}) is (answer == gold)


def test_verdicts():
    rational = ORACLES["rational"]
    assert rational("6/8", "3/4", {}) is True
    assert rational("0.7500000001", "3/4", {}) is False
    assert rational("0.3333333333333333", "1/3", {}) is False
    assert rational("I do not know", "3/4", {}) is None
    with pytest.raises(OracleError, match="gold 'three' is not a rational number"):
        rational("3", "three", {})
