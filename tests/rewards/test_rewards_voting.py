"""Votes over samples: the worked examples of RISE (B1.6), both readings, ties in exact arithmetic."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.rewards.voting import Vote, VoteError, majority_vote, weighted_vote

ANSWERS, SAYS = ["A", "B", "A", "B", "A"], [1, 1, 0, 1, 0]


def test_the_two_readings_of_the_paper_disagree_here():
    constant = weighted_vote(ANSWERS, SAYS, reading="constant")
    assert constant.answer == "A" and constant.weights == pytest.approx({"A": 9 / 9, "B": 8 / 9})
    mean = weighted_vote(ANSWERS, SAYS)
    assert mean.answer == "B" and mean.weights == pytest.approx({"A": 1.2857, "B": 1.3333}, abs=5e-5)


def test_without_smoothing_the_group_mean_is_the_sum_of_scores():
    assert weighted_vote(ANSWERS, SAYS, alpha=0, d=0).weights == {"A": 1.0, "B": 2.0}


def test_the_majority_is_what_equal_scores_vote_for():
    assert majority_vote(ANSWERS) == Vote("A", {"A": 3.0, "B": 2.0}, False)
    for score in (0, 1, 0.5):
        assert weighted_vote(ANSWERS, [score] * 5).answer == weighted_vote(ANSWERS, [score] * 5, reading="constant").answer == "A"


def test_samples_without_an_answer_do_not_vote():
    assert majority_vote([None, None, "B", None]).answer == "B"
    assert weighted_vote([None, None, "B", None], [1, 1, 0, 1]).weights == {"B": pytest.approx(2 / 5)}
    assert majority_vote([None]) == weighted_vote([None], [1]) == majority_vote([]) == Vote(None, {}, False)


def test_ties_go_to_more_votes_then_to_the_first_to_appear():
    assert majority_vote(["B", "A", "A", "B"]) == Vote("B", {"B": 2.0, "A": 2.0}, True)
    # 1 of 1 said right, against 1 of 2, without smoothing: both weigh 1.
    tied = weighted_vote(["B", "A", "A"], [1, 1, 0], alpha=0, d=0)
    assert tied == Vote("A", {"B": 1.0, "A": 1.0}, True)


def test_ties_are_exact_where_rounding_would_decide():
    # In binary 0.1 + 0.2 + 0.3 is not 0.3 + 0.2 + 0.1.
    scores = [0.3, 0.2, 0.1, 0.1, 0.2, 0.3]
    assert sum(scores[:3]) != sum(scores[3:])
    votes = weighted_vote(["A"] * 3 + ["B"] * 3, scores, alpha=0.1)
    assert votes.tied and votes.answer == "A"


@given(st.lists(st.tuples(st.sampled_from(["a", "b", "c", None]), st.integers(0, 1)), max_size=12), st.sampled_from([0.5, 1.0, 2.0]))
def test_weights_equal_the_formula(rows, alpha):
    answers, says = [answer for answer, _ in rows], [score for _, score in rows]
    for reading in ("group_mean", "constant"):
        vote = weighted_vote(answers, says, alpha=alpha, reading=reading)
        for answer, count in Counter(a for a in answers if a is not None).items():
            total = sum(score for other, score in rows if other == answer)
            n = count if reading == "group_mean" else len(rows)
            assert vote.weights[answer] == pytest.approx(count * (alpha + total) / (n + 2 * alpha))
        if vote.answer is not None:
            assert vote.weights[vote.answer] == max(vote.weights.values())


@pytest.mark.parametrize(
    ("says", "options", "words"),
    [
        ([1], {}, "2 answers but 1 scores"),
        ([1, 1.5], {}, "a score is 1.5"),
        ([1, float("nan")], {}, "a score is nan"),
        ([1, 1], {"alpha": -1.0}, "alpha is -1.0"),
        ([1, 1], {"reading": "mean"}, "reading is 'mean'"),
    ],
)
def test_votes_that_cannot_be_held_are_refused(says, options, words):
    with pytest.raises(VoteError, match=words):
        weighted_vote(["A", "B"], says, **options)
