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
        ("**Answer:**\n42", "42"),
        ("**Final Answer:**\n42\nas said", "42"),
        ("__Answer:__\n42", "42"),
        ("**The answer is:**\n\n$42$", "$42$"),
        ("**Answer: 42**", "42"),
        ("Answer: **42**.", "42"),
        ("Answer:**42**", "42"),
        ("Answer:\n\\[\n42\n\\]", "42"),
        ("The answer is: $$\n3/4\n$$.\nThat is it", "3/4"),
        ("**Answer:**\n$$3/4$$", "3/4"),
        ("Answer: $$1$$ or $$2$$", "$$1$$ or $$2$$"),
        ("Answer: $$\n3/4", "$$"),
        ("Answer:\n\\begin{pmatrix}\n1 \\\\ 2\n\\end{pmatrix}\nx", "\\begin{pmatrix}\n1 \\\\ 2\n\\end{pmatrix}"),
        ("Answer:\n\\begin{matrix}1\\end{matrix} + 1\nx", "\\begin{matrix}1\\end{matrix} + 1"),
        ("Here is the answer:\n```\n42\n```\nx", "42"),
        ("so answer::int", "so answer::int"),
        ("Answer: ```42\n```", "42"),
        ("Answer: ```4\n5```", "4\n5"),
        ("Answer: ```python\n5\n```", "5"),
    ],
)
def test_extracts(text, answer):
    assert extract_answer(text) == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("SELECT answer::int FROM q", "SELECT answer::int FROM q"),
        ("Here is the answer:\n```sql\nSELECT a\nFROM t\n```\nIt works.", "SELECT a\nFROM t"),
        ("I tried\n```sql\nSELECT b FROM t\n```\nThe answer: SELECT a FROM t", "SELECT a FROM t"),
        ("The answer: see below\n\n```sql\nSELECT a FROM t\n```", "SELECT a FROM t"),
        ("```sql\nSELECT answer FROM t -- the answer: a\n```", "SELECT answer FROM t -- the answer: a"),
        ("```\nx\n```\n<answer>SELECT a FROM t</answer>", "SELECT a FROM t"),
        ("Answer:\nSELECT a\nFROM t", "SELECT a\nFROM t"),
        ("**Answer:**\nSELECT a,\n  Name,\nB FROM t\nWhere a > 1;\nIt is so.", "SELECT a,\n  Name,\nB FROM t\nWhere a > 1;"),
        ("Answer: SELECT a FROM t\nThis works.", "SELECT a FROM t"),
        ("Answer: SELECT a\nFROM t.\n\nbecause", "SELECT a\nFROM t"),
        ("SELECT a\nFROM t", "SELECT a\nFROM t"),
        *((f"Answer: SELECT count(*) FROM t{prose}", "SELECT count(*) FROM t") for prose in (
            "\nExplanation: counts.", "\n**Explanation:** counts.", "\n- counts all", "\nthis counts rows", "\nSQL counts.",
            "\nIn this one we count.", "\nAll rows are counted.", "\nWhere we select", ".\nThanks", "\n\nThis returns:\n```\n5\n```",
        )),
        ("Answer: SELECT a FROM t\nWHERE b IN (\n1,\n2)\nAND c = 'x\ny'\nDone", "SELECT a FROM t\nWHERE b IN (\n1,\n2)\nAND c = 'x\ny'"),
        ("Answer: With this in mind:\n```sql\nSELECT a FROM t\n```", "SELECT a FROM t"),
        ("Answer: Select a\nFrom t\nWhere b\nThis is it", "Select a\nFrom t\nWhere b"),
    ],
)  # fmt: skip
def test_extracts_statements(text, answer):
    assert extract_answer(text, code=True) == answer


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
    "answer: $$" * 2_000,
    "answer: " + "$$ " * 6_000,
    "answer: " + "```\n" * 4_900,
    "answer: ```" + "\n" * 19_000,
    "answer: " + r"\begin{a}" * 2_000,
    "answer: SELECT" + ",\nA " * 4_000,
    "answer:" + "*" * 19_000,
]


@pytest.mark.timeout(30)
@pytest.mark.parametrize("text", HUGE, ids=range(len(HUGE)))
def test_no_text_takes_more_than_linear_time(text):
    """Quadratic searches of these take minutes: the mark ends them."""
    for code in (False, True):
        assert len(extract_answer(text, code)) <= len(text)


def test_of_a_long_text_the_end_counts():
    assert extract_answer("x " * WINDOW + r"\boxed{5}") == "5"
    text = "y" * (2 * WINDOW)
    assert extract_answer(text) == text
