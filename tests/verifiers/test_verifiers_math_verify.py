"""The reference: what it reads, what it leaves unread, and what it does not even begin to evaluate."""

import pytest

from assay.verifiers.complexity import MAX_BITS, MAX_EXPANSION, MAX_TERMS, bits, nesting, terms, tokens
from assay.verifiers.math_verify import MAX_DEPTH, is_broken, is_prose, is_words, judge, quick


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        ("1/2", "0.5"),
        ("5", "+5"),
        ("-0.5", "-.5"),
        ("5", "5."),
        ("1/2", r"\dfrac{1}{2}"),
        ("3/2", r"1\frac{1}{2}"),
        ("50%", "1/2"),
        (r"2\sqrt{3}", r"\sqrt{12}"),
        ("(x+1)^2", "x^2+2x+1"),
        (r"\frac{\pi}{2}", r"\pi/2"),
        (r"\{1,2\}", r"\{2,1\}"),
        ("5", "x=5"),
        ("x=5", "5"),
        ("5", "The answer is 5"),
        ("5", "$5$"),
        ("2^{2020}", "4^{1010}"),
        (r"\infty", r"\infty"),
        ("1000", "10^3"),
        ("(1, 2)", "(1,2)"),
        ("x", "x"),
        (r"\text{cat}", "cat"),
        (r"\text{cat}", r"\textbf{cat}"),
        ("18", r"\$18"),
        ("18", r"\$18.00"),
        ("1234.5", r"\$1,234.50"),
        (r"\$18", "18"),
        ("18", r"It costs \$18 in all"),
        ("18", r"$\$18$"),
        ("1234", "1 234"),
        ("1 234.5", "1234.5"),
    ],
)
def test_equal(gold, answer):
    assert judge(answer, gold).verdict == "correct"


@pytest.mark.parametrize(("gold", "answer"), [("18", r"\$19"), ("18", r"\$18 or \$19"), ("18", r"\$"), ("235", "1 234")])
def test_money_and_thousands_are_no_other_number(gold, answer):
    assert judge(answer, gold).verdict == "wrong"


@pytest.mark.parametrize(
    ("gold", "answer", "reason"),
    [
        ("12", "12/", "unparseable"),
        ("0", "1//2", "unparseable"),
        ("5", "- 6", "different"),
        ("5", "- 5", "different"),
        ("2", r"2\sqrt{3}", "different"),
        ("1.2", "1.2.3", "different"),
        ("5", "five", "unparseable"),
        ("5", "1/0", "unparseable"),
        ("5", "", "unparseable"),
        ("x=5", "6", "different"),
        (r"\sqrt{2}", "1.5", "different"),
        ("0", ".0/.0", "unparseable"),
        ("(1,2)", "(2,1)", "different"),
        ("5", "zzz", "unparseable"),
        (r"\text{cat}", "act", "different"),
        ("x", "cat", "unparseable"),
    ],
)
def test_wrong(gold, answer, reason):
    finding = judge(answer, gold)
    assert (finding.verdict, finding.reason) == ("wrong", reason)


@pytest.mark.parametrize("gold", ["", " ", "1/0", "12/", "no idea at all", r"\frac{1}{", "0/0"])
def test_gold_that_cannot_be_read_is_never_a_verdict_even_for_an_equal_answer(gold):
    for answer in ("5", gold):
        finding = quick(answer, gold) or judge(answer, gold)
        assert (finding.verdict, finding.reason) == ("abstain", "gold_unparseable")


