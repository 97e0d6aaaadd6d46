"""Tables of claims say how their words are meant, and mean it."""

import pytest

from benchmarks.study import READING, claims


def seen(differences: list[float], sign: int) -> str:
    found = {("arm", seed): {"value": value} for seed, value in enumerate(differences)}
    head, blank, *_, row, last = claims(found, [("text", "arm", None, lambda row: row["value"], sign)])
    assert (head, blank, last) == (READING, "", "")
    return row.split("|")[-2].strip()


@pytest.mark.parametrize(("differences", "sign", "word"), [
    ([0.10, 0.11, 0.12], 1, "as claimed"),
    ([0.10, 0.11, 0.12], -1, "the opposite"),
    ([0.001, 0.0, -0.001], 1, "equal"),
    ([0.2, 0.0, -0.1], 1, "undecided"),
    ([0.010, 0.011, 0.012], 0, "as claimed"),
    ([0.10, 0.11, 0.12], 0, "not equal"),
    ([0.2, 0.0, -0.1], 0, "undecided"),
])  # fmt: skip
def test_each_word_of_a_claim(differences, sign, word):
    assert seen(differences, sign) == word
    assert f"*{word}*" in READING
