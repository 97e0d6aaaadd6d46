"""Questions to verifiers, settled at the least cost: each distinct one once, cheap steps here, slow ones in the pool.

Order of the steps: length, the verifier's quick step (exact match, numeric comparison), its slow step in a
worker.
"""

import ast
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

from assay.environments import Task
from assay.isolation import Outcome, Pool
from assay.isolation.pool import Progress
from assay.params.functions import top_level_imports
from assay.params.verification import VerificationParams
from assay.verifiers import protocol_score, tool_use
from assay.verifiers.extract import extract_answer
from assay.verifiers.functions import address
from assay.verifiers.options import address as with_options
from assay.verifiers.spec import CODE, spec_of
from assay.verifiers.verdicts import Finding, VerifierError, abstain, is_sound, wrong

__all__ = ["Question", "answer_in", "as_not_applicable", "ask", "meta_for", "open_pool", "resolve", "settle", "subject"]

_ADDRESS = re.compile(r"0x[0-9a-fA-F]+")


class Question(NamedTuple):
    """Is this answer right, says which verifier? Equal questions get one verdict."""

    verifier: str
    answer: str
    gold: str
    meta: str = "{}"
    """JSON of the task's meta, with the prompt for verifiers of whole texts; `{}` for verifiers that read neither."""


def resolve(name: str, params: VerificationParams) -> str:
    """A verifier's name as everything here takes it: that of a reward function of the user, of SCORE or of tool use
    with options, becomes its address."""
    if name == protocol_score.NAME:
        return with_options(protocol_score.NAME, params.protocol.model_dump(mode="json", exclude_defaults=True))
    if name == tool_use.NAME:
        return with_options(tool_use.NAME, params.tool_use.model_dump(mode="json", exclude_defaults=True))
    function = params.functions.get(name)
    if function is None:
        return name
    if function.source is None or function.name is None:
        raise VerifierError(f"verification.functions.{name} has no source; read the parameters with `load_params`, which fills it in")
    return _address(name, function.name, function.source, function.correct_at, function.format)


@lru_cache(maxsize=64)
def _address(name: str, function: str, source: str, correct_at: float, form: str) -> str:
    """The same string object for the same function, so that thousands of questions hold its source once."""
    return address(name, function, source, correct_at, form, top_level_imports(ast.parse(source)))


def meta_for(verifier: str, task: Task) -> str:
    """What `ask` takes as meta: JSON of what the verifier reads of a task beside its gold."""
    spec = spec_of(verifier)
    if spec.whole_text:
        return json.dumps({"prompt": list(task.prompt), "meta": task.meta}, sort_keys=True)
    meta = task.meta if spec.prepare is None else spec.prepare(task.meta)
    return json.dumps(meta, sort_keys=True) if spec.needs else "{}"


def answer_in(text: str, task: Task) -> str:
    """The answer to a task in a completion."""
    return extract_answer(text, task.verifier in CODE)


def subject(verifier: str, text: str, answer: str, transcript: str = "") -> str:
    """What `ask` takes as answer: the completion for verifiers of whole texts, the transcript for those of what was played in turns, the
    answer in the completion for all others."""
    spec = spec_of(verifier)
    return transcript if spec.transcript else text if spec.whole_text else answer


def ask(verifier: str, answer: str, gold: str, meta: str) -> Question:
    """A question without what its verifier does not look at, so that equal ones are seen to be equal."""
    spec = spec_of(verifier)
    return Question(verifier, answer, gold, meta if spec.needs or spec.whole_text else "{}")


def settle(
    questions: Iterable[Question], pool: Pool, limit: int, progress: Progress | None = None
) -> dict[Question, Finding]:
    """A finding for each distinct question. `limit`: characters of the longest answer that is read.

    The pool is started only if a slow step is needed. Raises IsolationError where it fails; a verifier that fails
    abstains.
    """
    findings: dict[Question, Finding] = {}
    slow: list[Question] = []
    for question in dict.fromkeys(questions):
        finding = _quickly(question, limit)
        if finding is None:
            slow.append(question)
        else:
            findings[question] = finding
    outcomes = pool.map([tuple(question) for question in slow], progress)
    findings.update({question: _finding(outcome) for question, outcome in zip(slow, outcomes, strict=True)})
    return findings


def _quickly(question: Question, limit: int) -> Finding | None:
    spec = spec_of(question.verifier)
    if len(question.answer) > limit and not (spec.whole_text or spec.transcript):
        return wrong("too_long")
    return spec.quick(question.answer, question.gold)


def _finding(outcome: Outcome) -> Finding:
    if outcome.failure == "error":  # the message helps people; addresses in it would differ from run to run
        return abstain("error", json.dumps({"error": _ADDRESS.sub("0x", outcome.detail)[:200]}))
    if outcome.failure:
        return abstain(outcome.failure)
    return outcome.value if is_sound(outcome.value) else abstain("crash")  # made by what runs in the worker, not by the verifier


def open_pool(params: VerificationParams, workers: int, verifiers: Sequence[str]) -> Pool:
    """A pool for the slow steps of the named verifiers. A context manager; not started yet."""
    preload = dict.fromkeys(name for verifier in verifiers for name in spec_of(verifier).preload)
    return Pool("assay.verifiers.spec:judge_one", workers, params.timeout, params.memory_mib, tuple(preload), (Finding,))


def as_not_applicable(finding: Finding) -> Finding:
    """For a reference that was not chosen by the task: a gold that it cannot read only means that it does not fit."""
    return replace(finding, reason="not_applicable") if finding.reason == "gold_unparseable" else finding
