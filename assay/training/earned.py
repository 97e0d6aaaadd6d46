"""What each row of a batch has earned: by the rule's verdicts, then as the section `rewards` asks."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute

from assay.params import Params
from assay.training.ragged import Streams
from assay.training.think_tags import opened_by_prompt
from assay.training.token_rewards import shaped


class AssembleError(ValueError):
    """Trajectories and verdicts from which no training batch can be made."""


@dataclass(frozen=True)
class Earned:
    """What the rule's verdicts say of each row."""

    rewards: np.ndarray
    """(rows,) float64, NaN where the rule abstained."""
    verifiers: list[str]
    reasons: list[str]


def earned_by(rows: pa.Table, verdicts: pa.Table) -> Earned:
    """Of rows that could train. Raises AssembleError for a row without a verdict of the rule, with several, or without its reward."""
    rule = verdicts.filter(pa.compute.equal(verdicts["role"], "rule"))
    names = rule["trajectory_id"].to_pylist()
    columns = (rule[name].to_pylist() for name in ("verdict", "observed_reward", "verifier", "reason"))
    observed = dict(zip(names, zip(*columns, strict=True), strict=True))
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise AssembleError(
            f"trajectory {twice[0]} has several verdicts of role rule: give those of one verifier at one version"
        )
    rewards, verifiers, reasons = np.full(len(rows), np.nan), [""] * len(rows), [""] * len(rows)
    for index, name in enumerate(rows["trajectory_id"].to_pylist()):
        if name not in observed:
            raise AssembleError(f"trajectory {name} has no verdict of role rule: run the verify stage of its iteration")
        verdict, reward, verifiers[index], reasons[index] = observed[name]
        if verdict == "abstain":
            continue
        if reward is None:
            raise AssembleError(f"trajectory {name} was judged {verdict}, but its observed_reward is null")
        rewards[index] = reward
    return Earned(rewards, verifiers, reasons)


def shaped_rewards(rows: pa.Table, earned: Earned, streams: Streams, params: Params, folder: Path | None) -> np.ndarray:
    """(rows,) rewards as `rewards` asks; those of critiques as they are. folder: a policy's, for its tokenizer."""
    if params.rewards.levels is None and not params.rewards.length_penalty:
        return earned.rewards
    opened, levels = None, params.rewards.levels
    if levels is not None and levels.no_format is not None:
        names = rows["trajectory_id"].to_pylist()
        opened = opened_by_prompt(streams.prompts, names, folder, params.stepwise.open_tag, levels.opened_by_prompt)
    sampled = streams.mask.sums()  # of an episode: without what tools answered
    found = shaped(earned.rewards, earned.reasons, rows["text"].to_pylist(), sampled, params, opened)
    return np.where(np.asarray(rows["kind"].to_pylist()) == "critique", earned.rewards, found)
