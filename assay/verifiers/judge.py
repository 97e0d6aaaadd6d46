"""Single verdicts, for those who cannot wait for a table: golds at generation, pass@1 while policy 0 is trained."""

from collections.abc import Sequence
from contextlib import ExitStack

from assay.environments import Task
from assay.isolation import Pool
from assay.isolation.pool import Progress
from assay.params.verification import VerificationParams
from assay.verifiers.cascade import answer_in, ask, meta_for, open_pool, resolve, settle, subject
from assay.verifiers.extract import answer_format
from assay.verifiers.spec import spec_of
from assay.verifiers.verdicts import Finding, Verdict, abstain, is_sound, wrong
from assay.verifiers.verify import verifier_name


class Judge:
    """Verdicts on single texts, with workers that stay warm between calls. A context manager; starts only what is
    needed."""

    def __init__(self, params: VerificationParams | None = None, workers: int = 1) -> None:
        self.params, self.workers = params or VerificationParams(), workers
        self._pools: dict[str, Pool] = {}
        self._open = ExitStack()

    def __enter__(self) -> "Judge":
        return self

    def __exit__(self, *_: object) -> None:
        self._pools.clear()
        self._open.close()

    def verdict(self, task: Task, text: str, verifier: str | None = None) -> Verdict:
        """What a verifier (by default the task's rule) says of a text. Raises VerifierError where it does not fit the
        task."""
        name = resolve(verifier, self.params) if verifier else verifier_name("rule", task, self.params)
        assert name is not None
        answer = answer_in(text, task)
        question = ask(name, subject(name, text, answer), task.gold, meta_for(name, task))
        found = settle([question], self._pool(name), self.params.max_answer_characters)[question]
        form = answer_format(answer)
        return Verdict(found.verdict, found.reason, found.score, answer, form, found.components)

    def is_correct(self, task: Task, text: str) -> bool:
        """Whether a text is right: by the environment's oracle where there is one, else by the task's rule."""
        oracle = verifier_name("oracle", task, self.params)
        return self.verdict(task, text, oracle).verdict == "correct"

    def gold_problems(self, tasks: Sequence[Task], progress: Progress | None = None) -> list[str | None]:
        """What keeps each task's rule from accepting the task's own gold; None where it does accept it. `progress` is
        called with (settled, all) golds that need a worker.

        A reward function of the user may want more than a bare gold, a format say: it only has to give a verdict."""
        problems: list[str | None] = [None] * len(tasks)
        by_worker: dict[str, list[int]] = {}
        for position, task in enumerate(tasks):
            name = verifier_name("rule", task, self.params)
            assert name is not None
            if spec_of(name).transcript:
                continue  # a gold is no episode; that tools give what they should is seen where they are built
            answer = subject(name, task.gold, answer_in(task.gold, task))
            if len(answer) > self.params.max_answer_characters and not spec_of(name).whole_text:
                problems[position] = _complaint(spec_of(name).name, wrong("too_long"))
            elif spec_of(name).slow is not None and not (spec_of(name).vouches and spec_of(name).quick(answer, task.gold)):
                by_worker.setdefault(name, []).append(position)
            elif (finding := spec_of(name).quick(answer, task.gold)) is None or finding.verdict != "correct":
                problems[position] = _complaint(spec_of(name).name, finding or abstain("error"))
        for name, positions in by_worker.items():
            golds = [(tasks[position], tasks[position].gold) for position in positions]
            items = [(name, subject(name, gold, answer_in(gold, task)), gold, meta_for(name, task)) for task, gold in golds]
            for position, outcome in zip(positions, self._pool(name).map(items, progress), strict=True):
                if outcome.failure is not None:
                    problems[position] = f"{spec_of(name).name} fails on it ({outcome.failure}: {outcome.detail[:200]})"
                elif not is_sound(outcome.value):
                    problems[position] = f"{spec_of(name).name} fails on it (crash: its worker did not answer)"
                elif outcome.value.verdict != "correct" and spec_of(name).accepts_golds:
                    problems[position] = _complaint(spec_of(name).name, outcome.value)
        return problems

    def gold_problem(self, task: Task) -> str | None:
        """`gold_problems` of one task."""
        return self.gold_problems([task])[0]

    def _pool(self, name: str) -> Pool:
        if name not in self._pools:
            self._pools[name] = self._open.enter_context(open_pool(self.params, self.workers, [name]))
        return self._pools[name]


def _complaint(name: str, finding: Finding) -> str:
    match finding.reason:
        case "gold_unparseable":
            return f"{name} cannot read it{f' ({finding.components})' if finding.components else ''}"
        case "too_long":
            return "it is longer than verification.max_answer_characters"
        case "timeout" | "memory" | "crash" | "error" | "too_complex":
            return f"{name} fails on it ({finding.reason}{f': {finding.components}' if finding.components else ''})"
    return f"{name} does not accept it as its own answer ({finding.verdict}: {finding.reason})"


def check_gold(task: Task, params: VerificationParams) -> str | None:
    """`Judge.gold_problem` for one task. For many, keep a Judge open: verifiers with workers take seconds to start."""
    with Judge(params) as judge:
        return judge.gold_problem(task)


def is_correct(task: Task, text: str, params: VerificationParams | None = None) -> bool:
    """`Judge.is_correct` for one text. For many, keep a Judge open."""
    with Judge(params) as judge:
        return judge.is_correct(task, text)
