"""A byte-level BPE tokenizer made from scratch for a small policy: any text round-trips, digits stay single tokens."""

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

END_OF_TEXT, MESSAGE_START, MESSAGE_END, PADDING = "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>"
SPECIAL_TOKENS = (END_OF_TEXT, MESSAGE_START, MESSAGE_END, PADDING)

SMALLEST_VOCABULARY = 256 + len(SPECIAL_TOKENS)

# A digit is a piece of its own; so is a sign, with the space on either side of it; a run of words is one piece, so that a
# phrase that every prompt repeats can become a single token: sequences are half as long as with one token per word.
# The tags around thinking are pieces too, so that each becomes a single token where demonstrations have them.
# The order of the alternatives matters: the run of words takes what those before it leave.
_SIGN = r"""[\-+*/=^(){}\[\].,:;<>|&%$#@!?'"\\_~`]"""
PIECES = rf"</?think>| ?{_SIGN} ?|[0-9]|[^0-9\-+*/=^(){{}}\[\].,:;<>|&%$#@!?'\"\\_~`\n]*\n|[^0-9\-+*/=^(){{}}\[\].,:;<>|&%$#@!?'\"\\_~`\n]+"


class TokenizerError(ValueError):
    """A tokenizer that cannot be made or used. The message says what was expected and what to do."""


def train_tokenizer(
    texts: Iterable[str], vocabulary: int, chat_template: str, max_length: int, pieces: Sequence[str] = ()
) -> "PreTrainedTokenizerFast":
    """A tokenizer whose merges are learned from `texts`: rendered prompts and completions, special tokens written out.

    `vocabulary` is an upper limit: where the texts repeat little, fewer merges are found. Equal texts give equal bytes, in
    any order of processes. The end token is `<|im_end|>`, the padding token `<|pad|>`. `pieces`: texts that are one token each wherever
    they stand, the longest first. Raises TokenizerError for an empty corpus or a vocabulary that cannot hold the 256 bytes, the special
    tokens and the pieces.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    if vocabulary < SMALLEST_VOCABULARY + len(pieces):
        own = f", {len(pieces)} of policy.shape.pieces" if pieces else ""
        raise TokenizerError(
            f"policy.shape.vocabulary is {vocabulary}: a byte-level tokenizer needs at least {SMALLEST_VOCABULARY + len(pieces)} "
            f"(256 bytes, {len(SPECIAL_TOKENS)} special tokens{own})"
        )
    # The library learns merges from raw text; it must not see tokens that never take part in one.
    whole = re.compile("|".join(re.escape(token) for token in sorted((*SPECIAL_TOKENS, *pieces), key=len, reverse=True)))
    fragments = [fragment for text in texts for fragment in whole.split(text) if fragment]
    if not fragments:
        raise TokenizerError("no text to learn a tokenizer from: there are neither prompts nor demonstrations")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(PIECES), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])  # fmt: skip
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary - len(pieces),
        min_frequency=2,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(fragments, trainer)
    tokenizer.add_tokens([AddedToken(piece, normalized=False) for piece in pieces])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=MESSAGE_END,
        pad_token=PADDING,
        additional_special_tokens=[END_OF_TEXT, MESSAGE_START],
        chat_template=chat_template,
        model_max_length=max_length,
        clean_up_tokenization_spaces=False,
    )