@pytest.mark.parametrize(
    "answer",
    [
        "9^{9^{9^{9}}}",
        "10^{10^{10}}",
        "2^{-10^{10}}",
        "1000000!",
        "((9!)!)!",
        "100000!!",
        r"\binom{10^9}{5*10^8}",
        "3^{100000000}",
        "(x+1)^{1000}",
        "(" * 10_000 + "1" + ")" * 10_000,
        r"\frac{1}{" * 500 + "2" + "}" * 500,
        "(2^{10^5})^{10^5}",
        "(x+y+z+w)^{60}",
        "(x+1)^{90}(y+1)^{90}",
        r"\sum_{k=1}^{10^9} k^k",
        r"\prod_{k=1}^{10^8} k",
        r"\Gamma(10^7)",
        r"\Gamma(10000000)",
        r"\sinh(10^8)",
        r"\sqrt{" + "7" * 3000 + "}",
        "x_{1}" * 600,
        "(" + ",".join(["x^2+1"] * 400) + ")",
    ],
)
@pytest.mark.timeout(60)
def test_what_would_explode_is_not_evaluated(answer):
    """Unless it is evaluated this is a matter of milliseconds; evaluated it would take minutes, or all memory."""
    finding = judge(answer, "3/4")
    assert (finding.verdict, finding.reason) == ("abstain", "too_complex")


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        ("5050", r"\sum_{k=1}^{100} k"),
        ("500000000500000000", r"\sum_{k=1}^{10^9} k"),
        ("3628800", r"\prod_{k=1}^{10} k"),
        ("24", r"\Gamma(5)"),
        (r"\frac{5}{2}", r"\frac{1}{" * 14 + r"\frac{5}{2}" + "}" * 14),
        ("(x+1)^2", r"(x+1)^{30} \cdot (x+1)^{-28}"),
        ("2", r"\sqrt{\sqrt{\sqrt{\sqrt{65536}}}}"),
        ("x^2+2xy+y^2", "(x+y)^2"),
    ],
)
def test_what_only_looks_large_is_evaluated(gold, answer):
    assert judge(answer, gold).verdict == "correct"


@pytest.mark.parametrize("text", ["2^{2020}", "100!", "(x+1)^{1000}", "9^{9^{9}}"])
def test_an_equal_formula_is_right_however_large(text):
    assert judge(text, text).verdict == "correct"


def test_bits_bound_the_evaluated_number():
    from sympy import Integer, Pow, Rational, binomial, factorial

    for number in (2**100, 3**50, 12345):
        assert number.bit_length() <= bits(Integer(number)) <= number.bit_length() + 1
    unevaluated = [
        Pow(3, 200, evaluate=False),
        factorial(50, evaluate=False),
        binomial(60, 30, evaluate=False),
        Pow(Rational(3, 7), 20, evaluate=False),
    ]
    for expression in unevaluated:
        value = expression.doit()
        assert max(int(value.p).bit_length(), int(value.q).bit_length()) <= bits(expression) < MAX_BITS


def test_terms_bound_what_an_expanded_formula_has():
    from sympy import expand, symbols

    x, y, z = symbols("x y z")
    for formula in ((x + 1) ** 20, (x + y + z) ** 9, (x + 1) ** 5 * (y + z) ** 4, (x + y) ** 3 + z, x * y):
        parts = expand(formula).as_ordered_terms()
        assert len(parts) <= terms(formula) <= MAX_TERMS
    assert terms((x + 1) ** (MAX_EXPANSION + 1)) == float("inf")
    assert terms((x + y + z) ** 70) > MAX_TERMS


def test_looks_of_texts():
    assert tokens(r"\frac{12}{x} + answer, ab") == len([r"\frac", "{", "12", "}", "{", "x", "}", "+", ","])
    assert nesting("((1)+[2{3}])") == 3
    assert nesting(")(") == 1
    assert nesting("(" * (MAX_DEPTH + 1)) > MAX_DEPTH
    for text in ("cat", "no idea", "Paris", "yes", "red, green and blue"):
        assert is_words(text)
    for text in ("x", "xy", "sin x", "pi", "5 cats", r"\pi", "a+b", "", "infinity"):
        assert not is_words(text)
    for text in ("The answer is 5", "five", "5 apples and 3 pears"):
        assert is_prose(text)
    for text in ("sin x + cos y", r"\text{five apples}", "ab", r"\sqrt{2}", "2x+3y", "1/2"):
        assert not is_prose(text)
    for text in ("12/", "1//2", "-", "", "/", "1/2-", "..", "5./2", "-/2"):
        assert is_broken(text)
    for text in ("12", "1/2", "-1", "5.", "1.2.3", "--5", "x/", "1 2"):
        assert not is_broken(text)
