"""Chain arithmetic as a task family."""

from collections.abc import Iterator
from itertools import count
from random import Random

from assay.environments.base import Candidate
from assay.environments.chain_arithmetic.chains import Chain, draw_chain
from assay.environments.chain_arithmetic.traces import draw_trace, written
from assay.environments.task import Task
from assay.params.data import ChainArithmetic
from assay.trajectories import seed_from

VERIFIER, ORACLE = "numeric", "rational"


class ChainArithmeticEnvironment:
    """Questions like `from left to right, modulo 10: 7 + 6 * 2 = ?` with gold `6`.

    Rule and oracle compare the number exactly. The meta has, beside `oracle`, the chain itself: `effects.read_trace` tells from it what
    each re-check of an answer does. Difficulty: the number of steps. `ood`: longer chains.
    """

    forms = 16  # in truth far more

    def __init__(self, name: str, params: ChainArithmetic, seed: int) -> None:
        self.name, self.params, self.seed = name, params, seed
        self.notes: list[str] = []

    def has(self, split: str) -> bool:
        return True

    def check(self) -> None:
        """Nothing can be wrong that the parameters do not check already."""

    def candidates(self, split: str) -> Iterator[Candidate]:
        random, params = Random(seed_from(self.seed, "tasks", self.name, split)), self.params
        steps = params.ood_steps if split == "ood" else params.steps
        kept_as = split if split in ("eval", "ood") else "train"
        for index in count():
            chain = draw_chain(params.operations, steps, params.modulus, params.max_operand, random)
            gold, meta = str(chain.results(chain.start)[-1]), {"oracle": ORACLE} | chain.meta()
            task = Task.create(self.name, kept_as, chain.question(), gold, VERIFIER, meta, float(len(chain.operations)))
            yield Candidate(task, f"task {index} of split {split}")

    def demonstration(self, task: Task, random: Random) -> str:
        """Thinking with re-checks, and an answer that is not always right."""
        return draw_trace(Chain.from_meta(task.meta), self.params, random).text

    def pretraining_text(self, task: Task) -> str:
        """The operations and their results, without a mistake and without a re-check."""
        chain = Chain.from_meta(task.meta)
        return f"{chain.expression()} = ? {written(chain, chain.results(chain.start))}"
