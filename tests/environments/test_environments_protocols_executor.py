"""The executor: independent of the generator and of SCORE, right about golds, and unforgiving about what breaks a precondition."""

import ast
import json
from collections import Counter
from functools import cache
from itertools import islice
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.environments.protocols import executor, laboratory
from assay.environments.protocols.environment import ProtocolsEnvironment, lines_of
from assay.environments.protocols.executor import Execution, ExecutorError, execute
from assay.environments.protocols.grammar import LINES, VERBS, bench_of, line_of, setups
from assay.environments.protocols.mutations import MUTATIONS, duplicated
from assay.environments.protocols.planning import apply
from assay.environments.protocols.questions import ask, fits, moves_of
from assay.environments.protocols.writing import Line, key_line, sketch_and_fill
from assay.params.protocols import Protocols
from assay.rewards.protocol import read_gold, score

WASH = {
    "line": "wash", "sample": "cells", "start": "dry", "goal": "stained", "have": {"buffer": "5 ml", "eosin": ""}, "factor": 1,
    "without": [], "sheet": None, "outline": False, "hazards": False, "in": [],
    "allowed": ["add", "mix", "spin", "discard", "stain", "image", "heat", "chill", "shake"],
}  # fmt: skip
STEPS = [
    Line("add", ("buffer",), ("5 ml",)),
    Line("mix", ("tube",), ("10 s",)),
    Line("spin", ("tube",), ("300 xg", "5 min")),
    Line("discard", ("supernatant",), ()),
    Line("stain", ("cells", "eosin"), ("2 min",)),
]


@cache
def tasks(split="train", number=400, seed=3, **options):
    return [one.task for one in islice(ProtocolsEnvironment("bench", Protocols(**options), seed).candidates(split), number)]


def run(lines, note="eosin stain, spin balance", **bench):
    return execute(sketch_and_fill("x", lines, note), WASH | bench)


def with_step(place, **fields):
    line = STEPS[place]
    values = {"action": line.action, "objects": line.objects, "parameters": line.parameters} | fields
    return [*STEPS[:place], Line(**values), *STEPS[place + 1 :]]


def test_it_shares_no_code_with_generator_or_reward():
    allowed = {"assay.environments.protocols.laboratory"}
    for module in (executor, laboratory):
        tree = ast.parse(Path(module.__file__).read_text())
        imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        imported |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        assert {name for name in imported if name.startswith("assay")} <= allowed


def test_every_gold_is_carried_out_and_reaches_its_goal():
    for split, number in (("train", 400), ("ood", 150)):
        for task in tasks(split, number):
            assert execute(task.gold, task.meta["bench"]) == Execution(True, True, True), (task.prompt, task.gold)


def test_every_gold_without_one_of_its_steps_fails():
    checked = Counter()
    for task in tasks():
        lines, note = lines_of(task.gold), task.gold.split("<note>")[1].removesuffix("</note>")
        for place, line in enumerate(lines):
            text = sketch_and_fill("x", [*lines[:place], *lines[place + 1 :]], note)
            assert not execute(text, task.meta["bench"]).reached, (task.prompt, line)
            checked[line.action] += 1
    assert set(checked) == set(VERBS)


def test_every_gold_with_two_steps_in_the_wrong_order_fails():
    checked = 0
    for task in tasks():
        lines, tied = lines_of(task.gold), {tuple(pair) for pair in task.meta["before"]}
        for place in range(1, len(lines)):
            exchanged = [*lines[: place - 1], lines[place], lines[place - 1], *lines[place + 1 :]]
            text = sketch_and_fill("x", exchanged, task.gold.split("<note>")[1].removesuffix("</note>"))
            assert execute(text, task.meta["bench"]).reached == ((place, place + 1) not in tied)
            checked += (place, place + 1) in tied
    assert checked > 500


def test_wrong_parameters_and_objects_fail_where_parameters_are_asked_for():
    random = Random(5)
    fails = Counter()
    for task in tasks(number=300, types=("planning", "scaling", "constraint")):
        for kind in ("misparametered", "misplaced_object"):
            changed = MUTATIONS[kind](lines_of(task.gold), random)
            if Line("pour", ("agar",), ()) not in changed:  # agar is as good a word as plate
                fails[kind, execute(sketch_and_fill("x", changed, "y"), task.meta["bench"]).reached] += 1
    # Within the usual range another time or temperature is as good; a wrong material never is.
    assert fails["misplaced_object", True] == 0 and fails["misparametered", False] > fails["misparametered", True] > 0


