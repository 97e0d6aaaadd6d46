"""Chain arithmetic: tasks, demonstrations that overthink, and the oracle that reads what each re-check does."""

from collections import Counter
from itertools import islice
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from assay.environments.chain_arithmetic.chains import Chain
from assay.environments.chain_arithmetic.effects import answer_of, read_trace
from assay.environments.chain_arithmetic.environment import ChainArithmeticEnvironment
from assay.environments.chain_arithmetic.traces import MARKERS, draw_trace
from assay.environments.oracles import ORACLES
from assay.params.data import ChainArithmetic
from assay.rewards.segmentation import Rules, segment

CHAIN = Chain(7, (("+", 6), ("*", 2)), 10)
META = CHAIN.meta()


def tasks(count, split="train", **params):
    environment = ChainArithmeticEnvironment("chain", ChainArithmetic(**params), seed=0)
    return [candidate.task for candidate in islice(environment.candidates(split), count)]


def traces(count, **params):
    options, random = ChainArithmetic(**params), Random(0)
    return [(task, draw_trace(Chain.from_meta(task.meta), options, random)) for task in tasks(count, **params)]


def test_the_question_is_evaluated_from_left_to_right():
    assert CHAIN.question() == "from left to right, modulo 10: 7 + 6 * 2 = ?"
    assert CHAIN.results(7) == [3, 6] and answer_of(META) == 6
    assert Chain(1, (("-", 3), ("*", 4)), 10).results(1) == [8, 2]
    for task in tasks(300):
        assert task.gold == str(answer_of(task.meta)) and ORACLES[task.meta["oracle"]](task.gold, task.gold, task.meta)
        assert task.verifier == "numeric" and task.difficulty == len(task.meta["operations"])


def test_splits_differ_in_length_and_equal_seeds_give_equal_tasks():
    assert {len(task.meta["operations"]) for task in tasks(200, steps=(2, 3))} == {2, 3}
    assert {len(task.meta["operations"]) for task in tasks(200, "ood", ood_steps=(5, 6))} == {5, 6}
    assert [task.task_id for task in tasks(20)] == [task.task_id for task in tasks(20)]
    assert {task.split for task in tasks(3, "demonstration")} == {"train"}


def test_demonstrations_overthink_as_asked_for():
    made = traces(4000)
    effects = Counter(effect for _, trace in made for effect in trace.effects)
    right = sum(str(trace.answer) == task.gold for task, trace in made) / len(made)
    assert effects["ineffective"] > 0.7 * effects.total() and min(effects["helpful"], effects["harmful"]) > 0.03 * effects.total()
    assert 0.6 < right < 0.8  # checks repair more than they spoil: without them 0.65 would be right
    assert all(trace.text.endswith(f"</think>\\boxed{{{trace.answer}}}") for _, trace in made)
    plain = traces(500, mistakes=0, redundancy=0)
    assert all(str(trace.answer) == task.gold and trace.effects == () for task, trace in plain)
    without = traces(4000, redundancy=0)
    assert sum(str(trace.answer) == task.gold for task, trace in without) / len(without) == pytest.approx(0.65, abs=0.03) and right > 0.66


def test_the_oracle_agrees_with_the_generator_and_shares_no_code_with_it():
    for task, trace in traces(3000, harmful=0.3, helpful=0.4):
        reading = read_trace(trace.text, task.meta)
        assert tuple(check.effect for check in reading.rechecks) == trace.effects
        assert reading.complete and reading.right == (str(trace.answer) == task.gold) and reading.last == str(trace.answer)


@pytest.mark.parametrize(
    ("text", "effects", "complete", "right"),
    [
        ("<think>7 + 6 = 3. 3 * 2 = 6. wait 3 * 2 = 6. </think>6", ["ineffective"], True, True),
        ("<think>7 + 6 = 4. 4 * 2 = 8. But wait, 7 + 6 = 3. 3 * 2 = 6.</think>", ["helpful"], True, True),
        ("<think>3 * 2 = 6. hmm 3 * 2 = 5. however 3 * 2 = 6", ["harmful", "helpful"], False, True),
        ("<think>wait = 6", ["helpful"], False, True), ("<think>= 6.0</think>", [], True, True), ("<think>= -6</think>", [], True, False),
        ("= 6. wait = 6", [], False, False), ("", [], False, False), ("<think></think>", [], True, False),
        ("<think>distribution waiter = 6", [], False, True),
    ],
)  # fmt: skip
def test_any_text_can_be_read(text, effects, complete, right):
    reading = read_trace(text, META)
    assert [check.effect for check in reading.rechecks] == effects and (reading.complete, reading.right) == (complete, right)


@given(st.text(alphabet="<>/thinkwabue=. 0123456789-", max_size=200))
def test_reading_never_fails(text):
    reading = read_trace(text, META)
    assert all(check.start < check.end for check in reading.rechecks)
    if reading.rechecks:
        assert reading.overthinking is not None and 0 <= reading.overthinking <= 1


def test_the_share_of_idle_checks_is_known_exactly():
    text = "<think>3 * 2 = 6. wait 3 * 2 = 6. but 3 * 2 = 7. hmm 3 * 2 = 6. </think>"
    assert read_trace(text, META).overthinking == pytest.approx(2 / 3)
    assert read_trace("<think>= 6</think>", META).overthinking is None


def test_segments_are_found_where_re_checks_begin():
    """By the rules of the preset, but in characters: four to a token, roughly."""
    rules = Rules(opening=15, interval=6)
    found = expected = 0
    for task, trace in traces(500):
        starts = [check.start for check in read_trace(trace.text, task.meta).rechecks]
        splits = [split.position for split in segment(trace.text, rules).splits]
        begun = [position + len(trace.text[position:]) - len(trace.text[position:].lstrip()) for position in splits]
        expected += len(starts)
        found += len(set(starts) & set(begun))
        assert set(begun) <= set(starts)
    assert found > 0.97 * expected
    # Steps between given splits are read the same way.
    text = "<think>7 + 6 = 3. 3 * 2 = 6. wait 3 * 2 = 7. </think>"
    splits = [split.position for split in segment(text, rules).splits]
    assert [check.effect for check in read_trace(text, META, splits).rechecks] == ["harmful"]


def test_plain_texts_say_the_steps_without_a_mistake():
    environment = ChainArithmeticEnvironment("c", ChainArithmetic(mistakes=1.0), seed=0)
    for candidate in islice(environment.candidates("train"), 50):
        text, chain = environment.pretraining_text(candidate.task), Chain.from_meta(candidate.task.meta)
        assert text.startswith(f"{chain.start} ") and text.count(" = ") == len(chain.operations) + 1
        assert text.endswith(f" = {candidate.task.gold}. ") and not any(marker in text for marker in MARKERS)


@pytest.mark.parametrize(
    ("params", "word"),
    [
        ({"modulus": 1}, "modulus"), ({"steps": (4, 2)}, "wrong way round"), ({"ood_steps": (0, 2)}, "ood_steps"),
        ({"mistakes": 1.1}, "mistakes"), ({"redundancy": 1.0}, "redundancy"), ({"helpful": -0.1}, "helpful"),
        ({"operations": ()}, "operations"), ({"max_checks": -1}, "max_checks"),
    ],
)  # fmt: skip
def test_bad_parameters_are_refused(params, word):
    with pytest.raises(ValidationError, match=word):
        ChainArithmetic(**params)
