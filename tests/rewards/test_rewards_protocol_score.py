"""SCORE: the tables of the method file (C.2, C.6, E.3), its switches, and what must never change it."""

import json
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from protocol_example import ADD, DISCARD, GOLD, MIX, SPIN, STEPS, written

from assay.rewards.protocol import ScoreOptions, combine, parse, read_gold, score
from assay.rewards.protocol.score import (
    length_penalty,
    object_overlap,
    parameter_overlap,
    position_decay,
    step_scale,
    strict_order,
    tolerance,
)

STEPS_OF_GOLD = read_gold(GOLD)
NINE = ("spin", ["tube"], ["300 xg", "9 min"])


def of(text, **options):
    return score(text, STEPS_OF_GOLD, ScoreOptions(**options))


@pytest.mark.parametrize(
    ("text", "options", "expected"),
    [
        (written(STEPS), {}, (1, 1, 1.5, 2.5, 2.5)),
        (written([ADD, SPIN, DISCARD]), {}, (0.7071, 1, 1.375, 2.375, 1.6794)),
        (written([ADD, SPIN, MIX, DISCARD]), {}, (1, 0, 1.4375, 1.4375, 1.4375)),
        (written([ADD, SPIN, MIX, DISCARD]), {"order": "lcs"}, (1, 0.75, 1.4375, 2.1875, 2.1875)),
        (written([ADD, MIX, ("wait", [], []), SPIN, DISCARD]), {}, (0.7071, 1, 1.40625, 2.40625, 1.7015)),
        (written([ADD, MIX, NINE, DISCARD]), {}, (1, 1, 1.45, 2.45, 2.45)),
        (written([ADD, MIX, NINE, DISCARD]), {"parameter_overlap": "strings"}, (1, 1, 1.4167, 2.4167, 2.4167)),
        (written([("add", ["water"], ["5 ml"]), MIX, SPIN, DISCARD]), {}, (1, 1, 1.125, 2.125, 2.125)),
        (written(STEPS, words=60), {}, (0.5, 1, 1.5, 2.5, 1.25)),
        (written([ADD, MIX]), {}, (0, 1, 1.5, 2.5, 0)),
    ],
)
def test_the_worked_table(text, options, expected):
    found = of(text, **options)
    assert (found.format, found.consistency) == (1.0, 1.0)
    values = (found.scale, found.order, found.content, found.meaning, found.total)
    assert values == pytest.approx(expected, abs=6e-5)


@pytest.mark.parametrize(
    ("change", "format_gate", "consistency_gate", "coverage", "total"),
    [
        (lambda text: text, 1, 1, 1.0, 2.5),
        (lambda text: text.replace("at 300 xg", "at high speed"), 1, 0, 11 / 12, 0),
        (lambda text: text.replace('"', "'"), 0, 0, 0, 0),
        (lambda text: text.replace("<note>Balance the rotor.</note>", ""), 0, 0, 0, 0),
        (lambda text: text.replace("</orc>", "Step 5: Rest.\n</orc>"), 1, 0, 1.0, 0),
        (lambda text: text.replace('Step 3: {"', 'Step 4: {"'), 0, 0, 8 / 12, 0),  # the fourth line discards
    ],
)
def test_the_gates_on_small_variations(change, format_gate, consistency_gate, coverage, total):
    found = of(change(GOLD))
    assert (found.format, found.consistency, found.total) == (format_gate, consistency_gate, total)
    assert found.coverage == pytest.approx(coverage)


def test_the_step_scale_falls_as_a_cosine():
    tables = {4: [1, 0.7071, 0], 5: [1, 0.8660, 0.5, 0], 6: [1, 0.8660, 0.5, 0], 10: [1, 0.9659, 0.8660, 0.7071, 0.5, 0.2588, 0]}
    for gold, values in (tables | {1: [1, 0], 2: [1, 0], 3: [1, 0]}).items():
        assert [step_scale(gold + d, gold) for d in range(len(values))] == pytest.approx(values, abs=6e-5)
        assert [step_scale(gold - d, gold) for d in range(min(gold, len(values)))] == pytest.approx(values[:gold], abs=6e-5)
    assert [tolerance(n) for n in (1, 2, 3, 4, 5, 10, 35)] == [1, 1, 1, 2, 3, 6, 21]


def test_the_position_decay():
    assert [position_decay(1 + d, 1, 4) for d in range(5)] == pytest.approx([1, 0.875, 0.6464, 0.3505, 0], abs=6e-5)
    assert [position_decay(1, 1 + d, 5) for d in range(6)] == pytest.approx([1, 0.9106, 0.7470, 0.5352, 0.2845, 0], abs=6e-5)
    assert position_decay(9, 1, 4) == 0.0


def test_the_length_penalty_starts_above_thirty_words():
    assert [length_penalty(words) for words in (0, 30, 45, 60)] == [1, 1, 1.5, 2]
    assert of(written(STEPS, words=30)).length_penalty == 1.0


