"""Metrics of protocols, on worked answers."""

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.evaluation.protocol_metrics import ProtocolMetrics, protocol_metrics, tau
from assay.rewards.protocol import read_gold, score


def written(actions, orc=None):
    key = "\n".join(f'Step {i}: {{"action": "{action}", "objects": ["x"], "parameters": ["1 s"]}}' for i, action in enumerate(actions, 1))
    said = orc or "\n".join(f"Step {i}: {action} x 1 s" for i, action in enumerate(actions, 1))
    return f"<think>t</think><key>\n{key}\n</key><orc>\n{said}\n</orc><note>n</note>"


FIGURE = ["harvest", "lyse", "centrifuge", "quantify"]
GOLD = written(FIGURE)


def test_the_gold_has_every_metric_at_its_maximum():
    found = protocol_metrics(GOLD, GOLD)
    assert found == ProtocolMetrics(1, 1, 1, 1, 1, 1.5, 1, 1, 1, 1, 1) and found.average == 1.0


def test_a_protocol_with_a_step_out_of_place_on_figure_case_one():
    text = written(["harvest", "centrifuge", "lyse", "stain", "quantify"])
    found = protocol_metrics(text, GOLD)
    # pairs (1,1), (2,3), (5,4): m = 1, .875, .875, each with full objects and parameters
    assert found.content == pytest.approx((1 + 0.875 + 0.875) * 1.5 / 3) and found.semantic == pytest.approx(found.content / 1.5)
    assert (found.step_match, found.order_strict, found.order_lcs) == (0, 0, pytest.approx(2 * 3 / 9))
    assert found.order_tau == pytest.approx((5 - 1) / 6) and found.order_tau_parity == 1.0
    assert found.semantic_parity * 1.5 == pytest.approx((1 + 0.875) * 1.5 / 2) != found.content


def test_the_content_is_that_of_the_reward():
    for actions in permutations(FIGURE):
        assert protocol_metrics(written(actions), GOLD).content == pytest.approx(score(written(actions), read_gold(GOLD)).content)


def test_real_tau_sees_a_reversal_where_the_published_one_cannot():
    assert tau(FIGURE[::-1], FIGURE) == -1.0 and tau(FIGURE, FIGURE) == 1.0
    assert tau(["lyse", "harvest", "centrifuge", "quantify"], FIGURE) == pytest.approx(4 / 6)
    assert tau(["harvest"], FIGURE) == tau([], FIGURE) == tau(["a", "b"], FIGURE) == 0.0
    turned = protocol_metrics(written(FIGURE[::-1]), GOLD)
    assert (turned.order_tau, turned.order_tau_parity) == (-1.0, 0.0)
    assert protocol_metrics(written(["harvest", "stain"]), GOLD).order_tau_parity == 0.0


def test_repeated_actions_are_matched_occurrence_by_occurrence():
    assert tau("aab", "aab") == tau("aabb", "ab") == 1.0
    assert tau("baa", "aab") == pytest.approx(-1 / 3)


@given(st.lists(st.sampled_from("abcd"), max_size=8), st.lists(st.sampled_from("abcd"), max_size=8))
def test_tau_is_concordant_minus_discordant_pairs(predicted, gold):
    seen, places = {}, []
    for action in predicted:
        seen[action] = seen.get(action, 0) + 1
        of_action = [place for place, one in enumerate(gold) if one == action]
        if seen[action] <= len(of_action):
            places.append(of_action[seen[action] - 1])
    pairs = [(places[i], places[j]) for i in range(len(places)) for j in range(i + 1, len(places))]
    expected = sum(1 if a < b else -1 for a, b in pairs) / len(pairs) if pairs else 0.0
    assert tau(predicted, gold) == pytest.approx(expected)


def test_unreadable_answers_are_all_key_and_no_orc():
    found = protocol_metrics("one\ntwo\n\nthree\nfour", GOLD)
    assert (found.step_match, found.order_lcs, found.content, found.bleu, found.rouge, found.tokens) == (1, 0, 0, 0, 0, 0)
    assert found.average == pytest.approx(1 / 8)
    assert protocol_metrics("", GOLD).average == 0.0


def test_malformed_lines_count_as_steps_but_have_no_action():
    found = protocol_metrics(GOLD.replace('Step 2: {"action": "lyse"', "Step 2: {lyse"), GOLD)
    assert (found.step_match, found.order_strict, found.order_lcs) == (1, 0, pytest.approx(6 / 7))


def test_words_of_the_orc_are_compared():
    found = protocol_metrics(written(["mix"], "Step 1: stir the tube"), written(["mix"], "Step 1: mix the tube"))
    assert found.tokens == found.rouge == pytest.approx(4 / 5)
    assert found.bleu == pytest.approx((4 / 5 + 2 / 4 + 0 + 0) / 4)


def test_a_gold_without_steps_is_refused():
    with pytest.raises(ValueError, match="no step that can be read"):
        protocol_metrics(GOLD, "nothing")
