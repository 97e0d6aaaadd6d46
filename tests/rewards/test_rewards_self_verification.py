"""RISE: outcome levels, critique scores and rewards, selection of solutions, noisy verifiers; worked numbers of B6 and C2."""

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.objectives.advantages import group_zscore, leave_one_out
from assay.objectives.corrections import backward
from assay.rewards.boxes import closed_boxes
from assay.rewards.critique_selection import choose_for_critique
from assay.rewards.self_verification import (
    BINARY,
    THREE_LEVEL,
    SelfVerificationError,
    critique_group,
    critique_prompt,
    critique_reward,
    outcome_level,
    read_score,
    unbiased_reward,
)


def test_nested_braces_belong_to_the_answer():
    assert [box.content for box in closed_boxes("\\boxed{\\frac{1}{2} + \\{3\\}}")] == ["\\frac{1}{2} + \\{3\\}"]


@pytest.mark.parametrize(
    ("verdict", "answered", "level"),
    [
        ("correct", True, 1.0), ("correct", False, -1.0), ("wrong", True, -0.5), ("wrong", False, -1.0), ("abstain", True, None),
        ("abstain", False, None),
    ],
)
def test_levels_of_verdicts(verdict, answered, level):
    assert outcome_level(verdict, answered=answered) == level
    assert outcome_level(verdict, answered=answered, levels=BINARY) == (None if level is None else float(level == 1))


def test_a_verdict_of_another_kind_is_refused():
    with pytest.raises(SelfVerificationError, match="verdict is 'maybe'"):
        outcome_level("maybe", answered=True)


@pytest.mark.parametrize(
    ("box", "value"),
    [
        ("1", 1.0), ("1.0", 1.0), ("+1", 1.0), (" 1 ", 1.0), ("$1$", 1.0), ("-0.5", -0.5), ("-.5", -0.5), ("-1/2", -0.5), ("−0.5", -0.5),
        ("-\\frac{1}{2}", -0.5), ("-\\dfrac{1}{2}", -0.5), ("-1", -1.0), ("-1.00", -1.0), ("2/2", 1.0),
        ("0", None), ("0.5", None), ("1.01", None), ("1 (correct)", None), ("one", None), ("", None), ("nan", None), ("inf", None),
        ("1/0", None), ("100", None), ("score", None), ("--1", None), ("1e0", None), ("١", None),
    ],
)  # fmt: skip
def test_a_score_is_a_number_that_is_one_of_the_levels(box, value):
    score = read_score(f"I checked it. \\boxed{{{box}}}")
    assert score.value == value and score.raw == box.strip() and score.boxes == 1 and not score.contradictory
    assert score.status == ("given" if value is not None else "out_of_scale")
    assert score.says_right is (value == 1.0)


@pytest.mark.parametrize(
    ("box", "level"), [("100", 1.0), ("0.01", 1.0), ("-50", -0.5), ("-0.005", -0.5), ("-100", -1.0), ("7", None), ("1", None)]
)
def test_what_a_grader_of_percentages_would_accept_is_noted_and_not_accepted(box, level):
    score = read_score(f"\\boxed{{{box}}}")
    assert score.lenient == level and (level is None or critique_reward(score, level) == -0.5)


@pytest.mark.parametrize("critique", ["", "It is right, so 1.", "\\boxed{1", "boxed 1", "\\boxed", "}{\\fbox"])
def test_a_critique_without_a_closed_box_gives_no_score(critique):
    score = read_score(critique)
    assert (score.value, score.status, score.raw, score.boxes, score.says_right) == (None, "missing", None, 0, False)
    assert critique_reward(score, 1.0) == -1.0 and critique_reward(score, -1.0) == -1.0


def test_of_two_scores_the_last_counts_and_a_contradiction_is_noted():
    first = read_score("\\boxed{1} ... no: \\boxed{-0.5}")
    assert (first.value, first.boxes, first.contradictory) == (-0.5, 2, True)
    assert read_score("\\boxed{1}, thus \\boxed{1.0}").contradictory is False
    assert read_score("its answer \\boxed{7} holds: \\boxed{1}").value == 1.0
    assert read_score("\\boxed{1} and \\boxed{x}").status == "out_of_scale"


def test_a_score_of_the_prompt_never_counts():
    solution = "\\boxed{7}\nScore 1: this one.\n\\boxed{1}"
    assert "\\boxed{1}" in critique_prompt("3 + 4?", solution)
    assert critique_reward(read_score("cut before the sco"), -0.5) == -1.0
    assert critique_reward(read_score("It only claims \\boxed{1}; I say \\boxed{-0.5}"), -0.5) == 1.0


