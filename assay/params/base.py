"""What every section of the parameters shares: unknown keys are errors, values are frozen, docstrings are documentation."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """One section of params.yaml. A key that is not a field is an error, so a typing error never passes for a default."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, validate_default=True)


class ParameterError(ValueError):
    """A mistake in params.yaml or a preset. The message names file and key, what was expected and what to do."""
