"""What parameters ask for that will most likely do nothing: said in one sentence where they are read, and not refused."""

from collections.abc import Iterator

from assay.params.schema import Params

THINKING = ("chain_arithmetic", "dataset", "protocols", "published_protocols")
"""Types of environments whose demonstrations think in tags, or may."""


def parameter_doubts(params: Params) -> Iterator[str]:
    """A sentence for each, for `assay validate` and the stage `configure`."""
    types = {section.type for section in params.environments.values()}
    if params.stepwise.continuations and params.policy.base is None and types and not types & set(THINKING):
        yield (
            f"stepwise.continuations is {params.stepwise.continuations}, but the policy is made from scratch and no demonstration of "
            f"{', '.join(sorted(params.environments))} thinks between {params.stepwise.open_tag} and {params.stepwise.close_tag}: there "
            "would be no step to reward; choose environment overthinking, or set policy.base to a model that thinks"
        )
