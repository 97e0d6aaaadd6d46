"""Where traces are split: the worked text of VSRM (B.6), thresholds, word boundaries and their parity, tags that are missing."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.rewards.segmentation import MARKERS, PARITY, Rules, StepwiseError, segment

SMALL = Rules(opening=0, interval=1)


def laid_out(length, placed):
    """A text of x with the phrases of `placed` (position: phrase) written over it."""
    text = ["x"] * length
    for position, phrase in placed.items():
        text[position : position + len(phrase)] = phrase
    return "".join(text)


def splits(text, rules=None, **options):
    return [split.position for split in segment(text, rules, **options).splits]


def steps(text, rules=SMALL, **options):
    found = segment(text, rules, **options)
    ends = [split.position for split in found.splits[1:]] + [found.end]
    return [text[split.position : end] for split, end in zip(found.splits, ends, strict=True)]


def test_markers_at_50_1100_1300_and_1700_split_only_before_the_second_and_the_last():
    thinking = laid_out(2000, {40: ". ", 50: " wait ", 1090: ". ", 1099: " But ", 1290: ". ", 1299: " however ", 1690: "! ", 1699: " Hmm "})
    text = f"<think>{thinking}</think>\\boxed{{4}}"
    found = segment(text)
    assert [split.position for split in found.splits] == [7 + 1091, 7 + 1691]
    assert [split.marker for split in found.splits] == ["But", "Hmm"]
    assert (found.start, found.end, found.resume) == (7, 2007, 2015) and found.complete


@pytest.mark.parametrize(("position", "accepted"), [(998, False), (999, False), (1000, True), (1001, True)])
def test_a_marker_in_the_first_thousand_characters_is_ignored(position, accepted):
    text = f"<think>{laid_out(1500, {position - 1: ' wait '})}</think>"
    assert splits(text) == ([7 + position] if accepted else [])


@pytest.mark.parametrize(("second", "accepted"), [(1399, False), (1400, True)])
def test_the_interval_is_counted_from_the_last_split_not_from_its_marker(second, accepted):
    # The first split lies at 1000, at the start of its sentence; its marker stands 50 characters later.
    text = f"<think>{laid_out(1800, {999: '.', 1049: ' wait ', second - 10: '!', second - 1: ' wait '})}</think>"
    assert splits(text) == [7 + 1000, *([7 + second - 9] if accepted else [])]


def test_the_split_is_behind_the_nearest_sentence_end_or_at_the_marker():
    found = steps("<think>3 + 4 = 7. Is it? wait, yes! Then: so it is but no\nHmm</think>8")
    assert found == [" wait, yes!", " Then: so it is but no\n", "Hmm"]
    assert steps("<think>no end here wait a moment</think>") == ["wait a moment"]


def test_two_markers_of_one_sentence_split_it_once():
    assert splits("<think>a. b wait c but d hmm e</think>", SMALL) == [9]


def test_a_decimal_point_ends_a_sentence_in_parity_only():
    text = "<think>a. The sum is 3.5 but wrong</think>"
    assert steps(text) == [" The sum is 3.5 but wrong"]
    assert steps(text, Rules(opening=0, interval=1, decimal_points_end_sentences=True)) == ["5 but wrong"]


@pytest.mark.parametrize("word", ["distribution", "Some", "Solve", "awaiting", "butter"])
def test_a_marker_inside_a_word_splits_in_parity_only(word):
    text = f"<think>{laid_out(1500, {1200: '. the ' + word + ' '})}</think>"
    assert splits(text) == []
    assert splits(text, PARITY) == [7 + 1201]


def test_case_counts_for_so_alone():
    assert steps("<think>a. so b. So c. WAIT d. However e</think>") == [" So c.", " WAIT d.", " However e"]


def test_the_longest_phrase_is_the_marker():
    text = "<think>a. Let me double-check b. That's correct, but c. Wait, but d. But wait e</think>"
    found = [split.marker for split in segment(text, SMALL).splits]
    assert found == ["Let me double-check", "That's correct, but", "Wait, but", "But wait"]


def test_every_marker_of_the_list_splits_alone():
    for marker in MARKERS:
        assert splits(f"<think>a. {marker} b</think>", SMALL) == [9], marker


@pytest.mark.parametrize(
    ("text", "start", "resume"),
    [
        ("", None, None),
        ("a. wait b. but c", None, None),
        ("a. wait b</think>7", None, 17),
        ("<think></think>7", 7, 15),
        ("<think>", 7, None),
        ("<think>nothing to see here</think>", 7, 34),
        ("</think>wait. but <think>", 25, None),
    ],
)
def test_without_thinking_or_markers_there_are_no_steps(text, start, resume):
    found = segment(text, SMALL)
    assert (found.start, found.resume, found.splits) == (start, resume, ())


def test_markers_outside_the_thinking_do_not_count():
    assert splits("a. wait <think>b. but c</think>d. however e", SMALL) == [17]


def test_an_unclosed_trace_is_split_to_its_end():
    found = segment("<think>a. wait b. but c", SMALL)
    assert [split.position for split in found.splits] == [9, 17] and found.end == 23
    assert found.resume is None and not found.complete


def test_a_tag_that_the_prompt_opened_counts():
    text = "a. wait b</think>7"
    assert not segment(text, SMALL).complete
    found = segment(text, SMALL, opened_by_prompt=True)
    assert found.complete and [split.position for split in found.splits] == [2]


def test_the_opening_can_be_a_step_of_its_own():
    rules = Rules(opening=0, interval=1, judge_opening=True)
    assert steps("<think>a. wait b</think>", rules) == ["a.", " wait b"]
    assert steps("<think>a b</think>", rules) == ["a b"]


def test_thresholds_in_tokens():
    # One token for each word with the space before it, the tags being tokens of their own.
    words = ["<think>", "a", " wait", " b", " c", " wait", " d", " wait", " e", " f", " wait", "</think>"]
    text, offsets, at = "".join(words), [], 0
    for word in words:
        offsets.append((at, at + len(word)))
        at += len(word)
    rules = Rules(unit="tokens", opening=3, interval=4)
    assert splits(text, rules, offsets=offsets) == [offsets[5][0] + 1, offsets[10][0] + 1]
    assert len(splits(text, Rules(unit="tokens", opening=0, interval=1), offsets=offsets)) == 4
    with pytest.raises(StepwiseError, match="need the offsets"):
        segment(text, rules)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"markers": ("wait", "")}, "is empty"),
        ({"close_tag": ""}, "is empty"),
        ({"interval": 0}, "interval 0"),
        ({"opening": -1}, "opening is -1"),
        ({"unit": "words"}, "expected characters or tokens"),
    ],
)
def test_rules_that_make_no_sense_are_refused(options, words):
    with pytest.raises(StepwiseError, match=words):
        Rules(**options)


PIECES = st.sampled_from(
    ["wait", "But", "So", "x", " ", ". ", "! ", "\n", "distribution", "3.5", "<think>", "</think>", "that seems right"]
)


@given(st.lists(PIECES, max_size=40).map("".join), st.integers(0, 20), st.integers(1, 20), st.booleans(), st.booleans())
def test_splits_rise_within_the_thinking_and_begin_sentences(body, opening, interval, whole, opened):
    rules = Rules(opening=opening, interval=interval, whole_words=whole, decimal_points_end_sentences=True)
    found = segment(body, rules, opened_by_prompt=opened)
    positions = [split.position for split in found.splits]
    assert positions == sorted(set(positions))
    for split in found.splits:
        assert found.start <= split.position < found.end
        begins = split.position > found.start and body[split.position - 1] in ".!?\n"
        assert begins or body.startswith(split.marker, split.position)
        # A marker far enough from the beginning stands in the step's first sentence.
        sentence = len(re.split(r"[.!?\n]", body[split.position :])[0])
        near = body[split.position : split.position + sentence + len(split.marker)]
        places = [split.position + match.start() for match in re.finditer(f"(?={re.escape(split.marker)})", near)]
        assert any(place - found.start >= opening for place in places)
    if not opened and "<think>" not in body:
        assert not positions
