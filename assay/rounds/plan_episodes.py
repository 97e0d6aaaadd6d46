"""What tasks with tools add to the estimate of a run: every episode takes as many turns as it may, so that counts are upper bounds."""

from dataclasses import dataclass

from assay.params import Params


@dataclass(frozen=True)
class Count:
    """Rows, and tokens of their completions at most."""

    rows: int
    tokens: int

    def __add__(self, other: "Count") -> "Count":
        return Count(self.rows + other.rows, self.tokens + other.tokens)


@dataclass(frozen=True)
class Sampled:
    """What one iteration samples of its tasks."""

    trained: Count
    """Rows that are offered to training."""
    collected: Count
    """Episodes that are played for the states which they reach (sampling.episodes.unit turn)."""
    evaluated: Count
    context: float
    """Tokens of a training row's prompt, on average over the rows, at most."""


def sampled(params: Params, tasks: int, eval_rows: int) -> Sampled:
    """tasks: train tasks of an iteration; eval_rows: its evaluation samples. Of both, tasks with tools have their environments' share."""
    sampling, episodes = params.sampling, params.sampling.episodes
    share, group, turn, prompt = share_played(params), sampling.group_size, sampling.max_tokens, params.policy.max_prompt_tokens
    played, played_eval = round(tasks * share), round(eval_rows * share)
    whole = episodes.max_tokens  # what tools say is in it
    if episodes.unit == "episode":
        own, collected, before = Count(played * group, played * group * episodes.max_tokens), Count(0, 0), prompt
    else:
        # A state before each turn, and one that the last turn leads to.
        rows = played * (episodes.max_turns + 1) * group
        own, collected, before = Count(rows, rows * turn), Count(played, played * whole), max(prompt, episodes.max_tokens - turn)
    plain = Count((tasks - played) * group, (tasks - played) * group * turn)
    evaluated = Count(eval_rows, (eval_rows - played_eval) * turn + played_eval * whole)
    trained = plain + own
    return Sampled(trained, collected, evaluated, (plain.rows * prompt + own.rows * before) / max(trained.rows, 1))


def share_played(params: Params) -> float:
    """Of the tasks, those with tools."""
    shares = {name: section.share for name, section in params.environments.items()}
    tools = [name for name, section in params.environments.items() if section.type == "tools"]
    return sum(shares[name] for name in tools) / sum(shares.values()) if tools else 0.0
