"""Overlaps of words: the reward of the paper's "vanilla" ablation, and evaluation metrics beside SCORE.

No stemming, no synonyms, no brevity penalty. n-grams are sacreBLEU's; ROUGE-L is one line over the longest common subsequence that SCORE
has anyway.
"""

import re
from collections import Counter
from functools import cache
from typing import Any

from assay.rewards.protocol.align import lcs_length
from assay.rewards.protocol.parse import read_leniently

_WORD = re.compile(r"\d+(?:\.\d+)?|[^\W\d_]+")


def words(text: str) -> list[str]:
    """Lowercase words and numbers, without punctuation."""
    return _WORD.findall(text.lower())


def bleu_average(predicted: str, gold: str) -> float:
    """BLEU-AVG: mean of the clipped precisions of 1- to 4-grams (Papineni et al. 2002, section 2.1), without brevity penalty; a length
    that the prediction has no n-grams of counts as 0."""
    found = _bleu().corpus_score([" ".join(words(predicted))], [[" ".join(words(gold))]])
    return sum(common / said if said else 0.0 for common, said in zip(found.counts, found.totals, strict=True)) / 4


@cache
def _bleu() -> Any:
    from sacrebleu.metrics.bleu import BLEU  # a quarter of a second, which only protocols need

    return BLEU(tokenize="none", smooth_method="none")  # words are found here, and precisions are not smoothed


def rouge_l(predicted: str, gold: str) -> float:
    """ROUGE-L: F1 of the longest common subsequence of words (Lin 2004, section 3, beta = 1)."""
    first, second = words(predicted), words(gold)
    return 2 * lcs_length(first, second) / (len(first) + len(second)) if first or second else 0.0


def token_f1(predicted: str, gold: str) -> float:
    """F1 of the words as multisets; stands for the keyword F1 of the paper, whose keywords need a downloaded model."""
    first, second = Counter(words(predicted)), Counter(words(gold))
    size = first.total() + second.total()
    return 2 * (first & second).total() / size if size else 0.0


def lexical_reward(text: str, gold: str) -> float:
    """In [0, 1]: mean of BLEU-AVG, ROUGE-L and token-F1 of the orc against the gold's; 0 where there is no orc. The paper's third part is
    BERTScore, which needs a downloaded model."""
    orc, wanted = read_leniently(text)[2], read_leniently(gold)[2]
    return (bleu_average(orc, wanted) + rouge_l(orc, wanted) + token_f1(orc, wanted)) / 3