def test_no_action_in_common_is_worth_nothing():
    found = of(written([("cut", ["leaf"], []), ("dry", ["leaf"], []), ("burn", ["leaf"], []), ("mourn", ["leaf"], [])]))
    assert (found.format, found.consistency, found.scale) == (1, 1, 1)
    assert (found.order, found.content, found.meaning, found.total) == (0, 0, 0, 0)


def test_a_repeated_action_is_a_super_sequence_that_the_scale_refuses():
    found = score(written([ADD, ADD]), read_gold(written([ADD])))
    assert (found.order, found.tolerance, found.scale, found.total) == (1, 1, 0, 0)


def test_up_to_three_gold_steps_any_other_number_of_steps_is_worth_nothing():
    for gold in (1, 2, 3):
        wanted = read_gold(written(STEPS[:gold]))
        assert score(written(STEPS[: gold + 1]), wanted).total == 0.0
        assert score(written(STEPS[:gold]), wanted).total == 2.5


def test_an_early_step_that_is_missing_shifts_all_later_pairs():
    found = of(written([MIX, SPIN, DISCARD]))
    assert [(step.number, step.aligned) for step in found.steps] == [(1, 2), (2, 3), (3, 4)]
    assert [step.decay for step in found.steps] == pytest.approx([0.875] * 3)
    assert found.content == pytest.approx(0.875 * 1.5)


def test_actions_outside_the_list_are_stored_and_not_charged():
    text = written([ADD, MIX, ("wait", [], []), SPIN, DISCARD])
    found = score(text, STEPS_OF_GOLD, allowed=["add", "Mix", "spin", "discard"])
    assert found.unknown_actions == ("wait",) and found.total == of(text).total
    assert [step.aligned for step in found.steps] == [1, 2, None, 3, 4]


def test_objects_and_parameters_are_compared_as_sets_with_empty_ones_equal():
    assert object_overlap([], []) == 1 and object_overlap(["tube"], []) == 0
    assert object_overlap(["a", "b"], ["b", "c"]) == pytest.approx(1 / 3)
    assert object_overlap(["red dye"], ["dye"]) == 0.5 and object_overlap(["red dye"], ["dye"], fallback=False) == 0
    assert parameter_overlap([], []) == 1 and parameter_overlap(["5 ml"], []) == 0
    assert parameter_overlap(["300 xg", "9 min"], ["300 xg", "5 min"]) == pytest.approx(0.6)
    assert parameter_overlap(["300 xg", "9 min"], ["300 xg", "5 min"], by="strings") == pytest.approx(1 / 3)


def test_parameters_count_only_where_half_of_the_objects_agree():
    gold = read_gold(written([("mix", ["a", "b", "c"], ["1 s"])]))
    assert score(written([("mix", ["a", "d"], ["1 s"])]), gold).steps[0].parameter_overlap == 0.0
    assert score(written([("mix", ["a", "b"], ["1 s"])]), gold).content == pytest.approx(2 / 3 + 0.5)


def test_order_is_strict_both_ways():
    assert strict_order("abc", "abc") == strict_order("ac", "abc") == strict_order("abxc", "abc") == 1
    assert strict_order("acb", "abc") == strict_order("", "abc") == 0


def test_components_recombine_and_can_be_stored():
    text = written([ADD, MIX, ("wait", [], []), NINE, DISCARD])
    found = of(text)
    parts = json.loads(json.dumps(found.components()))
    assert parts["total"] == parts["format"] * parts["consistency"] * parts["scale"] * parts["meaning"]
    assert parts["scale"] == parts["step_scale"] / parts["length_penalty"] and parts["meaning"] == parts["order"] + parts["content"]
    rows = json.loads(json.dumps(found.step_rows()))
    aligned = [row for row in rows if row["aligned"] is not None]
    assert len(rows) == 5 and sum(row["content"] for row in aligned) / len(aligned) == pytest.approx(parts["content"])
    for row, step in zip(rows, parse(text).key, strict=True):
        assert text[row["start"] : row["end"]] == text[step.start : step.end] and row["words"] == len(row["orc"].split())
        assert row["content"] == pytest.approx(row["decay"] * (row["object_overlap"] + 0.5 * row["parameter_overlap"]))


def test_each_ablation_changes_what_it_should_and_nothing_else():
    short, long, turned = written([ADD, SPIN, DISCARD]), written(STEPS, words=60), written([ADD, SPIN, MIX, DISCARD])
    assert of(short, step_scale=False).total == pytest.approx(2.375)
    assert of(long, length_penalty=False).total == 2.5
    assert of(short, position_decay=False).total == pytest.approx(0.70711 * 2.5, abs=1e-4)
    assert of(turned, order="off").total == of(turned).content
    assert of(written([ADD, MIX, NINE, DISCARD]), parameters=False).content == 1.0
    assert of(written([("add", ["water"], ["5 ml"]), *STEPS[1:]]), objects=False).content == 1.5
    assert of(GOLD.replace("<note>Balance the rotor.</note>", ""), format_gate=False, consistency_gate=False).total == 0.0
    assert of("Sure! " + GOLD, format_gate=False).total == 2.5
    assert of(GOLD.replace("300 xg for", "speed for"), consistency_gate=False).total == 2.5
    assert of(GOLD.replace("300 xg for", "speed for"), coverage=0.9).total == 2.5
    shuffled = written([ADD, SPIN, MIX, DISCARD])
    assert [step.aligned for step in of(shuffled, alignment="parity").steps] == [1, 3, None, None]