@settings(max_examples=150)
@given(st.integers(0, 10**6))
def test_it_agrees_with_the_grammar_about_any_sequence_of_moves(seed):
    """Both know the bench: the grammar by facts, the executor by what happens. Random walks must not tell them apart."""
    random = Random(seed)
    setup = random.choice(SETUPS)
    question = ask(setup, "planning", (0, 0), random)
    bench, described = bench_of(setup), question.bench | {"allowed": list(VERBS)}
    amounts = {name: amount for name, amount in question.bench["have"].items()}
    state, lines, gone = bench.start, [], None
    for _ in range(random.randint(1, 9)):
        possible = [move for move in bench.moves if apply(state, move) is not None]
        move = random.choice(possible if possible and random.random() < 0.85 else bench.moves)
        parameters = (amounts.get(move.objects[0]) or "1 ml",) if move.action == "add" else move.parameters
        lines.append(Line(move.action, move.objects, parameters))
        after = apply(state, move)
        if after is None:
            gone = len(lines)
            break
        state = after
    found = execute(sketch_and_fill("x", lines, "y"), described)
    assert found.failed_step == gone, (setup, lines, found)
    if gone is None:
        assert found.reached == (bench.goal <= state), (setup, lines, state, found)


SETUPS = [setup for setup in setups() if fits(setup, "planning", line_of(setup.line).goals, (2, 7))]


def test_the_worked_bench():
    assert run(STEPS) == Execution(True, True, True)
    assert run(STEPS[:4]) == Execution(True, True, False, None, "the goal stained is not reached")
    assert run(STEPS[:4], goal="washed").reached
    assert run([*STEPS, Line("image", ("cells",), ())], goal="imaged").reached


@pytest.mark.parametrize(
    ("lines", "step", "reason"),
    [
        (STEPS[1:], 1, "no liquid"),
        ([STEPS[0], *STEPS[2:]], 2, "not suspended"),
        ([*STEPS[:2], *STEPS[3:]], 3, "no supernatant"),
        ([*STEPS[:3], STEPS[4]], 4, "not washed"),
        ([*STEPS[:3], STEPS[0]], 4, "disturb the pellet"),
        ([STEPS[0], STEPS[0]], 2, "no buffer to add"),
        ([*STEPS, STEPS[4]], 6, "no eosin"),
        ([Line("add", ("eosin",), ("5 ml",))], 1, "no eosin to add"),
        ([Line("add", ("saline",), ("5 ml",))], 1, "no saline to add"),
        ([Line("add", (), ("5 ml",))], 1, "nothing is added"),
        ([Line("add", ("buffer", "buffer"), ("5 ml",))], 1, "named twice"),
        ([Line("boil", ("tube",), ("5 min",))], 1, "not among the actions"),
        ([Line("shake", ("tube",), ())], 1, "does nothing"),
        ([Line("heat", ("tube",), ("60 c",))], 1, "not heated"),
        (with_step(0, parameters=("6 ml",)), 1, "amount of buffer"),
        (with_step(0, parameters=("5 g",)), 1, "amount of buffer"),
        (with_step(0, parameters=()), 1, "amount of buffer"),
        (with_step(0, parameters=("some",)), 1, "is no quantity"),
        (with_step(1, objects=("flask",)), 2, "flask cannot be used"),
        (with_step(1, parameters=("10 min",)), 2, "time of mix"),
        (with_step(1, parameters=("10 s", "5 c")), 2, "mix needs time"),
        (with_step(2, parameters=("300 xg",)), 3, "spin needs speed, time"),
        (with_step(2, parameters=("900 xg", "5 min")), 3, "speed of spin"),
        (with_step(2, parameters=("300 xg", "5 min", "6 min")), 3, "two quantities of time"),
        (with_step(3, objects=("cells",)), 4, "cells cannot be used"),
        (with_step(3, parameters=("5 ml",)), 4, "discard needs no parameters"),
        (with_step(4, objects=("cells", "iodine")), 5, "no iodine"),
        (with_step(4, objects=("cells",)), 5, "one dye"),
        (with_step(4, parameters=("9 min",)), 5, "time of stain"),
    ],
)
def test_a_step_that_cannot_be_carried_out_is_named_with_its_reason(lines, step, reason):
    found = run(lines)
    assert (found.readable, found.executable, found.reached, found.failed_step) == (True, False, False, step)
    assert reason in found.reason


def test_equal_quantities_in_other_units_usual_ranges_and_harmless_steps_are_accepted():
    assert run(with_step(0, parameters=("5000 ul",))).reached and run(with_step(0, parameters=("0.005 l",))).reached
    assert run(with_step(2, parameters=("5 min", "0.30 xg"))).failed_step == 3
    assert run(with_step(2, parameters=("4 min", "450 xg"))).reached and run(with_step(4, parameters=("60 s",))).reached
    assert run(with_step(2, objects=("cells",))).reached and run(with_step(1, objects=("Tube ",))).reached
    assert run([*STEPS[:2], STEPS[1], *STEPS[2:]]).reached
    assert run([STEPS[0], Line("chill", ("tube",), ("4 c",)), *STEPS[1:]]).reached


