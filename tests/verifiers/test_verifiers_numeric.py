"""The numeric step never decides otherwise than math-verify, in either direction and however math-verify is asked."""

import itertools
from fractions import Fraction
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.verifiers import math_verify, numeric

SAME = settings(max_examples=120, deadline=None, derandomize=True)


@cache
def readings(text: str) -> tuple[list, ...]:
    """A text as it stands, as a formula, and boxed."""
    from math_verify import parse

    return tuple(parse(form, parsing_timeout=None) for form in (text, f"${text}$", rf"\boxed{{{text}}}"))


def everybody(gold: str, answer: str) -> set[bool]:
    """What math-verify says, asked in each way, and with the two ways that people mix."""
    from math_verify import verify

    golds, answers = readings(gold), readings(answer)
    pairs = [*zip(golds, answers, strict=True), (golds[0], answers[2])]
    return {verify(first, second, timeout_seconds=None) for first, second in pairs}


VALUES = ("0", "1", "-1", "1/2", "-3/4", "2/3", "5/2", "1234", "-1234567", "333333/1000000", "7/1000000")


def forms(value: Fraction) -> set[str]:
    """One number in the ways that people write it, right or rounded, plain or odd."""
    top, bottom = value.numerator, value.denominator
    written = {
        str(value),
        f"{top}/{bottom}",
        f"{3 * top}/{3 * bottom}",
        f"{top} / {bottom}",
        f"{-top}/{-bottom}",
        f"+{value}",
    }
    written |= {
        rf"\frac{{{top}}}{{{bottom}}}",
        rf"-\frac{{{-top}}}{{{bottom}}}",
        rf"\dfrac{{{2 * top}}}{{{2 * bottom}}}",
    }
    written |= {f"{float(value):.{places}f}" for places in (1, 3, 6, 7, 8)} | {
        f"{float(value):e}",
        f" {value} ",
        f"({value})",
    }
    written |= {
        f"{float(value):.1f}".replace("0.", "."),
        f"{float(100 * value):g}%",
        rf"{float(100 * value):g}\%",
        f"0{value}",
    }
    if bottom == 1:
        written |= {
            f"{top:,}",
            f"{top}.",
            f"{top:,}".replace(",", " "),
            f"{top:,}.00",
            f"{top:,}".replace(",", "{,}"),
        }
    else:
        whole, rest = divmod(abs(top), bottom)
        written |= {f"{whole} {rest}/{bottom}", rf"{whole}\frac{{{rest}}}{{{bottom}}}"}
    return written


def test_the_numeric_step_agrees_with_math_verify_on_every_form_both_ways():
    texts = sorted(set().union(*(forms(Fraction(value)) for value in VALUES)))
    of = {text: numeric.read(text) for text in texts}
    literal = [text for text, read in of.items() if read is not None]
    assert len(literal) > 100
    assert len(texts) - len(literal) > 100
    decided = {(gold, answer): numeric.equal(answer, gold) for gold, answer in itertools.product(literal, literal)}
    assert all(mine == decided[answer, gold] for (gold, answer), mine in decided.items())
    near = {pair for pair in decided if abs(of[pair[0]].value - of[pair[1]].value) < Fraction(1, 1000)}
    chosen = [
        pair for position, pair in enumerate(decided) if position % 97 == 0 or (pair in near and position % 3 == 0)
    ]
    wrong = [
        (pair, decided[pair]) for pair in chosen if decided[pair] is not None and everybody(*pair) != {decided[pair]}
    ]
    assert not wrong
    assert {decided[pair] for pair in chosen} == {True, False, None}


@pytest.mark.parametrize(
    "text",
    [
        "+5",
        "-005",
        "-.5",
        "5.",
        "1 1/2",
        "50%",
        r"50\%",
        "1 234",
        "0,5",
        "12,34",
        "1,23",
        "1e3",
        "1.5e-3",
        r"\frac12",
        r"\dfrac{1}{2}",
        r"2\frac{1}{2}",
        "(1/2)",
        "- 5",
        "1/0",
        "1.5/2",
        "1/2.5",
        "½",
        "５",
        "",
        "x",
        "1_000",
        "1{,}234",
        "0" * 50,
        "9" * 16,
        "0.1234567890123456",
        "inf",
        "nan",
        "0x10",
        "1\u00a0000",
        "1,2345",
    ],
)
def test_what_is_read_differently_by_different_people_is_passed_on(text):
    assert numeric.read(text) is None
    assert numeric.equal(text, "5") is None
    assert numeric.equal("5", text) is None