@pytest.mark.parametrize(
    ("order", "combination", "denominator", "final"),
    product(("strict", "lcs"), ("sum", "product"), ("matched", "max_len"), ("product", "sum")),
)
def test_the_switch_matrix(order, combination, denominator, final):
    options = ScoreOptions(order=order, combine=combination, denominator=denominator, final=final)
    perfect = score(GOLD, STEPS_OF_GOLD, options)
    assert perfect.total == pytest.approx(options.maximum) == pytest.approx((2.5 if combination == "sum" else 1.5) + (final == "sum"))
    text = written([ADD, MIX, ("wait", [], []), SPIN, DISCARD])
    found = score(text, STEPS_OF_GOLD, options)
    content = 1.40625 if denominator == "matched" else 1.40625 * 4 / 5
    rank = 1.0 if order == "strict" else 8 / 9
    meaning = rank + content if combination == "sum" else rank * content
    assert found.total == pytest.approx(0.70711 * meaning if final == "product" else 0.70711 + meaning, abs=1e-4)
    assert score("no protocol", STEPS_OF_GOLD, options).total == 0.0


UNIT = st.floats(0, 1)
MODES = st.builds(
    ScoreOptions,
    order=st.sampled_from(["strict", "lcs", "off"]),
    combine=st.sampled_from(["sum", "product"]),
    final=st.sampled_from(["product", "sum"]),
)


@given(UNIT, UNIT, st.floats(0, 1.5), UNIT, st.sampled_from(["scale", "order", "content", "format", "consistency"]), MODES)
def test_a_better_component_never_lowers_the_score(scale, order, content, more, which, options):
    parts = {"scale": scale, "order": order, "content": content, "format": 0.0, "consistency": 1.0 if which == "format" else 0.0}
    if which not in ("format", "consistency"):
        parts |= {"format": 1.0, "consistency": 1.0}
    if which == "consistency":
        parts["format"] = 1.0
    better = parts | {which: max(parts[which], more) if which not in ("format", "consistency") else 1.0}

    def total(of):
        return combine(bool(of["format"]), bool(of["consistency"]), of["scale"], of["order"], of["content"], options)

    assert total(better) >= total(parts) >= 0.0
    assert total(better) <= options.maximum


NAMES = st.sampled_from(["buffer", "tube", "red dye", "dye", "salt"])
AMOUNTS = st.sampled_from(["5 ml", "10 s", "4 c"])
PROTOCOLS = st.lists(
    st.tuples(st.sampled_from("abcd"), st.lists(NAMES, max_size=3, unique=True), st.lists(AMOUNTS, max_size=2, unique=True)),
    min_size=1,
    max_size=6,
)


@given(PROTOCOLS, PROTOCOLS)
def test_scores_stay_in_range_and_a_gold_scores_its_maximum_against_itself(predicted, gold):
    wanted = read_gold(written(gold))
    assert score(written(gold), wanted).total == pytest.approx(2.5)
    found = score(written(predicted), wanted)
    assert 0.0 <= found.total <= 2.5 and found.format == found.consistency == 1.0
    assert 0 <= found.order <= 1 and 0 <= found.content <= 1.5 and found.lcs <= 1


@given(PROTOCOLS, PROTOCOLS, st.randoms(use_true_random=False))
def test_order_of_objects_of_json_keys_and_case_of_the_orc_do_not_matter(predicted, gold, random):
    wanted = read_gold(written(gold))
    first = written(predicted)
    key = []
    for number, (action, objects, parameters) in enumerate(predicted, 1):
        mixed = random.sample(objects, len(objects)), random.sample(parameters, len(parameters))
        fields = {"parameters": mixed[1], "objects": mixed[0], "action": action}
        key.append(f"Step {number}: {json.dumps(fields, separators=(',', ':'))}")
    orc = first[first.index("<orc>") + 5 : first.index("</orc>")].strip()
    second = written(predicted, key="\n".join(key), orc=orc.upper().replace("STEP", "Step"))
    assert score(second, wanted).total == pytest.approx(score(first, wanted).total)


def test_no_two_steps_may_be_exchanged_and_a_gold_without_steps_is_refused():
    exchanged = [[*STEPS[:i], STEPS[j], *STEPS[i + 1 : j], STEPS[i], *STEPS[j + 1 :]] for i in range(4) for j in range(i + 1, 4)]
    assert [of(written(steps)).order for steps in exchanged] == [0.0] * 6
    with pytest.raises(ValueError, match="no steps"):
        score(GOLD, ())
