"""The verifiers by name: how each decides, cheaply where that is possible, and when its verdicts may have changed.

Workers import this module and nothing else of ours, so what is slow to import is imported by the functions that need it.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib import metadata
from typing import Any, Literal

from assay.verifiers import functions, math_verify, numeric, protocol_score, sql_execution, string_match, tool_use
from assay.verifiers.options import options_of
from assay.verifiers.options import version_of as version_with
from assay.verifiers.verdicts import Finding, VerifierError, abstain, correct, wrong

Meta = dict[str, Any]


@dataclass(frozen=True)
class VerifierSpec:
    """One verifier. `quick` runs in any process and must be bounded; `slow` runs in a worker and may do anything."""

    name: str
    version: str
    """Own revision and the versions of the libraries that verdicts rest on: changes whenever verdicts may change."""
    quick: Callable[[str, str], Finding | None]
    """(answer, gold): the verdict, or None to pass the question on."""
    slow: Callable[[str, str, Meta], Finding] | None = None
    """(answer, gold, meta): the verdict. An exception makes it an abstention."""
    preload: tuple[str, ...] = ()
    """What workers need in memory: modules, or functions ("module:attribute") that are called once."""
    needs: tuple[str, ...] = ()
    """Keys of the task's meta that it reads. Questions with equal answers and golds are one question unless it reads
    any."""
    vouches: bool = True
    """Whether `quick` may say that a gold is sound; otherwise only `slow` may."""
    prepare: Callable[[Meta], Meta] | None = None
    """What workers need to know of this machine, as meta: called in the process that asks, never stored."""
    whole_text: bool = False
    """It reads the completion instead of the answer in it, of any length, and needs the task's prompt."""
    transcript: bool = False
    """It reads what was played in turns (`transcripts`) instead of a text, of any length."""
    accepts_golds: bool = True
    """A bare gold must be right by it. Otherwise it only has to give a verdict on one."""
    reward: Literal["verdict", "score"] = "verdict"
    """What training gets where this is the rule: 1 or 0 by the verdict, or the verifier's own score."""


def version_of(revision: int, *libraries: str) -> str:
    """Our revision with the versions of libraries, e.g. `1+sympy-1.14.0`."""
    return "+".join([str(revision), *(f"{library}-{metadata.version(library)}" for library in libraries)])


def score_reasoning_gym(answer: str, gold: str, meta: Meta) -> Finding:
    """The generator's own scorer; only 1.0 is correct."""
    from assay.environments.reasoning_gym import score

    value = score(answer, gold, meta)
    return correct(value) if value == 1.0 else wrong(score=value)


def ask_oracle(answer: str, gold: str, meta: Meta) -> Finding:
    """The exact oracle of the task's environment."""
    from assay.environments.oracles import ORACLES, OracleError

    try:
        says = ORACLES[meta["oracle"]](answer, gold, meta)
    except OracleError:
        return abstain("gold_unparseable")
    if says is None:
        return wrong("unparseable")
    return correct() if says else wrong()


def pass_exact(answer: str, gold: str) -> Finding | None:
    """The gold itself is right and nothing at all is wrong; everything else is passed on."""
    if not answer.strip():
        return wrong("unparseable")
    return correct() if answer == gold else None


def pass_blank(answer: str, gold: str) -> Finding | None:
    """Nothing at all is wrong; everything else is passed on."""
    return None if answer.strip() else wrong("unparseable")


def pass_on(answer: str, gold: str) -> Finding | None:
    """Every question is passed on."""
    return None


def protocol_spec(name: str) -> VerifierSpec:
    """SCORE with the options that an address holds, as a verifier."""
    options = options_of(name)
    return VerifierSpec(
        protocol_score.NAME, version_with(protocol_score.REVISION, options), pass_on, partial(protocol_score.judge, options),
        preload=protocol_score.PRELOAD, vouches=False, whole_text=True, reward="score",
    )  # fmt: skip


def tool_use_spec(name: str) -> VerifierSpec:
    """The reward of tool use with the options that a name holds. It executes nothing, and so needs no worker."""
    options = options_of(name)
    return VerifierSpec(
        tool_use.NAME, version_with(tool_use.REVISION, options), partial(tool_use.judge, options),
        transcript=True, accepts_golds=False, reward="score",
    )  # fmt: skip