INTEGERS = st.one_of(st.integers(-20, 20), st.integers(-(10**6), 10**6), st.integers(-(10**12), 10**12))
BOTTOMS = st.one_of(st.integers(1, 12), st.integers(1, 10**5))
PLACES = st.integers(1, 8)


@st.composite
def written(draw) -> str:
    top, bottom = draw(INTEGERS), draw(BOTTOMS)
    return draw(
        st.sampled_from(
            [
                str(top),
                f"{top:,}",
                f"{top}/{bottom}",
                f"{top} / {bottom}",
                rf"\frac{{{top}}}{{{bottom}}}",
                rf"-\frac{{{top}}}{{{bottom}}}",
                f"{top / bottom:.{draw(PLACES)}f}",
                f"{top}.{'0' * draw(PLACES)}",
            ]
        )
    )


@SAME
@given(gold=written(), answer=written())
def test_random_literals(gold, answer):
    mine = numeric.equal(answer, gold)
    assert mine is None or everybody(gold, answer) == {mine}


@SAME
@given(
    gold=written(),
    factor=st.integers(1, 9),
    places=PLACES,
    nudge=st.sampled_from([0, 1e-4, -1e-5, 2e-6, 1e-9, -1e-12]),
)
def test_numbers_near_each_other(gold, factor, places, nudge):
    read = numeric.read(gold)
    if read is None:
        return
    top, bottom = read.value.numerator, read.value.denominator
    for answer in (
        f"{top * factor}/{bottom * factor}",
        f"{top * factor + 1}/{bottom * factor}",
        f"{float(read.value) + nudge:.{places}f}",
    ):
        mine = numeric.equal(answer, gold)
        assert mine is None or everybody(gold, answer) == {mine}, answer


GOLDS = st.sampled_from(
    ["0", "1", "-1", "2", "1/2", "-3/4", "0.5", "-0.5", "7", "12", "1/3", "10", "1,234", r"\frac{1}{2}"]
)
PART = st.sampled_from(["0", "1", "2", "3", "4", "12", "05", "0.5", "1.25", ".5", "10", "-2", "1.0"])
OPERATION = st.sampled_from(["/", "/", "+", "-", " ", ".", "//", "/-", "--"])
SUMS = st.builds(
    lambda sign, parts, marks: sign + "".join(itertools.chain(*zip(parts, [*marks, ""], strict=False))),
    st.sampled_from(["", "-", "+"]),
    st.lists(PART, min_size=1, max_size=3),
    st.lists(OPERATION, min_size=3, max_size=3),
)


@settings(SAME, max_examples=300)
@given(gold=GOLDS, answer=st.one_of(SUMS, st.text("0123456789./+- ", max_size=7)))
def test_the_quick_step_of_math_verify_says_what_its_slow_step_says(gold, answer):
    quick = math_verify.quick(answer, gold)
    if quick is not None:
        slow = math_verify.judge(answer, gold)
        assert (quick.verdict, quick.reason) == (slow.verdict, slow.reason)


@pytest.mark.parametrize(
    ("answer", "gold", "verdict", "reason"),
    [
        ("3/6", "1/2", "correct", "equal"),
        ("0.50", "1/2", "correct", "equal"),
        (".5", "1/2", "correct", "equal"),
        ("50%", "1/2", "correct", "equal"),
        (r"$\frac{1}{2}$", "0.5", "correct", "equal"),
        ("1 1/2", "1.5", "correct", "equal"),
        ("1,234", "1234", "correct", "equal"),
        ("0.333333", "1/3", "wrong", "different"),
        ("1/0", "1/2", "wrong", "unparseable"),
        ("cat", "1/2", "wrong", "unparseable"),
        ("", "1/2", "wrong", "unparseable"),
        ("1/2", "cat", "abstain", "gold_unparseable"),
        ("9" * 100 + "/" + "9" * 99, "1/2", "wrong", "different"),
    ],
)
def test_the_exact_verifier(answer, gold, verdict, reason):
    finding = numeric.judge(answer, gold)
    assert (finding.verdict, finding.reason) == (verdict, reason)
