"""Pieces that are one token each: what protocols' answers cost with them, and what they leave as it is."""

from itertools import islice
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from assay.engines import PLAIN_TEMPLATE
from assay.environments.protocols.environment import ProtocolsEnvironment
from assay.params.policy import ModelShape
from assay.params.protocols import Protocols
from assay.training.tokenizer import TokenizerError, train_tokenizer

PRESET = yaml.safe_load((Path(__file__).parents[2] / "conf/environment/protocols.yaml").read_text())
SHAPE = PRESET["policy"]["shape"]
ENVIRONMENT = ProtocolsEnvironment("bench", Protocols(), 3)


def tasks(split, number):
    return [one.task for one in islice(ENVIRONMENT.candidates(split), number)]


@pytest.fixture(scope="module")
def tokenizer():
    texts = [f"{task.prompt[0]['content']}\n{task.gold}" for task in tasks("demonstration", 2000)]
    return train_tokenizer(texts, SHAPE["vocabulary"], PLAIN_TEMPLATE, SHAPE["max_positions"], SHAPE["pieces"])


def test_each_piece_is_one_token_anywhere_and_texts_come_back(tokenizer, tmp_path):
    from transformers import AutoTokenizer

    assert len(tokenizer) == SHAPE["vocabulary"]
    assert {len(tokenizer(piece)["input_ids"]) for piece in SHAPE["pieces"]} == {1}
    tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    for text in ("a<think>b</think>\n", '5, "], "parameters": []}\n', "Step 1: Step 8: é", *(task.gold for task in tasks("ood", 20))):
        ids = tokenizer(text)["input_ids"]
        assert tokenizer.decode(ids) == text and again(text)["input_ids"] == ids
        assert "".join(tokenizer.decode([token]) for token in ids) == text or "é" in text


def test_prompts_and_golds_fit_the_preset(tokenizer):
    for split in ("train", "ood"):
        found = tasks(split, 300)
        prompts = [tokenizer.apply_chat_template(list(task.prompt), add_generation_prompt=True, tokenize=False) for task in found]
        before = [len(ids) for ids in tokenizer(prompts)["input_ids"]]
        after = [1 + len(ids) for ids in tokenizer([task.gold for task in found])["input_ids"]]
        assert max(before) <= PRESET["policy"]["max_prompt_tokens"] and max(after) <= PRESET["sampling"]["max_tokens"]
        assert max(a + b for a, b in zip(before, after, strict=True)) <= SHAPE["max_positions"]


def test_pieces_that_do_not_fit_are_refused():
    with pytest.raises(TokenizerError, match=r"is 261: .* at least 262 \(256 bytes, 4 special tokens, 2 of policy.shape.pieces\)"):
        train_tokenizer(["some text"], 261, PLAIN_TEMPLATE, 64, ("ab", "cd"))
    for pieces in (["a", "a"], [""], ["é"]):
        with pytest.raises(ValidationError):
            ModelShape(pieces=pieces)
