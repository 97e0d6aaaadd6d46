"""Step rewards against VSRM's worked numbers (B.6, E.2), the direct loop, and what must not break them."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.objectives.advantages import group_zscore, returns_to_go, token_rewards
from assay.rewards.stepwise import (
    OutcomeRewards,
    Rules,
    State,
    StepwiseError,
    outcome_branch,
    place,
    propagate,
    segment,
    states,
    step_accuracies,
    step_rewards,
    step_tokens,
    token_offsets,
)

SMALL = Rules(opening=0, interval=1)
WORKED = [
    ([0.2, 0.6, 0.6, 0.6, 1.0, 0.8], [0.4, 0.196, 0.28, 0.4, -0.2]),
    ([0, 0, 0, 0, 0, 0, 1], [0, 0.2401, 0.343, 0.49, 0.7, 1]),
    ([0, 0, 0, 0, 0, 0, 0, 1], [0, 0, 0.2401, 0.343, 0.49, 0.7, 1]),
    ([0.6, 0.6, 0.2, 0.2, 0.8], [-0.28, -0.4, 0.42, 0.6]),
    ([1, 1, 1, 1], [0, 0, 0]),
    ([0.4, 0.8], [0.4]),
    ([0.4], []),
    ([], []),
    ([0.2, 0.6, 0.6, 1.0], [0.4, 0.28, 0.4]),
]


@pytest.mark.parametrize(("accuracies", "rewards"), WORKED)
def test_propagating_decay(accuracies, rewards):
    assert propagate(accuracies) == pytest.approx(rewards)


def test_each_step_says_which_change_it_is_paid_for():
    steps = step_rewards([0.2, 0.6, 0.6, 0.4, 0.4])
    assert [step.distance for step in steps] == [0, 1, 0, None]
    assert [step.effect() for step in steps] == ["helpful", "ineffective", "harmful", "ineffective"]
    assert [step.difference for step in steps] == pytest.approx([0.4, 0, -0.2, 0])
    assert [step.reward for step in steps] == pytest.approx([0.4, -0.14, -0.2, 0])


ACCURACIES = st.lists(st.integers(0, 5).map(lambda right: right / 5), max_size=14)


@given(ACCURACIES, st.floats(0, 1), st.integers(0, 6))
def test_propagation_equals_a_search_from_each_step(accuracies, gamma, window):
    changes = np.diff(accuracies)
    expected = []
    for j in range(len(changes)):
        reward = 0.0
        for q in range(window + 1):
            if j + q < len(changes) and abs(changes[j + q]) >= 1e-5:
                reward = gamma**q * changes[j + q]
                break
        expected.append(reward)
    assert propagate(accuracies, gamma, window) == pytest.approx(expected)


@given(ACCURACIES)
def test_rewards_are_bounded_and_point_to_the_next_change(accuracies):
    rewards, changes = propagate(accuracies, window=len(accuracies)), np.diff(accuracies)
    for j, reward in enumerate(rewards):
        following = [change for change in changes[j:] if abs(change) > 1e-9]
        assert abs(reward) <= 1
        assert np.sign(reward) == (np.sign(following[0]) if following else 0)


@given(ACCURACIES)
def test_without_propagation_the_rewards_add_up_to_the_whole_change(accuracies):
    for options in ({"gamma": 0.0}, {"window": 0}):
        plain = propagate(accuracies, **options)
        assert plain == pytest.approx(list(np.diff(accuracies)))
        assert sum(plain) == pytest.approx(accuracies[-1] - accuracies[0] if accuracies else 0)


@pytest.mark.parametrize(
    ("accuracies", "options", "words"),
    [
        ([0, 1.2], {}, "state 1: accuracy is 1.2"),
        ([float("nan"), 1], {}, "state 0: accuracy is nan"),
        ([0, 1], {"gamma": 1.1}, "gamma is 1.1"),
        ([0, 1], {"window": -1}, "window -1"),
        ([0, 1], {"epsilon": 0.0}, "epsilon 0.0"),
    ],
)
def test_propagation_refuses(accuracies, options, words):
    with pytest.raises(StepwiseError, match=words):
        propagate(accuracies, **options)


def test_accuracies_are_shares_in_any_order_of_the_continuations():
    assert step_accuracies([[True, False, False, False, False], [True] * 5]) == [0.2, 1.0]
    assert step_accuracies([[False, False, True, False, False], [True] * 5]) == [0.2, 1.0]
    assert step_accuracies([]) == []


def test_abstained_continuations_do_not_count_and_unknown_states_change_nothing():
    known = step_accuracies([[True, None, False], [None, None], [True, True]])
    assert known == [0.5, 0.5, 1.0]
    assert propagate(known, gamma=0.0) == [0.0, 0.5]
    assert step_accuracies([[None], [True, False], [None]]) == [0.5, 0.5, 0.5]
    assert step_accuracies([[None], [None]]) == [0.0, 0.0]


def test_a_budget_of_no_continuations_is_refused():
    with pytest.raises(StepwiseError, match="state 1 has no continuation"):
        step_accuracies([[True], []])


@pytest.mark.parametrize(
    ("complete", "answered", "correct", "reward"),
    [
        (True, True, True, 1.0),
        (True, True, False, 0.0),
        (True, False, False, -9.5),
        (False, True, True, -10.0),
        (False, False, False, -10.0),
    ],
)
def test_the_four_outcome_rewards(complete, answered, correct, reward):
    branch = outcome_branch(complete=complete, answered=answered, correct=correct)
    assert OutcomeRewards().of(branch) == reward
    assert OutcomeRewards(no_answer=-0.95, no_format=-1).of(branch) == pytest.approx(reward / 10 if reward < 0 else reward)


SPANS = [(10, 17), (18, 26), (27, 33)]


def returns(rewards):
    return returns_to_go(rewards[None], np.ones((1, len(rewards)), bool))[0]


def test_rewards_at_the_end_of_steps_are_those_of_the_worked_trajectory():
    rewards = place(40, SPANS, [0.4, 0.28, 0.4], 1.0)
    assert {i: rewards[i] for i in np.flatnonzero(rewards)} == pytest.approx({17: 0.4, 26: 0.28, 33: 0.4, 39: 1.0})
    assert returns(rewards)[[0, 18, 27, 34]] == pytest.approx([2.08, 1.68, 1.4, 1.0])


def test_rewards_at_the_start_of_steps_are_not_seen_by_the_rest_of_the_step():
    rewards = place(40, SPANS, [0.4, 0.28, 0.4], 1.0, at="start")
    assert {i: rewards[i] for i in np.flatnonzero(rewards)} == pytest.approx({10: 0.4, 18: 0.28, 27: 0.4, 39: 1.0})
    assert returns(rewards)[[0, 10, 11, 18]] == pytest.approx([2.08, 2.08, 1.68, 1.68])
    assert returns(place(40, SPANS, [0.4, 0.28, 0.4], 1.0))[11] == pytest.approx(2.08)


def test_without_step_rewards_the_tokens_are_exactly_the_outcome_only_ones():
    plain = token_rewards(np.array([1.0]), np.ones((1, 40), bool))[0]
    assert (place(40, [], [], 1.0) == plain).all() and (returns(plain) == 1.0).all()


def test_the_outcome_is_added_to_a_step_that_ends_on_the_last_token_or_overwrites_it():
    assert place(4, [(1, 3)], [0.4], 1.0).tolist() == [0, 0, 0, 1.4]
    assert place(4, [(1, 3)], [0.4], 1.0, overwrite=True).tolist() == [0, 0, 0, 1.0]
    assert place(4, [(2, 2), (2, 3)], [0.4, -0.1], 1.0, at="start") == pytest.approx([0, 0, 0.3, 1.0])


def test_an_empty_response_earns_nothing():
    assert place(0, [], [], -10.0).tolist() == []
    assert states("", segment(""), []) == [] and step_tokens("", segment(""), []) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((4, [(1, 2)], [], 1.0), "1 steps but 0 step rewards"),
        ((4, [(1, 4)], [0.1], 1.0), "tokens 1 to 4 of a response of 4"),
        ((4, [(1, 2)], [float("nan")], 1.0), "not finite"),
        ((4, [], [], float("inf")), "not finite"),
    ],
)
def test_rewards_that_fit_no_token_are_refused(arguments, words):
    with pytest.raises(StepwiseError, match=words):
        place(*arguments)
    with pytest.raises(StepwiseError, match="placed at 'middle'"):
        place(4, [], [], 1.0, at="middle")


def test_a_group_estimator_would_lose_the_placement():
    """Why VSRM refuses them: two placements of one sum have one z-score."""
    here, there = place(6, [(0, 1)], [0.4], 1.0), place(6, [(3, 4)], [0.4], 1.0)
    assert group_zscore(np.array([here.sum(), there.sum()]), np.zeros(2)).tolist() == [0.0, 0.0]
    assert (returns(here) != returns(there)).any()


def tokenised(*words):
    """(text, offsets) of words that are one token each, found as for a real tokenizer; the last one is an end token without text."""
    vocabulary = [*words, ""]
    ids = range(len(vocabulary))
    return "".join(vocabulary), token_offsets(ids, lambda some: "".join(vocabulary[i] for i in some))


def test_states_and_steps_of_a_closed_trace():
    text, offsets = tokenised("<think>", "3+4", "=7", ". ", "wait", " no", ".\n\n", "But", " yes", "</think>", "7")
    found = segment(text, SMALL)
    assert states(text, found, offsets) == [State(4, True), State(7, True), State(10, False)]
    assert step_tokens(text, found, offsets) == [(4, 6), (7, 8)]
    # The token that ends a sentence holds the blank where the next one begins: the released code would cut it off.
    assert states(text, found, offsets, parity=True)[:2] == [State(3, True), State(7, True)]
    assert step_tokens(text, found, offsets, parity=True) == [(3, 6), (7, 8)]


def test_an_unclosed_trace_is_closed_whole_or_after_seven_characters():
    text, offsets = tokenised("<think>", "3+4", ".", " wait", " no", ".")
    found = segment(text, SMALL)
    assert states(text, found, offsets) == [State(3, True), State(6, True)]
    assert states(text, found, offsets, parity=True)[-1] == State(1, False)
    assert step_tokens(text, found, offsets) == [(3, 5)]


@pytest.mark.parametrize(
    ("words", "last"),
    [
        (("<think>", "a", "</think>", "7"), State(3, False)),
        (("no", " tags", " wait"), State(3, True)),
        (("a", "</think>", "7"), State(2, False)),
        (("<think>",), State(1, True)),
    ],
)
def test_without_steps_only_the_whole_thinking_is_a_state(words, last):
    text, offsets = tokenised(*words)
    found = segment(text, SMALL)
    assert states(text, found, offsets) == [last]
    assert step_tokens(text, found, offsets) == []


def test_two_splits_within_one_token_share_it_and_their_rewards_add_up():
    text, offsets = tokenised("<think>", "a. wait. but", " c", "</think>")
    found = segment(text, SMALL)
    spans = step_tokens(text, found, offsets)
    assert len(found.splits) == 2 and spans == [(1, 1), (1, 2)]
    assert place(5, spans, [0.4, 0.2], 1.0, at="start") == pytest.approx([0, 0.6, 0, 0, 1.0])
    assert place(5, spans, [0.4, 0.2], 1.0) == pytest.approx([0, 0.4, 0.2, 0, 1.0])


def test_the_worked_trajectory_end_to_end():
    """E.2: 3 splits, 5 continuations for each of 4 states, 40 tokens."""
    step2, step3, step4 = ["wait"] + [" a"] * 6 + ["."], ["But"] + [" b"] * 7 + ["."], ["Hmm"] + [" c"] * 5 + ["."]
    words = ["<think>"] + [" x"] * 8 + ["."] + step2 + step3 + step4 + ["</think>", "8", "6", "!", "."]
    text, offsets = tokenised(*words)
    found = segment(text, SMALL)
    spans = step_tokens(text, found, offsets)
    assert len(offsets) == 40 and spans == SPANS
    whole = states(text, found, offsets)
    assert [state.tokens for state in whole] == [10, 18, 27, 35] and [state.close for state in whole] == [True] * 3 + [False]
    verdicts = [[True] * right + [False] * (5 - right) for right in (1, 3, 3, 5)]
    assert sum(map(len, verdicts)) == 5 * (len(found.splits) + 1)
    rewards = place(40, spans, propagate(step_accuracies(verdicts)), OutcomeRewards().of("correct"))
    assert returns(rewards)[[0, 18, 27, 34]] == pytest.approx([2.08, 1.68, 1.4, 1.0])


WORDS = st.sampled_from(["<think>", "</think>", "wait", " But", ". ", "\n", " x", "12", " hmm", "."])


@given(st.lists(WORDS, max_size=30), st.booleans())
def test_any_trace_has_one_state_more_than_steps_and_steps_in_order(words, parity):
    text, offsets = tokenised(*words)
    found = segment(text, SMALL)
    spans, whole = step_tokens(text, found, offsets, parity=parity), states(text, found, offsets, parity=parity)
    assert len(whole) == len(found.splits) + 1 and len(spans) == len(found.splits)
    assert all(0 <= first <= last < len(offsets) for first, last in spans)
    assert all(a[0] <= b[0] and a[1] <= b[1] for a, b in pairwise(spans))
    assert all(0 <= state.tokens <= len(offsets) for state in whole)
    if not parity:
        assert [state.tokens for state in whole[:-1]] == [first for first, _ in spans]
        assert all(a.tokens <= b.tokens for a, b in pairwise(whole))
    rewards = place(len(offsets), spans, [0.1] * len(spans), 1.0)
    assert rewards.sum() == pytest.approx(1.0 + 0.1 * len(spans))
