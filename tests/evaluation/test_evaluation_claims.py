"""Tables of claims say how their words are meant, and mean it."""

import pytest

from benchmarks.claims_exploration import kept_by_chance, tables
from benchmarks.claims_noise import ARMS, language_table
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


def test_policy_0_is_not_measured_by_the_samples_that_say_what_it_solves():
    """keep@64 of the base would be 1 whatever it does; what a second draw of it would keep is told instead."""
    counts = {"a": 64, "b": 1, "c": 0}
    rows = {arm: {"arm": arm, "right": {"eval": counts, "ood": counts}, "traces": {"entropy": [1.0]}} for arm in ("base", "GRPO")}
    rows["base"].pop("traces")
    lines = tables({(arm, 0): row for arm, row in rows.items()}, 50)["dph_rl"].splitlines()
    head, base, grpo = (next([c.strip() for c in line.split("|")] for line in lines if line.startswith(f"| {name} |"))
                        for name in ("arm", "base", "GRPO"))  # fmt: skip
    kept = head.index("keep@64")
    assert (base[kept], base[kept + 1], grpo[kept]) == ("–", "–", "1.000")
    assert kept_by_chance(rows["base"]) == pytest.approx(1 / 1.5)  # b's one right answer is never among both sets
    assert any("0.667 (32 tries" in line for line in lines)


def test_a_control_that_is_not_matched_is_called_so():
    rows = [{"arm": arm, "seed": 0, "pass@1": 0.5, "audit_cosine": None, "audit_difference": None, "coverage": None} for arm in ARMS]
    lines = language_table(rows, 40).splitlines()
    assert [line.split("|")[1].strip() for line in lines if "not matched: also recovers" in line] == ["appeals + forward"]
