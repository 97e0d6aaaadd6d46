"""Whether a policy that is made from scratch has room for all that a run samples of it. Checked where params.yaml is read."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from assay.params.schema import Params

TOOLS = "tools"
"""Type of environments that are played in turns."""


def check_lengths(params: "Params") -> None:
    """Raises ValueError for lengths that policy.shape.max_positions does not hold, and names what is the longest. A model from
    policy.base has its own positions, which are seen when it is opened."""
    if params.policy.base is not None:
        return
    positions, sampling, own = params.policy.shape.max_positions, params.sampling, params.self_verification
    lengths = {"policy.max_prompt_tokens and sampling.max_tokens": params.policy.max_prompt_tokens + sampling.max_tokens}
    if own.samples_anything:
        name = "self_verification.max_tokens" if own.max_tokens else "sampling.max_tokens"
        lengths[f"self_verification.max_prompt_tokens and {name}"] = own.max_prompt_tokens + (own.max_tokens or sampling.max_tokens)
    if params.stepwise.continuations:
        longest = params.policy.max_prompt_tokens + sampling.max_tokens + params.stepwise.max_tokens
        lengths["policy.max_prompt_tokens, sampling.max_tokens and stepwise.max_tokens"] = longest
    if any(section.type == TOOLS for section in params.environments.values()):
        lengths["sampling.episodes.max_tokens"] = sampling.episodes.max_tokens
    for what, length in lengths.items():
        if length > positions:
            together = "together are" if " and " in what else "is"
            raise ValueError(
                f"{what} {together} {length}, but policy.shape.max_positions is {positions}: lower what is sampled, raise the "
                "positions, or set policy.base to a model that has them"
            )
