"""Generated protocols: the grammar, plans and their partial order, the eight task types, and what a small policy must be able to hold."""

import os
import re
import subprocess
import sys
from collections import Counter
from functools import cache
from itertools import islice, permutations
from pathlib import Path
from random import Random

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from assay.environments import TaskError
from assay.environments.protocols.environment import ProtocolsEnvironment, corrupted, lines_of
from assay.environments.protocols.executor import execute
from assay.environments.protocols.grammar import LINES, Setup, bench_of, setups
from assay.environments.protocols.materials import HAZARDS, IDLE_ACTIONS, ROLES
from assay.environments.protocols.mutations import MUTATIONS
from assay.environments.protocols.planning import before, layers, orders, plan, reaches
from assay.environments.protocols.questions import moves_of
from assay.environments.protocols.writing import FIXED_PIECES, Line, sentence, sketch_and_fill
from assay.environments.task import Task
from assay.params.protocols import PROTOCOL_TYPES, Protocols
from assay.rewards.protocol import consistency, parse, read_gold, score, validate

ROOT = Path(__file__).parents[2]
CODE = """
from itertools import islice
from assay.environments.protocols.environment import ProtocolsEnvironment
from assay.params.protocols import Protocols
environment = ProtocolsEnvironment("bench", Protocols(), 3)
for candidate in islice(environment.candidates("eval"), 40):
    print(candidate.task.task_id, candidate.task.prompt, repr(candidate.task.gold), candidate.task.meta)
"""
WASH = Setup("wash", "cells", (("wash", "buffer"),), "dry", "washed")
SOLUTION = Setup("solution", "cells", (("sugar", "sugar"), ("solvent", "water"), ("salt", "salt")), "empty", "clear")


def environment(seed=3, **options):
    return ProtocolsEnvironment("bench", Protocols(**options), seed)


@cache
def tasks(split="train", number=200, seed=3, **options):
    return [candidate.task for candidate in islice(environment(seed, **options).candidates(split), number)]


def test_equal_seeds_give_equal_tasks_in_every_process_and_other_seeds_others():
    variables = os.environ | {"PYTHONHASHSEED": "1"}
    said = subprocess.run([sys.executable, "-c", CODE], env=variables, cwd=ROOT, capture_output=True, check=True).stdout.decode()
    assert said.splitlines() == [f"{task.task_id} {task.prompt} {task.gold!r} {task.meta}" for task in tasks("eval", 40)]
    assert len({task.task_id for task in tasks(seed=3)} & {task.task_id for task in tasks(seed=4)}) < 40


def test_a_plan_is_the_shortest_protocol():
    moves = moves_of(WASH)
    assert [move.action for move in moves] == ["add", "mix", "spin", "discard"]
    assert moves[2].parameters == ("300 xg", "5 min") and moves[2].objects == ("tube",)
    bench = bench_of(WASH)
    shorter = [list(chosen) for size in range(1, 4) for chosen in permutations(bench.moves, size)]
    assert not any(reaches(bench, chosen) for chosen in shorter)


def test_every_point_that_leads_to_another_has_a_plan_that_the_grammar_accepts():
    reached = Counter()
    for setup in setups():
        moves = plan(bench_of(setup))
        if moves is not None:
            assert reaches(bench_of(setup), moves)
            assert all(not reaches(bench_of(setup), moves[:length]) for length in range(len(moves)))
            reached[setup.line] += 1
    assert set(reached) == {line.name for line in LINES} and reached.total() > 500


def test_steps_that_commute_are_in_no_pair_and_all_others_are():
    moves = moves_of(SOLUTION)
    assert [move.action for move in moves] == ["add", "add", "add", "mix", "heat", "filter"]
    assert [move.objects[0] for move in moves[:3]] == ["sugar", "water", "salt"]  # as they are at hand
    pairs = before(moves)
    assert not {(1, 2), (1, 3), (2, 3)} & set(pairs) and {(1, 4), (3, 6), (4, 5), (4, 6)} <= set(pairs)
    assert len(list(orders(6, pairs))) == 6 and layers(6, pairs) == [[1, 2, 3], [4], [5], [6]]
    assert before(moves_of(WASH)) == ((1, 2), (1, 3), (1, 4), (2, 3), (2, 4), (3, 4))


def test_exactly_the_orders_that_the_pairs_allow_reach_the_goal():
    for setup in (WASH, SOLUTION, Setup("extract", "yeast", (("detergent", "sds"),), "dry", "collected")):
        moves, bench = moves_of(setup), bench_of(setup)
        allowed = set(orders(len(moves), before(moves)))
        for order in permutations(range(1, len(moves) + 1)):
            assert reaches(bench, [moves[place - 1] for place in order]) == (order in allowed), order


def test_golds_are_valid_full_scores_and_of_the_asked_length():
    for split, (least, most) in {"train": (2, 4), "eval": (2, 4), "ood": (5, 6)}.items():
        for task in tasks(split, 150):
            assert task.split == split and least <= task.difficulty <= most and len(read_gold(task.gold)) == task.difficulty
            assert validate(task.gold) == [] and score(task.gold, read_gold(task.gold)).total == 2.5
            assert Task.from_row(task.to_row()) == task


