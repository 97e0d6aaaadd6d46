"""Characters of tokens by a real byte-level tokenizer, a decoder that drops spaces, special tokens and broken bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.rewards.spans import token_at, token_offsets


@pytest.fixture(scope="module")
def tokenizer():
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=["<|end|>"], initial_alphabet=alphabet, show_progress=False)
    made.train_from_iterator(["wait but the sum is 12. Wait, the sum is 13."] * 4, trainer)
    return made


@given(text=st.text(st.sampled_from("wait but.\n😀é1日 "), max_size=40))
def test_tokens_cover_the_text_in_order_without_gaps(tokenizer, text):
    ids = tokenizer.encode(text).ids
    offsets = token_offsets(ids, tokenizer.decode)
    assert len(offsets) == len(ids)
    assert [start for start, _ in offsets] == [0, *(end for _, end in offsets[:-1])][: len(ids)]
    assert "".join(text[start:end] for start, end in offsets) == text
    for position in range(len(text)):
        start, end = offsets[token_at(offsets, position)]
        assert start <= position < end


def test_a_character_of_several_tokens_belongs_to_the_last_of_them(tokenizer):
    ids = tokenizer.encode("1😀1").ids
    assert len(ids) == 6  # four bytes, of which none is merged
    assert token_offsets(ids, tokenizer.decode) == [(0, 1), (1, 1), (1, 1), (1, 1), (1, 2), (2, 3)]


def test_special_tokens_have_no_characters(tokenizer):
    end = tokenizer.token_to_id("<|end|>")
    ids = [*tokenizer.encode("wait").ids, end, *tokenizer.encode(" 12").ids, end]
    offsets = token_offsets(ids, tokenizer.decode)
    assert offsets[-1] == (7, 7) and ids[token_at(offsets, 4)] != end
    assert [offsets[i] for i, token in enumerate(ids) if token == end] == [(4, 4), (7, 7)]


def test_a_decoder_that_drops_the_first_space_loses_none_inside():
    words = [" a", " bc", ".", " d"]
    assert token_offsets([0, 1, 2, 3], lambda ids: "".join(words[i] for i in ids).lstrip()) == [(0, 1), (1, 4), (4, 5), (5, 7)]


def test_bytes_that_are_no_text_are_placed_without_an_error(tokenizer):
    broken = tokenizer.encode("😀").ids[:1] * 40
    ids = [*broken, *tokenizer.encode("wait").ids]
    offsets = token_offsets(ids, tokenizer.decode)
    assert len(offsets) == len(ids) and all(start <= end for start, end in offsets)
    assert offsets[-1][1] == len(tokenizer.decode(ids))


def test_only_short_windows_are_decoded():
    lengths = []

    def decode(ids):
        lengths.append(len(ids))
        return "\ufffd" * len(ids)

    assert len(token_offsets(list(range(500)), decode)) == 500
    assert max(lengths) <= 20


@pytest.mark.parametrize(("position", "token"), [(0, 0), (2, 0), (3, 2), (4, 2), (5, 2), (99, 2)])
def test_the_token_of_a_position_is_the_nearest_one_where_none_holds_it(position, token):
    assert token_at([(0, 3), (3, 3), (3, 5)], position) == token


def test_no_tokens():
    assert token_offsets([], lambda ids: "") == [] and token_at([], 5) == 0
