"""Tool calls in a policy's text: what is read, what is dropped, and what makes a turn malformed."""

import json

import pytest

from assay.environments.tools.parser import DEEPEST, parse_turn
from assay.rewards.tool_use import Call, State, turn_reward

GOOD = '<tool_call>\n{"name": "finder", "arguments": {"town": "Kestwick"}}\n</tool_call>'
OTHER = '<tool_call>{"name": "lookup", "arguments": {}}</tool_call>'


def calls(text):
    return [(call.name, call.arguments) for call in parse_turn(text).calls]


def test_a_call_is_read_with_the_text_before_it():
    turn = parse_turn(f"I look it up.\n{GOOD}<|im_end|>\n<|endoftext|>")
    assert (turn.content, calls(GOOD), turn.dropped) == ("I look it up.\n", [("finder", {"town": "Kestwick"})], ())
    assert calls(GOOD + "\n" + OTHER) == [("finder", {"town": "Kestwick"}), ("lookup", {})]


def test_text_without_a_tag_has_no_calls_and_loses_only_end_markers():
    assert parse_turn("brelite <|im_end|><|endoftext|>").content.strip() == "brelite"
    assert parse_turn(" two\nlines ").content == " two\nlines "
    assert parse_turn("lost </tool_call>").content == "lost </tool_call>"


def test_a_missing_close_tag_and_arguments_as_text_are_accepted():
    assert calls('<tool_call>{"name": "f", "arguments": {"a": 1}}') == [("f", {"a": 1})]
    assert calls('<tool_call>{"name": "f", "arguments": "{\\"a\\": 1}"}</tool_call>') == [("f", {"a": 1})]
    assert calls('<tool_call>{"name": "f", "arguments": {"a": 1}}<|im_end|>') == [("f", {"a": 1})]


def test_text_between_two_calls_kills_the_second_one():
    turn = parse_turn(f"{GOOD} and then {OTHER}")
    assert [call.name for call in turn.calls] == ["finder"]
    assert [piece.why for piece in turn.dropped] == ["text before the open tag"]


def test_a_bad_call_beside_a_good_one_does_not_count():
    turn = parse_turn(f"<tool_call>{{bad</tool_call>{GOOD}")
    assert (len(turn.calls), len(turn.dropped)) == (1, 1)


@pytest.mark.parametrize(
    "body",
    [
        "{bad",
        "",
        "null",
        "[1, 2]",
        '"text"',
        "7",
        '{"name": "f"}',
        '{"arguments": {}}',
        '{"name": "", "arguments": {}}',
        '{"name": null, "arguments": {}}',
        '{"name": 5, "arguments": {}}',
        '{"name": ["f"], "arguments": {}}',
        '{"name": "f", "arguments": null}',
        '{"name": "f", "arguments": [1]}',
        '{"name": "f", "arguments": 3}',
        '{"name": "f", "arguments": "not json"}',
        '{"name": "f", "arguments": "[1]"}',
        '{"name": "f", "arguments": {}} trailing',
        '{"name": "f", "arguments": {"n": ' + "9" * 5000 + "}}",
        "[" * 100_000,
        '<tool_call>{"name": "f", "arguments": {}}',
        "{'name': 'f', 'arguments': {}}",
    ],
    ids=lambda body: body[:30],
)
def test_what_is_no_call_leaves_the_turn_whole_and_malformed(body):
    text = f"brelite <tool_call>{body}</tool_call>"
    turn = parse_turn(text)
    assert (turn.calls, turn.content, len(turn.dropped)) == ((), text, 1)
    assert turn_reward(turn.content, [], State({"f": ["x"]}, "brelite")).reward == -0.3


def test_arguments_that_are_nested_beyond_reason_are_no_call_at_any_depth():
    def call(depth, opens, closes):
        return f'<tool_call>{{"name": "f", "arguments": {{"a": {opens * depth}1{closes * depth}}}}}</tool_call>'

    for depth in (1, DEEPEST - 1, DEEPEST, 200, 480, 900, 985, 995, 2000, 100_000):
        for opens, closes in (("[", "]"), ('{"b": ', "}")):
            turn = parse_turn(call(depth, opens, closes))
            assert (len(turn.calls), len(turn.dropped)) == ((1, 0) if depth < DEEPEST else (0, 1))
            calls = [Call(one.name, one.arguments, "x") for one in turn.calls]
            reward = turn_reward(turn.content, calls, State({"f": ["x"]}, "brelite"), echo_guard=True).reward
            assert reward == (1.0 if depth < DEEPEST else -0.3)
    text = json.dumps({"name": "f", "arguments": json.dumps({"a": json.loads("[" * 70 + "]" * 70)})})
    assert parse_turn(f"<tool_call>{text}</tool_call>").dropped[0].why == f"the arguments are nested more than {DEEPEST} deep"


def test_an_open_tag_in_the_thinking_spoils_the_turn():
    text = f"<think>I use <tool_call> now</think>\n{GOOD}"
    turn = parse_turn(text)
    assert (turn.calls, turn.content) == ((), text)


def test_open_tag_alone_is_malformed_and_blank_pieces_are_none():
    assert parse_turn("<tool_call>").dropped[0].raw == "<tool_call>"
    assert len(parse_turn(f"{GOOD}\n \n</tool_call>").dropped) == 0


def test_every_prefix_of_a_call_is_read_without_an_error():
    text = f"see {GOOD}{OTHER}"
    counts = [len(parse_turn(text[:end]).calls) for end in range(len(text) + 1)]
    assert (counts[0], counts[-1], max(counts)) == (0, 2, 2)
    assert json.loads(parse_turn(text).calls[0].raw.removeprefix("<tool_call>"))["name"] == "finder"
