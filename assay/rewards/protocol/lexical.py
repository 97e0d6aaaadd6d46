"""Overlaps of words: the reward of the paper's "vanilla" ablation, and evaluation metrics beside SCORE.

Written here because no library for them is among the project's requirements; no stemming, no synonyms, no brevity penalty.
"""

import re
from collections import Counter
from collections.abc import Sequence

from assay.rewards.protocol.align import lcs_length
from assay.rewards.protocol.parse import read_leniently

_WORD = re.compile(r"\d+(?:\.\d+)?|[^\W\d_]+")


def words(text: str) -> list[str]:
    """Lowercase words and numbers, without punctuation."""
    return _WORD.findall(text.lower())


def bleu_average(predicted: str, gold: str) -> float:
    """BLEU-AVG: mean of the clipped precisions of 1- to 4-grams (Papineni et al. 2002, section 2.1), without brevity penalty; a length
    that the prediction has no n-grams of counts as 0."""
    first, second = words(predicted), words(gold)
    return sum(_precision(first, second, n) for n in range(1, 5)) / 4


def _precision(predicted: Sequence[str], gold: Sequence[str], n: int) -> float:
    said, wanted = _grams(predicted, n), _grams(gold, n)
    return (said & wanted).total() / said.total() if said else 0.0


def _grams(tokens: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(zip(*(tokens[i:] for i in range(n)), strict=False))


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
