"""Rewards of turns with tools (FTRL): the table, the order of its cases, matching, metrics, and the guard against echoes."""

import json

import pytest

from assay.rewards.tool_use import (
    Call,
    State,
    as_text,
    episode_metrics,
    normalise,
    says_only,
    solve,
    turn_reward,
    verifies,
)
from assay.verifiers.tool_use import judge

HIT = [Call("finder", {"place": f"town {index}"}, f"value{index}") for index in range(5)]
MISS = Call("other", {}, "nothing of use")


def solved(p, q, variant="f1"):
    """Reward of a turn with p calls that solve q of five sub-answers."""
    state = State({"finder": [f"value{index}" for index in range(5)]}, "the end")
    return turn_reward("", HIT[:q] + [MISS] * (p - q), state, variant=variant)


def text_reward(text, t=0, answer="Brelite", solve_rate=0.0, **options):
    return turn_reward(text, [], State({"finder": ["x"] * t}, answer, solve_rate), **options)


@pytest.mark.parametrize("p", range(1, 6))
def test_the_reward_table_holds_up_to_five_calls(p):
    for q in range(p + 1):
        turn = solved(p, q)
        assert turn.reward == pytest.approx(2 * q / (p + 1)) and turn.branch == "f1"
        assert (turn.t, turn.p, turn.q, sum(map(len, turn.unsolved.values()))) == (5, p, q, 5 - q)
        assert solved(p, q, "precision").reward == pytest.approx(q / p)
        assert solved(p, q, "recall").reward == q
        assert solved(p, q, "precision_times_recall").reward == pytest.approx(q * q / p)


def test_printed_values_of_the_table():
    table = {(1, 1): 1.0, (1, 0): 0.0, (2, 2): 4 / 3, (2, 1): 2 / 3, (3, 3): 1.5, (3, 1): 0.5, (4, 4): 1.6, (5, 5): 5 / 3}
    assert {pair: solved(*pair).reward for pair in table} == pytest.approx(table)


def test_cases_without_calls_come_in_their_order():
    assert (text_reward("").reward, text_reward(" \n").branch) == (-0.5, "empty")
    for tag in ("<tool_call>{bad", "lost </tool_call>", "<tool_parsed_response>"):
        turn = text_reward(f"{tag} brelite", solve_rate=1.0)
        assert (turn.reward, turn.branch) == (-0.3, "malformed")  # although it holds the answer
    assert text_reward("It is BRELITE.", solve_rate=1.0).branch == "answer"
    assert (text_reward("unknown", solve_rate=1.0).reward, text_reward("unknown", solve_rate=1.0).branch) == (0.5, "done_noanswer")
    assert (text_reward("unknown", 2, solve_rate=0.5).reward, text_reward("unknown", 2).branch) == (0.0, "zero")


def test_an_answer_is_worth_less_the_more_is_unsolved():
    assert [text_reward("brelite", t).reward for t in range(4)] == pytest.approx([1, 1 / 2, 1 / 3, 1 / 4])


def test_the_done_bonus_is_a_parameter_and_a_missing_answer_is_never_found():
    assert text_reward("unknown", solve_rate=1.0, done_bonus=0.2).reward == 0.2
    for answer in (None, "", " , "):
        assert text_reward("anything", answer=answer).branch == "zero"


def test_the_final_answer_is_compared_without_commas_and_unsplit():
    assert text_reward("they are ada, BO", answer="Ada, Bo").reward == 1.0
    assert text_reward("Bo and Ada", answer="Ada, Bo").reward == 0.0
    assert text_reward("it has 1024 people", answer="1,024").reward == 1.0


def test_the_test_split_and_unknown_variants_are_refused():
    with pytest.raises(ValueError, match="test split"):
        turn_reward("a", [], State({}, "a", split="test"))
    with pytest.raises(ValueError, match="precision_times_recall"):
        turn_reward("a", [], State({}, "a"), variant="f2")


def test_sub_answers_are_found_as_the_code_finds_them():
    assert verifies("1,024 GB", "1,024") and verifies("c a b", "c, a, b")
    assert verifies("The 2012", "12")  # the known weakness
    assert not verifies("a", "c, a")
    assert not any(verifies("anything", gold) for gold in (",", "", " ", ", ,")) and verifies("anything", "any, ")
    assert as_text({"value": "Köln", "n": [1]}) == '{"value": "Köln", "n": [1]}' and as_text(3.5) == "3.5"
    assert verifies({"value": ["Kestwick", "Ombra"]}, "kestwick, OMBRA")
    assert normalise(" A,B , ") == "ab"