VERIFIERS: dict[str, VerifierSpec] = {
    spec.name: spec
    for spec in (
        VerifierSpec("string_match", "2", string_match.judge),
        VerifierSpec("numeric", "2", numeric.judge),
        VerifierSpec(
            "math_verify",
            version_of(4, "math-verify", "latex2sympy2_extended", "sympy"),
            math_verify.quick,
            lambda answer, gold, meta: math_verify.judge(answer, gold),
            preload=("assay.verifiers.math_verify:warm_up",),
        ),
        VerifierSpec(
            "reasoning_gym",
            version_of(2, "reasoning-gym"),
            pass_exact,
            score_reasoning_gym,
            preload=("reasoning_gym",),
            needs=("generator", "config", "entry_metadata"),
            vouches=False,
        ),
        VerifierSpec(
            "sql_execution",
            version_of(sql_execution.REVISION, "duckdb"),
            pass_exact,
            sql_execution.judge,
            preload=sql_execution.PRELOAD,
            needs=sql_execution.NEEDS,
            vouches=False,
            prepare=sql_execution.on_this_machine,
        ),
        protocol_spec(protocol_score.NAME),
        tool_use_spec(tool_use.NAME),
    )
}
"""By the names that params.yaml and tasks use. A user's reward function becomes one too: `function_spec`."""

FORMULAS = frozenset({"numeric", "math_verify"})
"""Verifiers that compare numbers and formulas."""
STRUCTURED = frozenset({"sql_execution", "protocol_score", "tool_use"})
"""Verifiers of answers that are more than that: of two queries or protocols those above would compare some number, so for tasks that name
one of these they are no reference, and no judge."""
CODE = frozenset({"sql_execution"})
"""Verifiers of tasks whose answers are statements, of any number of lines."""


def fits(verifier: str, own: str) -> bool:
    """Whether a verifier can say anything of a task that names the verifier `own`, but did not choose this one."""
    return not (verifier in FORMULAS and own in STRUCTURED)


ORACLE_VERSION = "2"
BOUNDED_ORACLES = frozenset({"rational"})
"""Oracles that read neither meta nor long texts and evaluate nothing: they answer in any process, without a worker."""


def oracle_spec(name: str) -> VerifierSpec:
    """The oracle that a task's meta names, as a verifier. Raises VerifierError for an unknown one."""
    from assay.environments.oracles import ORACLES

    if name not in ORACLES:
        raise VerifierError(f"meta names the oracle {name!r}, but there are only {', '.join(sorted(ORACLES))}")
    if name in BOUNDED_ORACLES:
        return VerifierSpec(f"oracle:{name}", ORACLE_VERSION, partial(ask_oracle, meta={"oracle": name}))
    if name == "sql_execution":
        return VerifierSpec(
            f"oracle:{name}", version_of(sql_execution.REVISION, "duckdb"), pass_blank, sql_execution.judge_everywhere,
            preload=sql_execution.PRELOAD, needs=sql_execution.NEEDS, prepare=sql_execution.on_this_machine,
        )  # fmt: skip
    if name == protocol_score.ORACLE:
        return VerifierSpec(
            f"oracle:{name}", version_of(protocol_score.ORACLE_REVISION), pass_on, protocol_score.carry_out,
            preload=protocol_score.PRELOAD, whole_text=True,
        )  # fmt: skip
    return VerifierSpec(f"oracle:{name}", ORACLE_VERSION, pass_on, ask_oracle, needs=("oracle",))


def function_spec(address: str) -> VerifierSpec:
    """The reward function of the user that an address holds, as a verifier. It has no quick step: it runs in workers alone."""
    definition = functions.definition_of(address)
    return VerifierSpec(
        definition["name"], functions.version_of(definition), pass_on, partial(functions.score, definition),
        preload=tuple(definition["imports"]), vouches=False, whole_text=True, accepts_golds=False,
    )  # fmt: skip


@lru_cache(maxsize=256)
def spec_of(name: str) -> VerifierSpec:
    """A verifier or oracle by name, a reward function and SCORE with options by their addresses. Raises VerifierError where there is
    none."""
    if name.startswith("oracle:"):
        return oracle_spec(name.removeprefix("oracle:"))
    if name.startswith(functions.ADDRESS):
        return function_spec(name)
    if name.startswith(protocol_score.ADDRESS):
        return protocol_spec(name)
    if name.startswith(tool_use.ADDRESS):
        return tool_use_spec(name)
    if name not in VERIFIERS:
        raise VerifierError(f"there is no verifier {name!r}; there are {', '.join(sorted(VERIFIERS))}")
    return VERIFIERS[name]


def judge_one(name: str, answer: str, gold: str, meta: str) -> Finding:
    """The slow step of a verifier on one question; `meta` is JSON. What the pool calls."""
    spec = spec_of(name)
    if spec.slow is None:
        return abstain("error", json.dumps(f"{name} has no slow step"))
    return spec.slow(answer, gold, json.loads(meta))
