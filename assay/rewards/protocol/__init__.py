"""Structured protocols: the Sketch-and-Fill format and SCORE, its component-based reward (Thoth, arXiv 2510.15600).

Reconstructed: the reward's own source is not public. What is taken from the paper, what from its sibling evaluator and what is a choice
of ours is said where it is made. `parse` reads a text, `validate` holds a gold to the rules of its construction, `score` compares the two.
"""

from assay.params.protocols import ScoreOptions
from assay.rewards.protocol.align import align_as_evaluated, align_as_figured, lcs_length
from assay.rewards.protocol.lexical import bleu_average, lexical_reward, rouge_l, token_f1
from assay.rewards.protocol.parse import BLOCKS, Block, OrcLine, Parsed, Problem, Step, parse, read_leniently
from assay.rewards.protocol.score import Score, StepScore, combine, own_shortfall, score
from assay.rewards.protocol.validate import Consistency, GoldError, consistency, read_gold, validate

__all__ = [
    "BLOCKS",
    "Block",
    "Consistency",
    "GoldError",
    "OrcLine",
    "Parsed",
    "Problem",
    "Score",
    "ScoreOptions",
    "Step",
    "StepScore",
    "align_as_evaluated",
    "align_as_figured",
    "bleu_average",
    "combine",
    "consistency",
    "lcs_length",
    "lexical_reward",
    "own_shortfall",
    "parse",
    "read_gold",
    "read_leniently",
    "rouge_l",
    "score",
    "token_f1",
    "validate",
]