def test_a_sheet_a_factor_a_ban_and_an_outline_change_what_is_right():
    sheet = {"spin": ["700 xg", "8 min"]}
    assert run(STEPS, sheet=sheet).failed_step == 3
    assert run(with_step(2, parameters=("700 xg", "480 s")), sheet=sheet).reached
    assert run(STEPS, factor=3).failed_step == 1 and run(with_step(0, parameters=("15 ml",)), factor=3).reached
    both = {"have": {"buffer": "5 ml", "saline": "4 ml", "eosin": ""}, "without": ["buffer"]}
    assert "forbidden" in run(STEPS, **both).reason
    assert run(with_step(0, objects=("saline",), parameters=("4 ml",)), **both).reached
    assert "forbidden" in run(STEPS, without=["eosin"]).reason
    bare = [Line(line.action, line.objects, ()) for line in STEPS]
    assert run(bare).failed_step == 1 and run(bare, outline=True).reached


def test_hazards_of_what_was_used_must_be_in_the_note():
    assert run(STEPS, hazards=True).reached
    assert run(STEPS, note="Spin: balance it. Eosin will STAIN you.", hazards=True).reached
    assert run(STEPS, note="spin balance", hazards=True).reason == "the note does not warn of eosin"
    assert run(STEPS, note="eosin spin stain", hazards=True).reason == "the note does not warn of spin"
    assert run(STEPS[:2], note="gloves", hazards=True, goal="mixed").reached


def test_medium_and_solution_take_all_that_is_at_hand():
    bench = {
        "line": "solution", "goal": "mixed", "start": "empty", "have": {"salt": "2 g", "water": "50 ml"}, "allowed": ["add", "mix", "heat"],
    }  # fmt: skip
    water, salt, mix = Line("add", ("water",), ("50 ml",)), Line("add", ("salt",), ("2 g",)), Line("mix", ("flask",), ("10 s",))
    assert run([water, salt, mix], **bench).reached and run([salt, water, mix], **bench).reached
    assert run([water, mix], **bench).reason == "salt is left over"
    assert run([water, mix, salt], **bench).reason == "the goal mixed is not reached"
    assert run([salt, mix, water], **bench).failed_step == 2
    assert run([Line("add", ("salt", "water"), ("2 g",)), mix], **bench).failed_step == 1


@pytest.mark.parametrize(
    "text",
    [
        "", "<key>", "<key></key>", "<key>\n</key>", "<key>Step 1: {}</key>", "<key>add buffer</key>",
        "<key>Step 1: " + "[" * 9000 + "</key>", '<key>Step 1: {"action": 3, "objects": [], "parameters": []}</key>',
        '<key>Step 1: {"action": "add", "objects": "buffer", "parameters": []}</key>',
        '<key>Step 1: {"action": "add", "objects": [["buffer"]], "parameters": []}</key>',
        '<key>Step 1: {"action": "add", "objects": ["\\udc00"], "parameters": []}</key>',
        f"<key>{key_line(1, STEPS[0])}</key><key>{key_line(1, STEPS[0])}</key>",
        sketch_and_fill("x", STEPS * 30, "y"), sketch_and_fill("x" * 20_000, STEPS, "y"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_neither_executable_nor_reached(text):
    assert execute(text, WASH) == Execution(False, False, False, reason="no key that can be read")


def test_it_reads_the_key_alone_whatever_surrounds_it():
    key = "\n".join(key_line(9, line) for line in STEPS)
    assert execute(f"Sure.<key>{key}</key> Done", WASH).reached


@pytest.mark.parametrize(
    "change", [{"line": "brew"}, {"sample": "gold"}, {"start": "lost"}, {"goal": "famous"}, {"have": None}, {"factor": "two"}]
)
def test_a_bench_that_it_does_not_know_is_the_tasks_fault(change):
    with pytest.raises(ExecutorError, match="bench"):
        execute(sketch_and_fill("x", STEPS, "y"), WASH | change)
    with pytest.raises(ExecutorError, match="bench"):
        execute(sketch_and_fill("x", STEPS, "y"), {name: value for name, value in WASH.items() if name != "goal"})


def test_every_point_of_the_grammar_is_known():
    for line in LINES:
        for setup in (one for one in setups() if one.line == line.name):
            if moves_of(setup):
                question = ask(setup, "planning", (0, 0), Random(0))
                assert execute(question.gold, question.bench).reached
                assert json.loads(json.dumps(question.bench)) == question.bench


def test_score_and_executor_disagree_where_they_should():
    (task,) = [task for task in tasks(types=("planning",), number=30, lines=("wash",)) if task.difficulty == 4][:1]
    lines, gold = lines_of(task.gold), read_gold(task.gold)
    within = [Line(line.action, line.objects, ("30 s",) if line.action == "mix" else line.parameters) for line in lines]
    text = sketch_and_fill("x", within, "y")
    assert execute(text, task.meta["bench"]).reached and score(text, gold).total < 2.5
    broken = sketch_and_fill("x", lines[:2] + lines[3:], "y")
    assert not execute(broken, task.meta["bench"]).reached and score(broken, gold).total > 1.0
    assert score(sketch_and_fill("x", duplicated(lines, Random(1)), "y"), gold).total < 2.0
