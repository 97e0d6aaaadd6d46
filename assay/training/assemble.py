"""The training batch: which rows are kept, with what advantage, in which optimizer step, and why others are dropped.

Group statistics use every row that has a reward, before any row is dropped: dropping first would move the baseline.
Token ids come from the trajectories as they were sampled; nothing is tokenised here.
"""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute

from assay.objectives.advantages import group_zscore, leave_one_out
from assay.objectives.corrections import direct
from assay.params import Params
from assay.params.training import Corrected, Direct, Forward, GroupZScore, LeaveOneOut
from assay.training.corrected import Noise, Rates, corrected_advantages, rates_for
from assay.training.critique_rewards import Critiques
from assay.training.earned import AssembleError, earned_by, shaped_rewards
from assay.training.filters import KEPT, REASONS, check_left, drop_reasons, mean_mismatch, without_variance
from assay.training.ragged import Ragged, Streams
from assay.training.reference import compute_logprobs, needs_reference
from assay.training.rehearsal import RehearsalError, rehearsal_batch
from assay.training.token_rewards import (
    TokenAdvantages,
    ValuesOf,
    by_token,
    check_steps,
    row_means,
    token_advantages,
    whitened_outcomes,
)
from assay.trajectories import schema, to_table

TRAINED_KINDS = ("solution", "episode", "critique")
"""Kinds of trajectories that bear loss; evaluation samples, continuations and presamples do not."""


