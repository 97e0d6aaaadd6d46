"""Where an answer stands in a completion, and what form it has."""

import pytest

from assay.verifiers import answer_format, extract_answer
from assay.verifiers.extract import WINDOW


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("3/4", "3/4"),
        ("  3/4\n", "3/4"),
        ("", ""),
        (r"so \boxed{3}", "3"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{1} then \boxed{2}.", "2"),
        (r"\boxed{1} then \boxed{2", "1"),
        (r"\boxed{a \boxed{b}}", "b"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed {7}", "7"),
        (r"\fbox{7}", "7"),
        (r"\boxed{}", ""),
        (r"Answer: 5 and \boxed{6}", "6"),
        ("<answer> 12 </answer>", "12"),
        ("<answer>1</answer> no: <answer>2</answer>", "2"),
        ("<Answer>3</ANSWER>", "3"),
        ("<answer>4", "<answer>4"),
        (r"<answer>\boxed{1}</answer>", "1"),
        ("work\n#### 42", "42"),
        ("work\n#### Paris\n", "Paris"),
        ("#### Final Answer\n\n42", "#### Final Answer\n\n42"),
        ("#### Step 2: add them\nso it is 42.", "#### Step 2: add them\nso it is 42."),
        ("#### 42\nThat is it.", "42"),
        ("\u0130 <answer>42</answer>", "42"),
        ("The answer: 5.", "5"),
        ("Answer: 1\nanswer: 2\n", "2"),
        ("**Answer:** 3/4", "3/4"),
        ("The answer is: 7", "7"),
        ("Answer:\n9", "9"),
        ("Answer: 5\nThat was easy", "5"),
        ("no answer here", "no answer here"),
        ("Answer: 0.333...", "0.333..."),
    ],
)
def test_extracts(text, answer):
    assert extract_answer(text) == answer


@pytest.mark.parametrize(
    ("answer", "form"),
    [
        ("12", "integer"),
        ("-1,234", "integer"),
        ("+5", "integer"),
        ("0.5", "decimal"),
        (".5", "decimal"),
        ("1e-3", "decimal"),
        ("5.", "decimal"),
        ("3/4", "fraction"),
        ("-3 / 4", "fraction"),
        ("1 1/2", "fraction"),
        (r"\frac{1}{2}", "latex"),
        ("$5$", "latex"),
        ("five", "text"),
        ("x=5", "text"),
        ("", "empty"),
        (" \n", "empty"),
        ("1" * 300, "text"),
    ],
)
def test_forms(answer, form):
    assert answer_format(answer) == form


HUGE = [
    r"\boxed{" * 100_000,
    r"\boxed{" * 2_800 + "}" * 200,
    "<answer>" * 100_000 + "</answer>",
    "</answer>" + "<answer>" * 2_400,
    "answer " + " " * 200_000 + "x",
    "answer" + " \t" * 9_000 + "x",
    "Answer: a" + " " * 19_000 + "b",
    "{" * 200_000,
    "\\" * 200_001,
    "####" * 50_000,
]


@pytest.mark.timeout(30)
@pytest.mark.parametrize("text", HUGE, ids=range(len(HUGE)))
def test_no_text_takes_more_than_linear_time(text):
    """Quadratic searches of these take minutes: the mark ends them."""
    assert len(extract_answer(text)) <= len(text)


def test_of_a_long_text_the_end_counts():
    assert extract_answer("x " * WINDOW + r"\boxed{5}") == "5"
    text = "y" * (2 * WINDOW)
    assert extract_answer(text) == text
