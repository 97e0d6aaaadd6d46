"""Which estimators go with rewards of single tokens, with a critic and with critiques. Part of the check of the whole parameters."""

from typing import TYPE_CHECKING

from assay.params.training import Backward, Corrected, Generalized, ReinforcePlusPlus

if TYPE_CHECKING:
    from assay.params.schema import Params


def check_token_rewards(params: "Params") -> None:
    """Raises ValueError for combinations in which a reward would be lost, or an option do nothing."""
    advantage, critic = params.training.advantage, params.training.critic
    if isinstance(advantage, Generalized) and critic is None:
        raise ValueError(
            "training.advantage.type is generalized, which needs the values of a critic, but training.critic is null: set it, e.g. to {}"
        )
    if critic is not None and not isinstance(advantage, Generalized):
        raise ValueError(
            f"training.critic is set, but training.advantage.type {advantage.type} reads no values: set the type to generalized, or the "
            "critic to null"
        )
    if critic is not None and params.training.lora is not None:
        raise ValueError("training.critic and training.lora are set: a critic is a whole model that learns with a whole policy; set one")
    by_token = isinstance(advantage, Generalized | ReinforcePlusPlus)
    if params.stepwise.continuations and not by_token:
        raise ValueError(
            f"stepwise.continuations is {params.stepwise.continuations}, but training.advantage.type {advantage.type} sums the rewards of "
            "a row, so that those of single steps would be lost: choose reinforce_plus_plus or generalized"
        )
    if params.rewards.reference_penalty and not by_token:
        raise ValueError(
            f"rewards.reference_penalty is a reward of each token, but training.advantage.type {advantage.type} has one for each row: "
            "choose reinforce_plus_plus or generalized, or use training.divergence"
        )
    reshaped = params.rewards.levels is not None or params.rewards.length_penalty > 0
    if reshaped and isinstance(advantage, Corrected):
        raise ValueError(
            f"training.advantage.type {advantage.type} corrects rewards of 1 and 0, but rewards.levels or rewards.length_penalty makes "
            "others of them: leave those out"
        )
    if critic is not None and params.iterations:
        steps = len(params.iterations) * max(params.training.steps_per_iteration, params.fused.rounds * (params.fused.steps_per_round or 1))
        if critic.warmup_steps >= steps:
            raise ValueError(
                f"training.critic.warmup_steps is {critic.warmup_steps}, but the whole run has {steps} optimizer steps: the policy "
                "would never learn"
            )
    further = {"stepwise.continuations": params.stepwise.continuations, "self_verification.share": params.self_verification.share}
    for key, on in further.items():
        if on and params.fused.max_staleness:
            raise ValueError(
                f"fused.max_staleness is {params.fused.max_staleness}, but {key} measures the policy that is trained: set max_staleness "
                "to 0"
            )
    _check_critiques(params)


def _check_critiques(params: "Params") -> None:
    own, advantage, sampling = params.self_verification, params.training.advantage, params.sampling
    if own.reward == "unbiased" and own.share and advantage.type != "backward":
        raise ValueError(
            f"self_verification.reward is unbiased, which takes the rates of training.advantage.type backward, but that is "
            f"{advantage.type}: set one of them otherwise"
        )
    if not own.share:
        return
    earned = params.rewards.levels
    if earned is not None:
        if earned.readable or earned.no_format is not None:
            raise ValueError(
                "rewards.levels asks solutions for more than critiques judge: set readable to false and no_format to null, or "
                "self_verification.share to 0"
            )
        given = {"levels": list(own.levels), "boxed": own.boxed}
        wanted = {"levels": [earned.correct, earned.wrong, earned.no_answer], "boxed": earned.boxed}
        for key, value in given.items():
            if value != wanted[key]:
                raise ValueError(
                    f"self_verification.{key} is {value}, but by rewards.levels solutions earn {wanted[key]}: a critique must give what "
                    "its solution earns; make them equal"
                )
    if isinstance(advantage, Backward) and advantage.scale == "ema":
        raise ValueError(
            "training.advantage.scale is ema, the deviation of the rule's rewards, which those of critiques do not share: give a number, "
            "or set self_verification.share to 0"
        )
    if isinstance(advantage, Corrected) and not (advantage.type == "backward" and own.reward == "unbiased"):
        raise ValueError(
            f"training.advantage.type {advantage.type} corrects a verifier's noise, which reaches critiques through what they are "
            "compared with: set the type to backward and self_verification.reward to unbiased, or self_verification.share to 0"
        )
    if own.share > sampling.group_size:
        raise ValueError(
            f"self_verification.share is {own.share:g}, but each task has only {sampling.group_size} solutions to judge "
            "(sampling.group_size): lower it"
        )
    size = own.group_size or sampling.group_size
    if size < 2 and advantage.type in ("group_zscore", "leave_one_out", "backward"):
        raise ValueError(
            f"self_verification.group_size is {size}, but training.advantage.type {advantage.type} compares the critiques of one solution "
            "with each other: use at least 2"
        )