def test_every_type_and_line_is_asked_about():
    found = tasks(number=600)
    assert set(Counter(task.meta["type"] for task in found)) == set(PROTOCOL_TYPES)
    assert {task.meta["bench"]["line"] for task in found} == {line.name for line in LINES}
    assert min(Counter(task.meta["type"] for task in found).values()) > 40
    assert {task.meta["level"] for task in found if task.meta["type"] in ("overview", "specific")} == {"comprehension"}
    assert len({task.task_id for task in found}) > 590


def test_the_offered_actions_are_those_of_the_gold_and_distractors_in_no_order_of_use():
    places = Counter()
    for task in tasks():
        offered, used = task.meta["actions"], {step.action for step in read_gold(task.gold)}
        assert used < set(offered) and len(set(offered)) == len(offered) and 1 <= len(offered) - len(used) <= 3
        assert task.prompt[0]["content"].endswith("actions: " + ", ".join(offered))
        places[next(action in used for action in offered)] += 1
    assert places[False] > 40
    for task in tasks(distractors=(0, 0), number=50):
        assert set(task.meta["actions"]) == {step.action for step in read_gold(task.gold)}
    assert {action for task in tasks() for action in task.meta["actions"]} & set(IDLE_ACTIONS) == set(IDLE_ACTIONS)


def of_type(kind):
    return [(task, task.meta["bench"], lines_of(task.gold)) for task in tasks(types=(kind,), number=60)]


def test_overviews_have_no_parameters_and_specific_questions_end_within_a_protocol():
    assert all(not line.parameters for _, _, lines in of_type("overview") for line in lines)
    goals = {line.name: line.goals for line in LINES}
    assert all(bench["goal"] not in goals[bench["line"]] for _, bench, _ in of_type("specific"))


def test_retrieval_takes_every_parameter_from_the_sheet():
    for task, bench, lines in of_type("retrieval"):
        sheet = task.prompt[0]["content"].split("sheet: ")[1].split(". actions")[0].split(", ")
        assert {one.split(" ", 1)[0]: one.split(" ", 1)[1] for one in sheet} == {verb: " ".join(v) for verb, v in bench["sheet"].items()}
        assert all(list(line.parameters) == bench["sheet"][line.action] for line in lines if line.action in bench["sheet"])


def test_troubleshooting_shows_a_protocol_that_fails():
    for task, bench, lines in of_type("troubleshooting"):
        tried = task.prompt[0]["content"].split("tried ")[1].split(". actions")[0].split(", ")
        wanted = [line.action for line in lines]
        assert tried != wanted and (sorted(tried) == sorted(wanted) or len(tried) == len(wanted) - 1)
        if sorted(tried) == sorted(wanted) and len(set(wanted)) == len(wanted):
            by_action = {line.action: line for line in lines}
            assert not execute(sketch_and_fill("x", [by_action[action] for action in tried], "y"), bench).reached


def test_constraints_forbid_a_substitute_of_what_is_used():
    role_of = {material: role for role, entry in ROLES.items() for material in entry.materials}
    for task, bench, lines in of_type("constraint"):
        (forbidden,) = bench["without"]
        used = {name for line in lines for name in line.objects}
        assert forbidden not in used and f"no {forbidden}" in task.prompt[0]["content"] and forbidden in bench["have"]
        assert any(role_of.get(name) == role_of[forbidden] for name in used)


def test_scaling_multiplies_every_amount_exactly():
    for task, bench, lines in of_type("scaling"):
        assert f"times {bench['factor']}" in task.prompt[0]["content"]
        for line in lines:
            if line.action == "add":
                (name,), (amount,) = line.objects, line.parameters
                number, unit = bench["have"][name].split()
                assert amount == f"{int(number) * bench['factor']} {unit}" != bench["have"][name]


def test_safety_notes_list_the_hazards_of_what_is_used_and_no_others():
    for task, _, lines in of_type("safety"):
        used = {name for line in lines for name in (line.action, *line.objects)} & set(HAZARDS)
        note = parse(task.gold).blocks["note"]
        assert set(task.gold[note.start : note.end].split(", ")) == {f"{name} {HAZARDS[name]}" for name in used} and used


def test_the_meta_says_which_steps_must_stay_in_order():
    for task in tasks(number=100):
        lines = lines_of(task.gold)
        for order in islice(orders(len(lines), tuple(map(tuple, task.meta["before"]))), 6):
            text = sketch_and_fill("x", [lines[place - 1] for place in order], task.gold.split("<note>")[1].removesuffix("</note>"))
            assert execute(text, task.meta["bench"]).reached