def assemble_batch(
    trajectories: pa.Table,
    verdicts: pa.Table,
    params: Params,
    *,
    noise: Noise | None = None,
    steps: pa.Table | None = None,
    values_of: ValuesOf | None = None,
    policy: Path | None = None,
    reference: Path | None = None,
    may_be_solved: bool = False,
    progress: Callable[[str], None] = lambda line: None,
    note: Callable[[str], None] = lambda line: None,
) -> pa.Table:
    """Table `batches`, one row for each trajectory that could train, in the order given (that of the plan).

    trajectories: of one iteration. verdicts: of these trajectories; only those with role `rule` are read. noise: what is
    known of the rule's errors, needed where training.advantage corrects with estimated rates. steps: table `steps`, needed where steps
    are rewarded. values_of: the critic, needed by PPO. policy: the
    folder of the policy that sampled, needed where filter.max_mismatch is set, or rewards.reference_penalty with top_p below 1.
    reference: the folder of policy 0, needed where a term or a penalty asks for its log-probabilities. Either one's tokenizer tells whether
    prompts open the thinking (rewards.levels.no_format). may_be_solved: no row need be kept where rewards are equal within groups.
    note: gets a line where a correction could not do what it should.
    Raises AssembleError: a trajectory without a rule verdict,
    lists of different lengths, a temperature other than sampling.temperature, a missing folder, or no row kept at all.
    """
    rows = _trained(trajectories, params)
    earned = earned_by(rows, verdicts)
    streams = Streams.from_table(rows)
    _check(rows, streams, params)
    check_steps(steps, rows["iteration"][0].as_py())
    rewards = shaped_rewards(rows, earned, streams, params, reference or policy)
    # Numbered in the order of the plan.
    groups = rows["group_id"].combine_chunks().dictionary_encode().indices.to_numpy()
    critiques = Critiques.of(rows, verdicts, earned.verifiers) if params.self_verification.share else None
    rates = None
    if isinstance(params.training.advantage, Corrected):
        task_ids = rows["task_id"].to_pylist()
        verifiers = earned.verifiers if critiques is None else critiques.verifiers
        rates = rates_for(params.training.advantage, noise or Noise(), task_ids, verifiers)
        for line in rates.notes:
            note(line)
    # A reward of every token is whitened over all rows, so that it is needed before any row is dropped.
    penalised = params.rewards.reference_penalty > 0
    logprobs = _reference(reference, streams, params, progress) if penalised else None
    own = None
    if penalised and params.sampling.top_p < 1 and policy is not None:  # the sampler's are of what top_p left over
        own = compute_logprobs(policy, streams, params, progress)
    tokens: TokenAdvantages | None = None
    if by_token(params):
        names = rows["trajectory_id"].to_pylist()
        tokens = token_advantages(
            rewards, names, streams, params, steps=steps, reference=logprobs, policy=own, values_of=values_of
        )
        advantages = row_means(tokens.advantages.values, streams.mask, ~np.isnan(rewards))
        control = np.full(len(rewards), np.nan)
        per_token: Ragged | None = tokens.advantages
    elif critiques is not None and rates is not None:
        option, matched = params.training.advantage, rewards
        rewards = critiques.unbiased(rewards, rates, option)
        advantages, control, per_token = _advantages(
            np.where(critiques.rows, np.nan, rewards), groups, streams.mask, params, rates
        )
        for found, source in ((advantages, rewards), (control, matched)):
            found[critiques.rows] = critiques.advantages(source, groups, option)[critiques.rows]
    else:
        advantages, control, per_token = _advantages(rewards, groups, streams.mask, params, rates)
    truncated = np.asarray(rows["finish_reason"].to_pylist()) == "length"
    dropped = drop_reasons(
        rewards, groups, truncated, streams, params, lambda: mean_mismatch(policy, streams, params, progress)
    )
    check_left(dropped, may_be_solved=may_be_solved)
    kept = dropped == KEPT
    kinds = rows["kind"].combine_chunks().dictionary_encode().indices.to_numpy()
    step, divide_rows, divide_tokens = _steps(groups, kinds, kept, streams.mask.sums().astype(np.int64), params)
    streams = streams.blanked(kept)
    if needs_reference(params) and not penalised:
        logprobs = _reference(reference, streams, params, progress)

    types = {field.name: field.type for field in schema("batches")}
    batch = {
        **{name: rows[name] for name in ("trajectory_id", "iteration", "round", "group_id")},
        "kept": pa.array(kept),
        "drop_reason": pa.array(REASONS).take(pa.array(dropped, mask=kept)),
        "reward": pa.array(rewards.astype(np.float32), mask=np.isnan(rewards)),
        "advantage": pa.array(advantages.astype(np.float32), mask=np.isnan(rewards)),
        "control_advantage": pa.array(control.astype(np.float32), mask=np.isnan(control)),
        **_used(rates, len(rows)),
        "step": pa.array(step, pa.int32(), mask=~kept),
        "prompt_ids": streams.prompts.column(types["prompt_ids"]),
        "completion_ids": streams.completions.column(types["completion_ids"]),
        "loss_mask": streams.mask.column(types["loss_mask"]),
        "sampled_logprobs": streams.logprobs.column(types["sampled_logprobs"]),
        "reference_logprobs": _nullable(logprobs, kept, types["reference_logprobs"]),
        "token_rewards": _nullable(None if tokens is None else tokens.rewards, kept, types["token_rewards"]),
        "token_values": _nullable(None if tokens is None else tokens.values, kept, types["token_values"]),
        "token_returns": _nullable(None if tokens is None else tokens.returns, kept, types["token_returns"]),
        "token_advantages": _nullable(per_token, kept, types["token_advantages"]),
        "rehearsal": pa.array(np.zeros(len(rows), dtype=bool)),
        "denominator_rows": pa.array(divide_rows, pa.int32(), mask=~kept),
        "denominator_tokens": pa.array(divide_tokens, pa.int64(), mask=~kept),
    }
    return to_table("batches", pa.table(batch))


def add_rehearsal(batches: pa.Table, stored: pa.Table, params: Params, *, rounds: int = 1) -> pa.Table:
    """The same, and after it the rows that are rehearsed in its optimizer steps; unchanged where nothing is to be rehearsed.

    rounds: of an iteration. Raises RehearsalError where there is nothing to rehearse, unless presample.when_empty says explore.
    """
    option = params.training.rehearsal
    if option is None or option.coefficient == 0:
        return batches
    if len(stored) == 0:
        if params.presample.when_empty == "explore":
            return batches
        raise RehearsalError(
            "training.rehearsal is set, but data/presample holds no answer to rehearse: lower presample.solved, or set "
            "presample.when_empty to explore"
        )
    used = batches.filter(batches["kept"])
    columns = zip(*(used[name].to_pylist() for name in ("step", "denominator_rows", "denominator_tokens")), strict=True)
    steps = {step: (rows, tokens) for step, rows, tokens in columns}
    iteration, round_ = batches["iteration"][0].as_py(), batches["round"][0].as_py()
    moment, per = iteration * rounds + round_, params.training.steps_per_iteration
    added = rehearsal_batch(
        stored, steps, option, seed=params.seed, iteration=iteration, round=round_, moment=moment, per=per
    )
    return pa.concat_tables([batches, added])