def test_one_call_consumes_at_most_one_answer_and_equal_ones_need_two_calls():
    call = Call("t", {"q": 1}, "1,024 GB")
    first, left = solve(call, {"t": ["1,024", "1,024"]})
    second, rest = solve(call, left)
    third, last = solve(call, rest)
    assert (first.answer, second.answer, third.answer) == ("1,024", "1,024", None)
    assert (left, rest, last) == ({"t": ("1,024",)}, {"t": ()}, {"t": ()})
    both, kept = solve(Call("t", {}, "alpha beta"), {"t": ["beta", "alpha"]})
    assert (both.answer, kept) == ("beta", {"t": ("alpha",)})  # the first of the list


def test_the_same_right_call_twice_in_a_turn_earns_two_thirds():
    turn = turn_reward("", [HIT[0], HIT[0]], State({"finder": ["value0"]}, "end"))
    assert (turn.p, turn.q, turn.reward) == (2, 1, pytest.approx(2 / 3))


def test_a_tool_without_unsolved_answers_costs_a_call():
    turn = turn_reward("", [HIT[0], Call("other", {}, "value1")], State({"finder": ["value0", "value1"], "other": []}, "end"))
    assert (turn.p, turn.q, turn.unsolved) == (2, 1, {"finder": ("value1",), "other": ()})


def test_an_answer_that_is_said_back_is_always_flagged_and_earns_nothing_under_the_guard():
    echo = Call("finder", {"nested": {"place": ["VALUE0"]}}, "Error: no place VALUE0")
    state = State({"finder": ["value0"]}, "end")
    faithful, guarded = turn_reward("", [echo], state), turn_reward("", [echo], state, echo_guard=True)
    assert (faithful.reward, faithful.matches[0].answer, faithful.matches[0].echo) == (1.0, "value0", True)
    assert (guarded.reward, guarded.matches[0].answer, guarded.matches[0].echo) == (0.0, None, True)
    assert guarded.unsolved == {"finder": ("value0",)}
    by_name = Call("finder", {"value0": 1}, "unexpected argument value0")
    assert turn_reward("", [by_name], state, echo_guard=True).q == 0
    honest = turn_reward("", [HIT[0]], state, echo_guard=True)
    assert (honest.reward, honest.matches[0].echo) == (1.0, False)


def test_the_guard_passes_over_an_echo_and_still_takes_an_answer_behind_it():
    call = Call("finder", {"place": "value0"}, "value0 lies in value1")
    match, left = solve(call, {"finder": ["value0", "value1"]}, echo_guard=True)
    assert (match.answer, match.echo, left) == ("value1", False, {"finder": ("value0",)})


def test_metrics_of_an_episode():
    found = episode_metrics(3, 4, 5)
    assert (found.precision, found.strict_precision, found.recall, found.f1) == pytest.approx((0.75, 0.75, 0.6, 6 / 9))
    lazy = episode_metrics(0, 0, 5)
    assert (lazy.precision, lazy.strict_precision, lazy.recall, lazy.f1) == (1.0, 0.0, 0.0, 0.0)


@pytest.mark.parametrize("counts", [(0, 0, 0), (3, 2, 5), (3, 4, 2), (-1, 4, 2)])
def test_impossible_counts_are_refused(counts):
    with pytest.raises(ValueError, match="cannot be"):
        episode_metrics(*counts)


def test_an_answer_with_quotation_marks_is_an_echo_too():
    call = Call("t", {"x": ['the "Velka" suite']}, 'no record for the "Velka" suite')
    match, left = solve(call, {"t": ('the "Velka" suite',)}, echo_guard=True)
    assert (match.answer, match.echo) == (None, True) and left == {"t": ('the "Velka" suite',)}


def test_a_list_of_candidates_holds_the_answer_and_is_not_the_answer_alone():
    assert text_reward("Ann, Brelite, Carl", solve_rate=1.0).branch == "answer"
    assert not says_only("Ann, Brelite, Carl", "Brelite") and not says_only("<think>Brelite</think> Ann", "Brelite")
    for text in ("Brelite", "<think>Ann or Carl?</think>\n**BRELITE**.", '"brelite"'):
        assert says_only(text, "Brelite")
    assert says_only("Bob, Ann", "Bob, Ann") and not says_only("", "")
    turn = {"calls": [], "unsolved": {}, "solve_rate": 1, "echo_guard": False}
    played = {"whole": True, "sub_answers": 1, "rewarded": False, "stop": "answered", "scenario": "single_hop"}
    for content, exact in (("Ann, Brelite", False), ("Brelite", True)):
        found = judge({}, json.dumps(played | {"turns": [turn | {"content": content}]}), "Brelite")
        assert (found.verdict, json.loads(found.components)["exact"]) == ("correct", exact)