def test_every_object_and_parameter_is_said_in_the_sentence_whatever_the_step():
    assert sentence(Line("spin", ("tube",), ("300 xg", "5 min"))) == "Spin the tube at 300 xg for 5 min."
    assert sentence(Line("add", ("salt", "sugar"), ("2 g",))) == "Add 2 g of salt and sugar."
    assert sentence(Line("stain", ("cells", "eosin"), ("2 min",))) == "Stain the cells with eosin for 2 min."
    for objects in ((), ("tube",), ("tube", "flask")):
        for parameters in ((), ("5 ml",), ("5 ml", "10 s", "4 c")):
            for action in ("add", "spin", "shake"):
                text = sketch_and_fill("x", [Line(action, objects, parameters)], "y")
                assert consistency(parse(text)).coverage == 1.0 and parse(text).well_formed


def test_demonstrations_are_golds_and_with_noise_the_asked_share_has_one_fault():
    clean, noisy = environment(), environment(noise=0.5)
    task = tasks(number=1)[0]
    assert clean.demonstration(task, Random(1)) == task.gold
    shown = [noisy.demonstration(task, Random(seed)) for seed in range(300)]
    assert 110 < sum(text != task.gold for text in shown) < 190
    assert all(parse(text).well_formed and consistency(parse(text)).passes() for text in shown)


@given(st.integers(0, 10_000), st.sampled_from(sorted(MUTATIONS)))
def test_a_mutation_changes_one_thing(seed, kind):
    random = Random(seed)
    lines = [Line("add", ("buffer",), ("5 ml",)), Line("mix", ("tube",), ("10 s",)), Line("spin", ("tube",), ("300 xg", "5 min"))]
    found = MUTATIONS[kind](lines, random)
    assert found != lines and abs(len(found) - 3) == (kind in ("dropped", "duplicated"))
    if kind == "swapped":
        assert sorted(found, key=str) == sorted(lines, key=str)
    if kind in ("misparametered", "misplaced_object"):
        assert sum(one != other for one, other in zip(found, lines, strict=True)) == 1


def test_mutations_leave_alone_what_they_cannot_change():
    single = [Line("image", ("cells",), ())]
    assert [MUTATIONS[kind](single, Random(0)) for kind in ("dropped", "swapped", "misparametered")] == [single] * 3
    assert len(MUTATIONS["duplicated"](single, Random(0))) == 2


def test_pretraining_texts_are_plain_paragraphs():
    task = next(task for task in tasks(number=600) if [line.action for line in lines_of(task.gold)] == ["filter", "store"])
    text = environment().pretraining_text(task)
    assert text.startswith("Hot solution to stored solution. ") and "Filter the solution. Store the solution at" in text
    assert "<" not in text and "{" not in text


def test_a_small_policy_can_hold_prompts_and_golds():
    words = {word for task in [*tasks(number=600), *tasks("ood", 150)] for word in task.prompt[0]["content"].split()}
    assert len({word.strip(".,:") for word in words}) < 160


def test_pieces_cover_most_of_a_gold_and_are_those_of_the_presets():
    found = re.compile("|".join(map(re.escape, sorted(FIXED_PIECES, key=len, reverse=True))))
    for task in [*tasks(number=50), *tasks("ood", 20)]:
        assert sum(map(len, found.findall(task.gold))) > 0.45 * len(task.gold)
    pieces = {
        preset: tuple(yaml.safe_load((ROOT / f"conf/environment/{preset}.yaml").read_text())["policy"]["shape"]["pieces"])
        for preset in ("protocols", "mixed", "mixed_all", "tools")
    }  # fmt: skip
    assert pieces["protocols"] == pieces["mixed"] == FIXED_PIECES and pieces["mixed_all"] == FIXED_PIECES + pieces["tools"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lines": ("wash", "brew")}, "lines.1\n.*'wash', 'extract', 'solution' or 'culture'"),
        ({"lines": ()}, "lines\n.*at least 1 item"),
        ({"types": ()}, "types\n.*at least 1 item"),
        ({"steps": (4, 2)}, r"steps\n.*\[4, 2\] is the wrong way round"),
        ({"steps": (1, 2)}, "steps.0\n.*greater than or equal to 2"),
        ({"ood_steps": (4, 5)}, "ood_steps begins at 4, but steps goes up to 4: leave no overlap"),
        ({"distractors": (3, 1)}, "wrong way round"),
        ({"noise": 1.5}, "noise\n.*less than or equal to 1"),
    ],
)
def test_parameters_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ValidationError, match=message):
        Protocols(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ood_steps": (30, 40)}, "no question"),
        ({"lines": ("extract",), "steps": (6, 6), "ood_steps": None, "types": ("planning", "specific")}, "no specific question"),
    ],
)
def test_configurations_that_give_no_tasks_are_refused(options, message):
    with pytest.raises(TaskError, match=message):
        environment(**options).check()


def test_every_line_of_work_can_be_asked_for():
    assert {line.name for line in LINES} == set(Protocols().lines)


def test_the_defaults_pass_the_check_and_a_missing_ood_split_is_said():
    environment().check()
    assert environment().has("ood") and not environment(ood_steps=None).has("ood")


def test_a_corrupted_gold_keeps_think_and_note():
    task = tasks(number=1)[0]
    text = corrupted(task.gold, Random(4))
    assert text != task.gold
    assert text.split("<key>")[0] == task.gold.split("<key>")[0] and text.split("</orc>")[1] == task.gold.split("</orc>")[1]
