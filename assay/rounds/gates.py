"""The gates over sampled answers and their verdicts: those of presamples, of a batch before it is made, of the rounds of a fused iteration,
and of the last policy."""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from assay.params import Params
from assay.trajectories import Limits, run_gate
from assay.trajectories.gates.measures import least_share

TEXT_CONFIGS = ("text_config", "decoder", "generator", "text_encoder")
"""Keys under which a composite model's config.json has that of its language model, as transformers looks for it."""


def limits_of(params: Params, policy: Path) -> Limits:
    """What the numbers of a run with these parameters are compared with. policy: the folder of the one that sampled."""
    own, size = params.self_verification, params.sampling.group_size
    critiques = (own.group_size or size) if own.share else None
    return Limits(
        abstain=params.verification.abstain_limit, group_size=size, critique_group_size=critiques, vocabulary=vocabulary_of(policy)
    )


def vocabulary_of(policy: Path) -> int | None:
    """Rows of the policy's embedding, which every token id lies below; None where its folder does not say, so that nothing is checked."""
    try:
        config = json.loads((policy / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):  # who loads the policy says so
        return None
    text = next((config[key] for key in TEXT_CONFIGS if isinstance(config.get(key), dict)), config) if isinstance(config, dict) else {}
    size = text.get("vocab_size")
    return size if isinstance(size, int) and size > 0 else None


def check_answers(tasks: pa.Table, trajectories: pa.Table, verdicts: pa.Table, limits: Limits, gates: Path) -> None:
    """The gates `trajectories` and `verdicts`, with a line for each. gates: folder for data docs. Raises GateError."""
    print(run_gate("trajectories", {"trajectories": trajectories, "tasks": tasks}, gates / "trajectories", limits), flush=True)
    whole = {"verdicts": verdicts, "trajectories": trajectories, "tasks": tasks}
    print(run_gate("verdicts", whole, gates / "verdicts", limits), flush=True)


class AbstentionError(ValueError):
    """A round in which the rule could not judge too many answers."""


def check_abstentions(verdicts: pa.Table, asked: Mapping[str, tuple[str, str]], params: Params, number: int, folder: Path) -> None:
    """What the gate asks of a whole iteration, asked of each round: a policy that learns to crash its verifier is not trained on.

    asked: of each trajectory the environment and the task. folder: where the round's tables lie, for the message. The limit is on the
    whole, and on each environment where there are several: one family whose verifier is broken is few of a mixture's rows. A single
    verdict is no share of the whole, unless none at all may abstain. Of an environment's few rows the lower end of an interval counts
    (`least_share`), and a single task (one gold that cannot be read) is no share at all. Raises AbstentionError.
    """
    rule = verdicts.filter(pc.equal(verdicts["role"], "rule"))
    found: dict[str, Counter[str | None]] = {}  # by environment: verdicts by reason, None where the rule decided
    tasks: dict[str, set[str]] = {}  # by environment: those with an abstention
    for name, verdict, reason in zip(*(rule[column].to_pylist() for column in ("trajectory_id", "verdict", "reason")), strict=True):
        environment, task = asked[name]
        found.setdefault(environment, Counter())[reason if verdict == "abstain" else None] += 1
        if verdict == "abstain":
            tasks.setdefault(environment, set()).add(task)
    parts: list[tuple[str, Counter[str | None]]] = [("", sum(found.values(), Counter()))]
    parts += [(f" of environment {name}", found[name]) for name, silent in tasks.items() if len(found) > 1 and len(silent) > 1]
    limit = params.verification.abstain_limit
    for where, counts in parts:
        reasons, total = Counter({reason: n for reason, n in counts.items() if reason is not None}), counts.total()
        if where and least_share(reasons.total(), total) <= limit:
            continue
        if reasons.total() <= max(limit * total, 1 if limit else 0):
            continue
        tally = ", ".join(f"{count:,} {reason}" for reason, count in reasons.most_common())
        raise AbstentionError(
            f"round {number + 1}: the rule abstained on {reasons.total():,} of {total:,} answers{where} ({tally}), more than "
            f"verification.abstain_limit ({limit:.3g}) allows, and nothing was trained on them; they lie in {folder}. Raise the limit and "
            "run again, which keeps rounds up to the last state, or correct the verifier (with other parameters the iteration begins anew)"
        )
