"""Alignments by action, the longest common subsequence, and the lexical reward."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from protocol_example import ADD, DISCARD, GOLD, MIX, SPIN, written

from assay.rewards.protocol import align_as_evaluated, align_as_figured, bleu_average, lcs_length, lexical_reward, rouge_l, token_f1

FIGURE = ["harvest", "lyse", "centrifuge", "quantify"]
WORDS = st.lists(st.sampled_from("abc"), max_size=12)


def test_the_three_cases_of_the_method_figure():
    assert align_as_figured(["harvest", "centrifuge", "lyse", "stain", "quantify"], FIGURE) == [(1, 1), (2, 3), (5, 4)]
    assert align_as_figured(["harvest", "quantify", "lyse", "centrifuge"], FIGURE) == [(1, 1), (2, 4)]
    assert align_as_figured(["harvest", "lyse", "quantify"], FIGURE) == [(1, 1), (2, 2), (3, 4)]


def test_the_published_evaluator_loses_what_follows_a_failed_search():
    assert align_as_evaluated(["harvest", "centrifuge", "lyse", "stain", "quantify"], FIGURE) == [(1, 1), (2, 3)]
    assert align_as_evaluated(["stain", *FIGURE], FIGURE) == []
    assert align_as_evaluated(["harvest", "lyse", "quantify"], FIGURE) == [(1, 1), (2, 2), (3, 4)]


@given(WORDS, WORDS)
def test_alignments_rise_on_both_sides_and_the_figure_finds_at_least_what_the_evaluator_does(predicted, gold):
    figured, evaluated = align_as_figured(predicted, gold), align_as_evaluated(predicted, gold)
    for pairs in (figured, evaluated):
        assert all(predicted[i - 1] == gold[j - 1] for i, j in pairs)
        assert all(first[0] < second[0] and first[1] < second[1] for first, second in pairwise(pairs))
    assert figured[: len(evaluated)] == evaluated


@given(WORDS, WORDS)
def test_the_longest_common_subsequence_is_that_of_the_textbook_table(first, second):
    table = [[0] * (len(second) + 1) for _ in range(len(first) + 1)]
    for i, one in enumerate(first):
        for j, other in enumerate(second):
            table[i + 1][j + 1] = table[i][j] + 1 if one == other else max(table[i][j + 1], table[i + 1][j])
    assert lcs_length(first, second) == table[-1][-1]


def test_overlaps_of_words_on_worked_sentences():
    assert bleu_average("Add 5 ml of buffer.", "add 5 ml of buffer") == rouge_l("a b", "A b") == token_f1("x", "X!") == 1.0
    # the the cat sat | the cat sat down: 3 of 4, 2 of 3, 1 of 2, 0 of 1
    assert bleu_average("the the cat sat", "the cat sat down") == pytest.approx((3 / 4 + 2 / 3 + 1 / 2 + 0) / 4)
    assert rouge_l("mix the tube", "the tube is mixed") == pytest.approx(2 * 2 / 7)
    assert token_f1("a a b", "a b b") == pytest.approx(2 / 3)
    assert token_f1("0.5 ml", "5 ml") == 0.5
    assert (bleu_average("", "a"), rouge_l("", ""), token_f1("", "")) == (0.0, 0.0, 0.0)


def test_the_lexical_reward_likes_words_whatever_their_order():
    gold, turned = written([ADD, MIX, SPIN, DISCARD]), written([DISCARD, SPIN, MIX, ADD])
    assert lexical_reward(gold, gold) == 1.0
    assert 0.5 < lexical_reward(turned, gold) < 1.0
    assert lexical_reward(GOLD.replace("<note>", ""), GOLD) == 1.0  # it knows no format
    assert lexical_reward("Add 5 ml of buffer.", GOLD) == 0.0
