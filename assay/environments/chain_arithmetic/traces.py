"""Demonstrations that overthink: the steps, a number of re-checks, the answer that the last of them leaves.

    <think>7 + 6 = 3. 3 * 2 = 6. wait 3 * 2 = 6. hmm 7 + 6 = 4. 4 * 2 = 8. </think>\\boxed{8}

A re-check begins with a marker and states a random step again with all steps behind it, so that the last stated result is always the one
the policy would answer. The recipe is the one of section B.7 of the study of VSRM (arXiv 2508.10293) that this family was made for.
"""

from dataclasses import dataclass
from random import Random

from assay.environments.chain_arithmetic.chains import Chain
from assay.environments.chain_arithmetic.effects import Effect
from assay.params.data import ChainArithmetic

MARKERS = ("wait", "but", "however", "hmm")


@dataclass(frozen=True)
class Trace:
    """A demonstration: steps, then re-checks, then its answer."""

    text: str
    effects: tuple[Effect, ...]
    """What each re-check does to the result: makes it right, leaves it, makes it wrong."""
    answer: int
    """Right or wrong."""


def draw_trace(chain: Chain, params: ChainArithmetic, random: Random) -> Trace:
    """A demonstration, with its labels. A blank stands before the close tag as before every marker: where a trace is cut before a re-check
    and closed there, the policy sees what it has learned."""
    truth = chain.results(chain.start)
    stated = _spoiled(chain, truth, 0, random) if random.random() < params.mistakes else truth
    text = written(chain, stated)
    effects: list[Effect] = []
    while len(effects) < params.max_checks and random.random() < params.redundancy:
        first = random.randrange(len(truth))
        right = stated[-1] == truth[-1]
        changes = random.random() < (params.harmful if right else params.helpful)
        if changes and right:
            stated = _spoiled(chain, truth, first, random)
        elif changes:
            first = random.randint(0, next(step for step, (a, b) in enumerate(zip(stated, truth, strict=True)) if a != b))
            stated = truth
        effects.append("ineffective" if not changes else "harmful" if right else "helpful")
        text += f"{random.choice(MARKERS)} {written(chain, stated, first)}"
    return Trace(f"<think>{text}</think>\\boxed{{{stated[-1]}}}", tuple(effects), stated[-1])


def written(chain: Chain, stated: list[int], first: int = 0) -> str:
    """Steps `first` to the last as sentences, a blank behind each."""
    before = [chain.start, *stated]
    steps = list(enumerate(chain.operations))[first:]
    return "".join(f"{before[step]} {sign} {operand} = {stated[step]}. " for step, (sign, operand) in steps)


def _spoiled(chain: Chain, truth: list[int], first: int, random: Random) -> list[int]:
    """The results with a mistake at a random step from `first` on; steps behind it go on from it, and the last result is wrong too. (A
    product may hide a mistake; one at the last step cannot be hidden, so this ends.)"""
    while True:
        step = random.randrange(first, len(truth))
        wrong = (truth[step] + random.randrange(1, chain.modulus)) % chain.modulus
        stated = [*truth[:step], wrong, *chain.results(wrong, step + 1)]
        if stated[-1] != truth[-1]:
            return stated