def _used(rates: Rates | None, count: int) -> dict[str, pa.Array]:
    """Columns of the rates that each row was corrected with; null where none was."""
    names = ("used_false_positive_rate", "used_false_negative_rate", "used_determinant")
    if rates is None:
        return dict.fromkeys(names, pa.nulls(count, pa.float32()))
    values = (rates.false_positive, rates.false_negative, rates.determinant)
    return {name: pa.array(value.astype(np.float32), mask=~rates.known) for name, value in zip(names, values, strict=True)}


def describe(batches: pa.Table) -> str:
    """One line: rows kept and dropped by reason, and optimizer steps."""
    reasons = Counter(batches["drop_reason"].drop_null().to_pylist())
    rehearsed = pa.compute.sum(batches["rehearsal"]).as_py() or 0
    sampled = len(batches) - rehearsed
    kept = sampled - sum(reasons.values())
    dropped = ", ".join(f"{reasons[name]:,} {name}" for name in REASONS if reasons[name]) or "none"
    steps = len(batches["step"].drop_null().unique())
    beside = f"; {rehearsed:,} rehearsed beside them" if rehearsed else ""
    return f"kept {kept:,} of {sampled:,} rows for {steps} optimizer steps; dropped: {dropped}{beside}"


def _trained(trajectories: pa.Table, params: Params) -> pa.Table:
    """Where the unit of training is a turn, episodes have only found the states that turns were sampled from."""
    by_turn = params.sampling.episodes.unit == "turn"
    trained = [kind for kind in TRAINED_KINDS if not (by_turn and kind == "episode")]
    kinds = np.isin(np.asarray(trajectories["kind"].to_pylist()), trained)
    rows = trajectories.filter(pa.array(kinds, pa.bool_()))
    if len(rows) == 0:
        raise AssembleError(
            f"no trajectory of a kind that trains ({', '.join(TRAINED_KINDS)}): run the rollout stage again"
        )
    return rows


def _check(rows: pa.Table, streams: Streams, params: Params) -> None:
    """Raises AssembleError for the first row whose lists do not fit, or that was sampled otherwise than training
    assumes."""
    name = rows["trajectory_id"]
    tokens, marks, likelihoods = (x.lengths for x in (streams.completions, streams.mask, streams.logprobs))
    unequal = (tokens != marks) | (tokens != likelihoods)
    if unequal.any():
        row = int(np.flatnonzero(unequal)[0])
        raise AssembleError(
            f"trajectory {name[row]}: {tokens[row]} completion_ids, {marks[row]} loss_mask and {likelihoods[row]} "
            "sampled_logprobs; there must be one of each for every token"
        )
    if (streams.prompts.lengths == 0).any():
        row = int(np.flatnonzero(streams.prompts.lengths == 0)[0])
        raise AssembleError(f"trajectory {name[row]}: prompt_ids is empty, so its first token has no context")
    broken = ~np.isfinite(streams.logprobs.values) & streams.mask.values
    if broken.any():
        row = int(streams.logprobs.rows[np.flatnonzero(broken)[0]])
        raise AssembleError(f"trajectory {name[row]}: a sampled log-probability is not finite: sample the row again")
    temperature = pa.compute.struct_field(rows["sampling"], "temperature").to_numpy()
    other = np.abs(temperature - params.sampling.temperature) > 1e-5
    if other.any():
        row = int(np.flatnonzero(other)[0])
        raise AssembleError(
            f"trajectory {name[row]} was sampled at temperature {temperature[row]:g}, but sampling.temperature is "
            f"{params.sampling.temperature:g}: log-probabilities of the two would differ"
        )


