"""The Sketch-and-Fill format: positions, the format gate, the rules for golds, the gate between key and orc."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from protocol_example import ADD, GOLD, MIX, STEPS, written

from assay.rewards.protocol import BLOCKS, GoldError, consistency, parse, read_gold, read_leniently, score, validate


def codes(text, **options):
    return [problem.code for problem in parse(text, **options).problems]


def test_every_part_is_found_at_its_position():
    parsed = parse(GOLD)
    assert parsed.well_formed and list(parsed.blocks) == list(BLOCKS)
    assert GOLD[parsed.blocks["note"].start : parsed.blocks["note"].end] == "Balance the rotor."
    spin = parsed.key[2]
    assert (spin.number, spin.action, spin.objects, spin.parameters) == (3, "spin", ("tube",), ("300 xg", "5 min"))
    assert GOLD[spin.start : spin.end].startswith('Step 3: {"action": "spin"')
    assert json.loads(GOLD[spin.json_start : spin.end])["parameters"] == ["300 xg", "5 min"]
    line = parsed.orc[2]
    assert GOLD[line.start : line.end] == "Step 3: Spin the tube at 300 xg for 5 min."
    assert GOLD[line.sentence_start : line.end] == line.sentence == "Spin the tube at 300 xg for 5 min." and line.words == 9


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda text: text.replace("<note>Balance the rotor.</note>", ""), "block"),
        (lambda text: text.removesuffix("</note>"), "block"),
        (lambda text: text[text.index("<key>") :] + text[: text.index("<key>")], "block"),
        (lambda text: text + "\n<note>again</note>", "block"),
        (lambda text: text.replace("Buffer goes", "<key> goes"), "block"),
        (lambda text: "Sure! " + text, "outside"),
        (lambda text: text + " That is all.", "outside"),
        (lambda text: text.replace("</key>", "</key> then"), "outside"),
        (lambda text: text.replace("Balance the rotor.", " \n"), "empty"),
        (lambda text: text.replace('"', "'"), "key_line"),
        (lambda text: text.replace("Step 2: {", "2. {"), "key_line"),
        (lambda text: text.replace('"parameters": []}', '"parameters": []'), "key_line"),
        (lambda text: text.replace('Step 4: {"action"', 'Step 4: {"action": "mix", "action"'), "key_line"),
        (lambda text: text.replace('{"action": "mix"', '["action", "mix"]{"x": "mix"'), "key_line"),
        (lambda text: text.replace('["buffer"]', "[" * 5000), "key_line"),
        (lambda text: text.replace('["buffer"]', "9" * 5000), "key_line"),
        (lambda text: text.replace(', "parameters": []', ""), "fields"),
        (lambda text: text.replace('"parameters": []', '"parameters": [], "note": "x"'), "fields"),
        (lambda text: text.replace('["buffer"]', '"buffer"'), "fields"),
        (lambda text: text.replace('["buffer"]', '["buffer", 3]'), "fields"),
        (lambda text: text.replace('["buffer"]', '[""]'), "fields"),
        (lambda text: text.replace('["buffer"]', '["\\ud800"]'), "fields"),  # half a character, which nothing could store
        (lambda text: text.replace('"add"', "null"), "fields"),
        (lambda text: text.replace('"add"', '{"a": 1}'), "fields"),
        (lambda text: text.replace('Step 3: {"', 'Step 4: {"'), "numbering"),
    ],
)
def test_each_failure_of_the_format_has_its_code_and_scores_exactly_zero(change, code):
    text = change(GOLD)
    assert text != GOLD and codes(text)[0] == code
    found = score(text, read_gold(GOLD))
    assert (found.format, found.total, found.format_reason) == (0.0, 0.0, code)


def test_numbering_can_be_left_to_the_model():
    text = GOLD.replace('Step 3: {"', 'Step 7: {"').replace("Step 3: Spin", "Step 7: Spin")
    assert codes(text) == ["numbering"] and codes(text, numbering=False) == []


def test_white_space_around_blocks_and_lines_is_free():
    text = "\n " + GOLD.replace("\nStep", "\n\n   Step").replace("</key>", "  </key>").replace("\n", "\r\n") + "\n"
    assert codes(text) == [] and score(text, read_gold(GOLD)).total == 2.5


def test_line_separators_of_unicode_stay_inside_a_string():
    assert parse(GOLD.replace("supernatant", "super\u2028natant")).key[3].objects == ("super\u2028natant",)


def test_thousands_of_steps_are_read_and_scored():
    text = written([ADD, MIX] * 4000)
    found = score(text, read_gold(GOLD))
    assert (found.predicted_steps, found.format, found.total) == (8000, 1.0, 0.0)


PARTS = ("<think>", "</think>", "<key>", "</key>", "<orc>", "</note>", "<note>", 'Step 1: {"action"', "}", "\n", "x")


@given(st.lists(st.sampled_from(PARTS)))
def test_no_text_makes_the_parser_raise_and_only_the_whole_format_passes(parts):
    text = "".join(parts)
    parsed = parse(text)
    assert not parsed.well_formed
    assert all(0 <= problem.position <= len(text) for problem in parsed.problems)
    read_leniently(text)


def test_the_gold_is_valid_and_every_broken_rule_is_named():
    assert validate(GOLD) == [] and [step.action for step in read_gold(GOLD)] == ["add", "mix", "spin", "discard"]
    broken = {
        '"tube"], "parameters": ["10 s"]': ('"Tube"], "parameters": ["10 s"]', "not lowercase"),
        "Step 4: Discard the": ("Step 5: Discard the", "not numbered 1..n"),
        "Step 4: Discard the supernatant.": ("Step 4: Discard it.\nStep 5: Rest.", "<key> has 4 lines and <orc> 5"),
        "at 300 xg": ("at high speed", "step 3 of <orc> does not mention '300 xg'"),
        "Balance the rotor.": ("", "<note> is empty"),
        'Step 2: {"action"': ('Step 3: {"action"', "not numbered in order"),
    }
    for old, (new, problem) in broken.items():
        text = GOLD.replace(old, new)
        assert any(problem in said for said in validate(text)), (new, validate(text))
        with pytest.raises(GoldError, match="not a valid protocol"):
            read_gold(text)


def test_coverage_counts_actions_objects_and_parameters_at_the_same_step():
    gate = consistency(parse(GOLD))
    assert (gate.items, gate.coverage, gate.passes()) == (12, 1.0, True)
    gate = consistency(parse(GOLD.replace("at 300 xg", "at high speed")))
    assert gate.missing == ((3, "300 xg"),) and gate.coverage == pytest.approx(11 / 12) and not gate.passes()
    add, mix = "Add 5 ml of buffer.", "Mix the tube for 10 s."
    exchanged = GOLD.replace(f"Step 1: {add}\nStep 2: {mix}", f"Step 1: {mix}\nStep 2: {add}")
    assert len(consistency(parse(exchanged)).missing) == 6
    shouted = GOLD.replace("Spin the tube at 300 xg", "SPIN   the TUBE at 300  XG")
    assert consistency(parse(shouted)).coverage == 1.0


def test_one_missing_item_of_twenty_five_passes_and_of_twelve_does_not():
    steps = [("add", [f"a{i}", f"b{i}"], [f"{i} ml", f"{i} s"]) for i in range(1, 6)]
    text = written(steps).replace("Step 5: add a5 b5 5 ml 5 s", "Step 5: add a5 b5 5 ml")
    gate = consistency(parse(text))
    assert (gate.items, gate.coverage, gate.passes()) == (25, 0.96, True)
    assert score(text, read_gold(written(steps))).total == 2.5


def test_repeating_an_item_does_not_cover_another():
    text = written([("add", ["buffer"] * 50, ["5 ml"]), *STEPS[1:]]).replace("5 ml\nStep 2: mix", "much\nStep 2: mix")
    gate = consistency(parse(text))
    assert gate.items == 12 and not gate.passes()


def test_empty_lists_bring_no_items_and_no_orc_line_no_words():
    gate = consistency(parse(written([("wait", [], [])])))
    assert (gate.items, gate.passes()) == (1, True)
    assert consistency(parse("nothing")).coverage == 0.0


def test_the_lenient_reading_skips_bad_lines_and_takes_the_whole_text_for_a_missing_block():
    lines, steps, orc = read_leniently(GOLD.replace('Step 2: {"action": "mix"', "Step 2: {mix"))
    assert len(lines) == 4 and [step.action for step in steps] == ["add", "spin", "discard"] and orc.startswith("Step 1: Add")
    lines, steps, orc = read_leniently("first\n\nsecond")
    assert (lines, steps, orc) == (["first", "second"], (), "")
