"""What every section of the parameters shares: unknown keys are errors, values are frozen, docstrings are documentation."""

from pydantic import AfterValidator, BaseModel, ConfigDict


class Section(BaseModel):
    """One section of params.yaml. A key that is not a field is an error, so a typing error never passes for a default."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True, use_attribute_docstrings=True, validate_default=True)


class ParameterError(ValueError):
    """A mistake in params.yaml or a preset. The message names file and key, what was expected and what to do."""


def _in_order(value: tuple[int, int]) -> tuple[int, int]:
    if value[0] > value[1]:
        raise ValueError(f"[{value[0]}, {value[1]}] is the wrong way round: the smallest number comes first")
    return value


ORDERED = AfterValidator(_in_order)
"""Of a field that holds the smallest and the largest number of something."""