def _advantages(
    rewards: np.ndarray,
    groups: np.ndarray,
    mask: Ragged,
    params: Params,
    rates: Rates | None,
) -> tuple[np.ndarray, np.ndarray, Ragged | None]:
    """Advantage of each row (NaN where abstained), that of its matched control where a noise correction is on (else NaN), and the
    advantage of each token where a discount makes them differ."""
    seen = ~np.isnan(rewards)
    advantages, control = np.full(len(rewards), np.nan), np.full(len(rewards), np.nan)
    option = params.training.advantage
    if isinstance(option, Corrected):
        assert rates is not None
        found = corrected_advantages(option, rewards[seen], groups[seen], rates.of(seen))
        advantages[seen], control[seen] = found
        if not isinstance(option, Forward) and params.sampling.group_size > 1:
            for values in (advantages, control):
                values[seen & without_variance(rewards, groups)] = 0.0  # as below
        return advantages, control, None
    if isinstance(option, Direct):
        advantages[seen] = direct(rewards[seen], scale=option.scale)
        return advantages, control, None
    if isinstance(option, GroupZScore):
        advantages[seen] = group_zscore(
            rewards[seen], groups[seen], epsilon=option.epsilon, divide_by_std=option.divide_by_std
        )
    elif isinstance(option, LeaveOneOut):
        advantages[seen] = leave_one_out(rewards[seen], groups[seen])
    else:
        tokens = whitened_outcomes(rewards, mask, option.gamma)
        per_token = None if option.gamma == 1 else Ragged(tokens.astype(np.float32), mask.offsets)
        return row_means(tokens, mask, seen), control, per_token
    # A group that abstentions reduced to one row has nothing that it could be compared with.
    advantages[seen & without_variance(rewards, groups)] = 0.0
    return advantages, control, None


def _steps(
    groups: np.ndarray, kinds: np.ndarray, kept: np.ndarray, tokens: np.ndarray, params: Params
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Optimizer step of each row, and the rows and tokens that its step's loss is divided by.

    Whole groups are divided among the steps in the order of the plan, groups of each kind evenly: critiques are planned after all solutions
    (and episodes after single turns), and would else have steps of their own. With denominator `kept` the kept groups are
    divided, so that steps are of about equal size. With `all` all groups are, as if nothing had been dropped: a step is
    divided by all of its rows, and one whose rows were all dropped is left out.
    """
    counted = np.ones_like(kept) if params.filter.denominator == "all" else kept
    order = _mixed(*np.unique(groups[counted], return_index=True), kinds[counted])
    steps = max(1, min(params.training.steps_per_iteration, len(order)))  # none kept: no row's step counts
    of_group = np.zeros(groups.max() + 1, dtype=np.int64)
    for step, part in enumerate(np.array_split(order, steps)):
        of_group[part] = step
    step = of_group[groups]
    rows = np.bincount(step[counted], minlength=steps)
    sums = np.bincount(step[counted], weights=tokens[counted], minlength=steps).astype(np.int64)
    return step, rows[step], sums[step]


def _mixed(order: np.ndarray, first_rows: np.ndarray, kinds: np.ndarray) -> np.ndarray:
    """Groups so ordered that every stretch has its share of each kind, which keep their own order. first_rows: a row of each group."""
    kind_of = kinds[first_rows]
    place = np.zeros(len(order))
    for kind in np.unique(kind_of):
        own = np.flatnonzero(kind_of == kind)
        place[own] = (np.arange(len(own)) + 0.5) / len(own)
    return order[np.argsort(place, kind="stable")]


def _nullable(values: Ragged | None, kept: np.ndarray, kind: pa.DataType) -> pa.Array:
    """A list column that is null where the row was dropped, or everywhere."""
    if values is None:
        return pa.nulls(len(kept), kind)
    return pa.compute.if_else(pa.array(kept), values.blanked(kept).column(kind), pa.scalar(None, kind))


def _reference(folder: Path | None, streams: Streams, params: Params, progress: Callable[[str], None]) -> Ragged:
    if folder is None:
        raise AssembleError(f"{_asks_for_reference(params)}, which needs policy 0: give its folder as `reference`")
    return compute_logprobs(folder, streams, params, progress)


def _asks_for_reference(params: Params) -> str:
    """The options of `needs_reference` that are on."""
    asked = {
        "training.divergence.coefficient is above 0": params.training.divergence.coefficient > 0,
        "rewards.reference_penalty is above 0": params.rewards.reference_penalty > 0,
    }
    return " and ".join(said for said, on in asked.items() if on) or "training.rehearsal.generator is js_definition"