@pytest.mark.parametrize(
    ("critique", "target", "three", "binary"),
    [
        ("\\boxed{1}", 1.0, 1.0, 1.0),
        ("\\boxed{-0.5}", -1.0, -0.5, 0.0),
        ("\\boxed{-1}", -1.0, 1.0, 1.0),
        ("\\boxed{-0.5}", -0.5, 1.0, 1.0),
        ("\\boxed{5}", 1.0, -0.5, 0.0),
        ("no box", -1.0, -1.0, 0.0),
        ("\\boxed{1}", None, None, None),
        ("no box", None, None, None),
    ],
)
def test_critique_rewards(critique, target, three, binary):
    score = read_score(critique)
    assert critique_reward(score, target) == three
    assert critique_reward(score, target, BINARY) == binary


def batch(groups, size):
    return [f"t{i}" for i in range(groups * size)], [f"g{i // size}" for i in range(groups * size)]


def per_group(chosen, groups):
    counts = Counter(groups[i] for i in chosen)
    return [counts[group] for group in dict.fromkeys(groups)]


@pytest.mark.parametrize(("count", "quotas"), [(128, [1] * 128 + [0] * 896), (1024, [1] * 1024), (1280, [2] * 256 + [1] * 768)])
def test_the_first_groups_give_the_remainder(count, quotas):
    rows, groups = batch(1024, 8)
    chosen = choose_for_critique(rows, groups, count, seed=0, how="first_groups")
    assert per_group(chosen, groups) == quotas
    assert {position % 8 for position in chosen} == set(range(8))  # a random one of each group, not the first


def test_a_batch_of_the_paper_makes_nine_updates():
    rows, groups = batch(1024, 8)
    chosen = choose_for_critique(rows, groups, 128, seed=0, how="first_groups")
    assert divmod(len(rows) + 8 * len(chosen), 128 * 8) == (9, 0)


@pytest.mark.parametrize("how", ["uniform", "first_groups"])
def test_quotas_of_four_groups_of_two(how):
    rows, groups = batch(4, 2)
    quotas = per_group(choose_for_critique(rows, groups, 6, seed=1, how=how), groups)
    assert sorted(quotas) == [1, 1, 2, 2] and (how == "uniform" or quotas == [2, 2, 1, 1])


def test_uniform_choices_take_every_group_equally_often():
    rows, groups = batch(8, 2)
    counts = np.sum([per_group(choose_for_critique(rows, groups, 3, seed=seed), groups) for seed in range(400)], axis=0)
    assert counts.sum() == 1200 and abs(counts - 150).max() < 4 * np.sqrt(150)


def test_choices_depend_on_the_seed_and_not_on_the_order_of_the_rows():
    rows, groups = batch(16, 4)
    levels = [(1.0, -0.5, -1.0, -1.0)[i % 4] for i in range(64)]
    order = np.random.default_rng(0).permutation(64)
    for how in ("uniform", "stratified"):
        here = {rows[i] for i in choose_for_critique(rows, groups, 10, seed=3, how=how, levels=levels)}
        shuffled = [[column[i] for i in order] for column in (rows, groups, levels)]
        there = {shuffled[0][i] for i in choose_for_critique(shuffled[0], shuffled[1], 10, seed=3, how=how, levels=shuffled[2])}
        other = {rows[i] for i in choose_for_critique(rows, groups, 10, seed=4, how=how, levels=levels)}
        assert here == there != other


def test_a_stratified_choice_is_as_even_as_the_batch_allows():
    rows, groups = batch(25, 4)
    levels = [1.0] * 5 + [-0.5] * 2 + [-1.0] * 93
    chosen = choose_for_critique(rows, groups, 12, seed=0, how="stratified", levels=levels)
    assert Counter(levels[i] for i in chosen) == {1.0: 5, -0.5: 2, -1.0: 5}
    assert chosen == sorted(set(chosen))


@given(st.lists(st.integers(0, 4), max_size=20), st.data())
def test_any_choice_takes_each_row_once_and_groups_evenly(ids, data):
    rows, groups = [f"t{i}" for i in range(len(ids))], [f"g{i}" for i in ids]
    count = data.draw(st.integers(0, len(ids)))
    chosen = choose_for_critique(rows, groups, count, seed=0)
    assert len(set(chosen)) == count
    taken, sizes = Counter(groups[i] for i in chosen), Counter(groups)
    most = max(taken.values(), default=0)
    assert all(taken[group] >= min(size, most - 1) for group, size in sizes.items())


