"""What parameters ask for that will most likely do nothing: said in one sentence where they are read, and not refused."""

from collections.abc import Iterator

from assay.params.lengths import TOOLS
from assay.params.policy import SupervisedParams
from assay.params.schema import Params
from assay.params.training import Corrected

SHORTEST_ANSWER, SHORTEST_PROMPT = 256, 128
"""Tokens; presets for policies made from scratch allow fewer, and a model that thinks or writes code needs more."""
HIGHEST_RATE = {"whole": 1e-4, "lora": 1e-3}
"""Of Adam on a pretrained model; beyond it, what the model knew is lost in a few steps."""
REINFORCED = {"whole": 2e-5, "lora": 2e-4}
"""The same under reinforcement, whose papers have 5e-7 to 5e-6, and ten times that with adapters."""
LOWEST_MERGED = 1e-5
"""Of Adam on an adapter that is merged into weights of half precision: at 1e-6 3 to 16 % of what was learned survives rounding,
at 1e-5 nine tenths, at 1e-4 all."""
LONGEST_COLUMN = 2**31 - 1
"""Elements of a column of lists in one table: Arrow counts them in 32 bits."""
THINKING = ("chain_arithmetic", "dataset", "protocols", "published_protocols")
"""Types of environments whose demonstrations think in tags, or may."""


def parameter_doubts(params: Params) -> Iterator[str]:
    """A sentence for each, for `assay validate` and the stage `configure`."""
    yield from _base_doubts(params)
    rate, short = params.training.learning_rate, params.policy.base is not None or params.policy.dtype != "float32"
    if params.training.lora is not None and short and rate < LOWEST_MERGED:
        yield (
            f"training.lora is set, but training.learning_rate is {rate:g}: merged into weights of half precision, most of so small a "
            f"change is rounded away, so that another policy is sampled than is trained; set it to {LOWEST_MERGED:g} to 1e-4"
        )
    yield from column_doubts(params)
    advantage, appeals = params.training.advantage, params.verification.appeals
    if isinstance(advantage, Corrected) and advantage.false_negative_rate != "estimated" and appeals.enabled and appeals.recover:
        yield (
            f"training.advantage.false_negative_rate is {advantage.false_negative_rate:g}, and verification.appeals.recover makes right "
            "what the judge upholds: a given rate is taken as it is, so it must be the one after recovery; estimated does this by itself"
        )
    types = {section.type for section in params.environments.values()}
    episodes, room = params.sampling.episodes.max_tokens, params.policy.max_prompt_tokens + params.sampling.max_tokens
    if episodes < room and TOOLS in types:
        yield (
            f"sampling.episodes.max_tokens is {episodes}, but policy.max_prompt_tokens and sampling.max_tokens together are {room}: a task "
            "whose prompt leaves no room for a turn stops the rollout; raise the one, or lower policy.max_prompt_tokens, by which they are "
            "dropped"
        )
    if params.stepwise.continuations and params.policy.base is None and types and not types & set(THINKING):
        yield (
            f"stepwise.continuations is {params.stepwise.continuations}, but the policy is made from scratch and no demonstration of "
            f"{', '.join(sorted(params.environments))} thinks between {params.stepwise.open_tag} and {params.stepwise.close_tag}: there "
            "would be no step to reward; choose environment overthinking, or set policy.base to a model that thinks"
        )


def column_doubts(params: Params) -> Iterator[str]:
    """Tables whose tokens may be more than one column holds: the batch of an iteration (or, of `round_params`, a round), and the evaluation
    samples of all policies. Upper bounds, as every row may be as long as it may."""
    sampling, episodes, own = params.sampling, params.sampling.episodes, params.self_verification
    plays = TOOLS in {section.type for section in params.environments.values()}
    played = (episodes.max_turns + 1) * sampling.max_tokens if episodes.unit == "turn" else episodes.max_tokens
    of_task = sampling.group_size * max(sampling.max_tokens, played if plays else 0)
    critiques = own.prompts(sampling.tasks_per_iteration) * (own.group_size or sampling.group_size)
    trained = sampling.tasks_per_iteration * of_task + critiques * (own.max_tokens or sampling.max_tokens)
    longest = max(sampling.max_tokens, episodes.max_tokens if plays else 0)
    held_out = (params.tasks.eval + params.tasks.ood) * params.evaluation.samples * (len(params.iterations) + 1)
    for what, tokens, remedy in (
        ("a batch", trained, "sampling.tasks_per_iteration or sampling.max_tokens"),
        ("the evaluation samples of all policies", held_out * longest, "tasks.eval, tasks.ood or evaluation.samples"),
    ):
        if tokens > LONGEST_COLUMN:
            yield (
                f"{what} may have {tokens:,} tokens, but a column of a table ends at {LONGEST_COLUMN:,}: where so many are sampled, "
                f"the stage that reads them stops; lower {remedy}"
            )


def _base_doubts(params: Params) -> Iterator[str]:
    """What the presets' sizes, made for small policies from scratch, mean for a pretrained model."""
    if params.policy.base is None:
        return
    for key, length, least in (
        ("sampling.max_tokens", params.sampling.max_tokens, SHORTEST_ANSWER),
        ("policy.max_prompt_tokens", params.policy.max_prompt_tokens, SHORTEST_PROMPT),
    ):
        if length < least:
            yield (
                f"policy.base is set, but {key} is {length}, as in presets for small policies (an environment's wins over a scale's): "
                "longer answers are cut, longer prompts left out or refused (policy.too_long); set it in params.yaml to what it needs"
            )
    rate, highest = params.training.learning_rate, REINFORCED["lora" if params.training.lora else "whole"]
    if rate > highest:
        yield (
            f"policy.base is set, but training.learning_rate is {rate:g}, made for small policies: above about {highest:g} a pretrained "
            "model usually collapses; set it in params.yaml, or choose scale gpu"
        )
    start = params.warm_start
    phases: tuple[tuple[str, SupervisedParams, int], ...] = (
        ("warm_start", start, start.max_steps), ("warm_start.pretraining", start.pretraining, start.pretraining.max_steps),
    )  # fmt: skip
    for key, phase, steps in phases:
        highest = HIGHEST_RATE["lora" if phase.lora else "whole"]
        if params.policy.fine_tune and steps and phase.learning_rate > highest:
            yield (
                f"policy.fine_tune is true, but {key}.learning_rate is {phase.learning_rate:g}, made for small policies: "
                f"above about {highest:g} a base model {'with' if phase.lora else 'without'} lora forgets what it knew"
            )
