"""Rewards of single tokens: outcomes, steps and penalties as a stream of the batch, and the advantages that come of it."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from assay.objectives.advantages import generalized_advantage, reinforce_plus_plus, token_rewards, whiten
from assay.params import Params
from assay.params.rewards import RewardParams
from assay.params.stepwise import Stepwise
from assay.params.training import Generalized, ReinforcePlusPlus
from assay.rewards.boxes import is_answered
from assay.rewards.stepwise import OutcomeRewards, Rules, StepwiseError, outcome_branch, place, segment
from assay.training.ragged import Ragged, Streams

ValuesOf = Callable[[Streams], Ragged]
"""The critic: a value before each completion token."""


class TokenRewardError(ValueError):
    """Steps, penalties or values that a batch needs and does not have."""


@dataclass(frozen=True)
class TokenAdvantages:
    """Streams of a batch, aligned with the loss mask. Rows without reward are 0."""

    advantages: Ragged
    rewards: Ragged | None
    """None where a row earns its outcome alone."""
    values: Ragged | None = None
    returns: Ragged | None = None


def row_means(tokens: np.ndarray, mask: Ragged, seen: np.ndarray) -> np.ndarray:
    """(rows,) mean advantage over the tokens that bear loss; NaN for rows without reward. tokens: (values,), 0 on others."""
    use = mask.values.astype(bool) & seen[mask.rows]
    counts = np.bincount(mask.rows, weights=use, minlength=len(mask))
    means = np.bincount(mask.rows, weights=tokens * use, minlength=len(mask)) / np.maximum(counts, 1)
    means[~seen] = np.nan
    return means


def shaped(
    observed: np.ndarray, reasons: list[str], texts: list[str], tokens: np.ndarray, params: Params, opened: np.ndarray | None = None
) -> np.ndarray:
    """(rows,) rewards of solutions from what training sees of their verdicts (1, 0 or NaN), as `rewards` asks.

    reasons: of the rule's verdicts. tokens: (rows,) of the completions. opened: (rows,) bool, the prompt opens the thinking; needed where
    rewards.levels.no_format is set. Rows without a verdict stay NaN. Raises TokenRewardError where `opened` is needed and not given.
    """
    option: RewardParams = params.rewards
    rewards = observed.copy()
    if (levels := option.levels) is not None:
        earns = OutcomeRewards(levels.correct, levels.wrong, levels.no_answer, levels.no_format if levels.no_format is not None else 0.0)
        if levels.no_format is not None and opened is None:
            raise TokenRewardError("rewards.levels.no_format is set, which needs to know whether prompts open the thinking: give `opened`")
        tags = Rules(open_tag=params.stepwise.open_tag, close_tag=params.stepwise.close_tag, markers=(), capitalised_markers=())
        for row in np.flatnonzero(~np.isnan(observed)):
            text = texts[row]
            complete = opened is None or levels.no_format is None or segment(text, tags, opened_by_prompt=bool(opened[row])).complete
            right, read = bool(observed[row] == 1), reasons[row] != "unparseable"
            answered = is_answered(text, right=right, read=read, boxed=levels.boxed, readable=levels.readable)
            rewards[row] = earns.of(outcome_branch(complete=complete, answered=answered, correct=right))
    if option.length_penalty:
        rewards = rewards - option.length_penalty * tokens / params.sampling.max_tokens
    return rewards


def by_token(params: Params) -> bool:
    """Whether advantages come from rewards of single tokens."""
    option = params.training.advantage
    with_steps = params.stepwise.continuations > 0 or params.rewards.reference_penalty > 0
    return isinstance(option, Generalized) or (isinstance(option, ReinforcePlusPlus) and with_steps)


def token_advantages(
    rewards: np.ndarray, names: list[str], streams: Streams, params: Params, *, steps: pa.Table | None = None,
    reference: Ragged | None = None, policy: Ragged | None = None, values_of: ValuesOf | None = None,
) -> TokenAdvantages:  # fmt: skip
    """Advantages of every token, whitened over all rows that have a reward (REINFORCE++, PPO).

    rewards: (rows,) outcomes, NaN where there is none. names: trajectory ids. steps: table `steps`. reference: policy 0's
    log-probabilities, for rewards.reference_penalty. policy: its own, where the sampler's are not of its whole distribution (top_p below
    1); None: the sampler's. Raises TokenRewardError where one of these is missing or does not fit.
    """
    option, seen = params.training.advantage, ~np.isnan(rewards)
    offsets, mask = streams.mask.offsets, streams.mask.values.astype(bool) & seen[streams.mask.rows]
    bonus = None
    if params.stepwise.continuations:
        if steps is None:
            raise TokenRewardError("stepwise.continuations is above 0, but no table of steps is given: run the verify stage again")
        bonus = _placed(steps, names, streams.mask, params.stepwise)
    penalties = None
    if params.rewards.reference_penalty:
        if reference is None:
            raise TokenRewardError("rewards.reference_penalty is above 0, which needs policy 0: give its folder as `reference`")
        if policy is None and params.sampling.top_p < 1:
            raise TokenRewardError(
                f"sampling.top_p is {params.sampling.top_p}, so that the sampler's log-probabilities are not the policy's, which "
                "rewards.reference_penalty needs: give the folder of the policy that sampled as `policy`"
            )
        own, other = ((policy or streams.logprobs).values, reference.values)
        penalties = params.rewards.reference_penalty * (own.astype(np.float64) - other.astype(np.float64))
    earned = token_rewards(np.nan_to_num(rewards), mask, steps=bonus, penalties=penalties, offsets=offsets)

    def stream(values: np.ndarray) -> Ragged:
        return Ragged(values.astype(np.float32), offsets)

    stored = None if bonus is None and penalties is None else stream(earned)
    if isinstance(option, ReinforcePlusPlus):
        found = reinforce_plus_plus(earned, mask, gamma=option.gamma, offsets=offsets)
        return TokenAdvantages(stream(found), stored)
    assert isinstance(option, Generalized)
    if values_of is None:
        raise TokenRewardError("training.advantage.type is generalized, which needs a critic's values: give `values_of`")
    values = values_of(streams)
    found, returns = generalized_advantage(earned, values.values, mask, gamma=option.gamma, lam=option.lam, offsets=offsets)
    return TokenAdvantages(stream(whiten(found, mask)), stored, values, stream(returns))


def whitened_outcomes(rewards: np.ndarray, mask: Ragged, gamma: float) -> np.ndarray:
    """(values,) REINFORCE++ in float64, of rows that earn their outcome alone. rewards: (rows,), NaN where there is none."""
    keep = mask.values.astype(bool) & ~np.isnan(rewards)[mask.rows]
    earned = token_rewards(np.nan_to_num(rewards), keep, offsets=mask.offsets)
    return reinforce_plus_plus(earned, keep, gamma=gamma, offsets=mask.offsets)


def _placed(steps: pa.Table, names: list[str], mask: Ragged, option: Stepwise) -> np.ndarray:
    """(values,) rewards of steps, each on the last or first token of its step."""
    out = np.zeros(len(mask.values))
    row_of = {name: row for row, name in enumerate(names)}
    columns = (steps[name].to_pylist() for name in ("trajectory_id", "first_token", "last_token", "reward"))
    of_rows: dict[str, list[tuple[tuple[int, int], float]]] = {}
    for name, first, last, reward in zip(*columns, strict=True):
        of_rows.setdefault(name, []).append(((first, last), reward))
    for name, own in of_rows.items():
        row = row_of.get(name)
        if row is None:
            raise TokenRewardError(f"a step belongs to trajectory {name}, which is not offered to training: run the verify stage again")
        spans, rewards = zip(*own, strict=True)
        try:  # the outcome is added with those of all rows; where it stands alone, it meets nothing there
            placed = place(int(mask.lengths[row]), spans, rewards, 0.0, at=option.place, overwrite=option.overwrite)
        except StepwiseError as error:
            raise TokenRewardError(f"trajectory {name}: {error}: run rollout again") from error
        out[mask.offsets[row] : mask.offsets[row + 1]] = placed
    return out


def check_steps(steps: pa.Table | None, iteration: int) -> None:
    """Raises TokenRewardError for steps of another iteration: accuracies are never used for another policy."""
    if steps is not None and len(steps) and pc.any(pc.not_equal(steps["iteration"], iteration)).as_py():
        raise TokenRewardError(f"the steps are not of iteration {iteration}: accuracies hold for the policy that wrote them alone")