def test_no_critiques_choose_nothing_and_what_cannot_be_chosen_is_refused():
    rows, groups = batch(2, 2)
    assert choose_for_critique(rows, groups, 0, seed=0) == [] == choose_for_critique([], [], 0, seed=0)
    for arguments, words in (
        ((rows, groups, 5), "5 solutions are to be judged, but there are 4"),
        ((rows, groups, -1), "-1 solutions"),
        ((["t"] * 4, groups, 1), "occurs twice"),
        ((rows, groups[:3], 1), "4 rows, 3 groups"),
    ):
        with pytest.raises(SelfVerificationError, match=words):
            choose_for_critique(*arguments, seed=0)
    with pytest.raises(SelfVerificationError, match="needs the level"):
        choose_for_critique(rows, groups, 1, seed=0, how="stratified")
    with pytest.raises(SelfVerificationError, match="selection is 'best'"):
        choose_for_critique(rows, groups, 1, seed=0, how="best")


def test_groups_of_critiques_are_their_own_and_the_batch_may_be_permuted():
    """B6.9: group statistics never mix the two kinds."""
    solutions, parents = ["g0"] * 4 + ["g1"] * 4, ["g0", "t1"]  # a parent whose id is that of a group must not join it
    groups = np.array(solutions + [critique_group(parent) for parent in parents for _ in range(3)])
    assert len(set(groups)) == 4
    generator = np.random.default_rng(0)
    rewards, order = generator.normal(size=14), generator.permutation(14)
    whole = group_zscore(rewards, groups)
    assert group_zscore(rewards[order], groups[order]) == pytest.approx(whole[order], abs=1e-12)
    assert whole[:8] == pytest.approx(group_zscore(rewards[:8], groups[:8]), abs=1e-12)
    assert whole[8:] == pytest.approx(group_zscore(rewards[8:], groups[8:]), abs=1e-12)


RATES = st.tuples(st.floats(0, 0.45), st.floats(0, 0.45))


@given(RATES, st.booleans(), st.booleans())
def test_the_mean_of_the_unbiased_reward_is_whether_the_critique_is_right(rates, truth, says):
    fpr, fnr = rates
    chance = 1 - fnr if truth else fpr
    rewards = unbiased_reward(np.array([says, says]), backward(np.array([0.0, 1.0]), fpr, fnr))
    assert (1 - chance) * rewards[0] + chance * rewards[1] == pytest.approx(float(says == truth), abs=1e-9)


def test_agreement_with_the_observed_verdict_has_the_error_rate_of_the_class_instead():
    corrected = backward(np.array([0.0, 1.0]), 0.1, 0.2)
    assert unbiased_reward([1, 1], corrected) == pytest.approx([-1 / 7, 9 / 7])
    assert unbiased_reward([0, 0], corrected) == pytest.approx([8 / 7, -2 / 7])
    # A critic that is always right: 1 on average, where plain agreement gives 0.8 on right and 0.9 on wrong solutions.
    assert 0.8 * 9 / 7 + 0.2 * -1 / 7 == pytest.approx(1.0) and 0.9 * 8 / 7 + 0.1 * -2 / 7 == pytest.approx(1.0)


def test_leave_one_out_stays_unbiased_though_critiques_of_a_solution_share_one_flip():
    says, expected = np.array([1, 0, 1, 1]), np.zeros(4)
    for observed, chance in ((1.0, 0.8), (0.0, 0.2)):  # a right solution
        rewards = unbiased_reward(says, backward(np.full(4, observed), 0.1, 0.2))
        expected += chance * leave_one_out(rewards, np.zeros(4))
    assert expected == pytest.approx(leave_one_out(says.astype(float), np.zeros(4)))
    spread = [unbiased_reward(says, backward(np.full(4, o), 0.1, 0.2))[[0, 2, 3]].std() for o in (0.0, 1.0)]
    assert spread == [0.0, 0.0]  # one flip for all: averaging over critiques averages no noise


def test_a_critique_without_a_score_earns_nothing_and_misfits_are_refused():
    assert unbiased_reward([np.nan, 1.0], [9 / 7, 9 / 7]) == pytest.approx([0, 9 / 7])
    for said, corrected, words in (
        ([1, 0], [1.0], "give each critique"),
        ([0.5], [1.0], "says 1 .right. or 0"),
        ([1], [np.nan], "not finite"),
    ):
        with pytest.raises(SelfVerificationError, match=words):
            unbiased_reward(said, corrected)


def test_three_levels_in_all_pairs():
    for target, said in itertools.product(THREE_LEVEL.values, repeat=2):
        assert critique_reward(read_score(f"\\boxed{{{said}}}"), target) == (1.0 if said == target else -0.5)
