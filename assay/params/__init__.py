"""Parameters: a typed view of params.yaml and its presets in conf/."""

from assay.params.base import ParameterError, Section
from assay.params.loading import load_execution, load_params, with_abstain_limit
from assay.params.schema import STAGE_SECTIONS, Iteration, Params, round_params
from assay.params.stage_views import read_stage_view, stage_view, write_stage_views

__all__ = [
    "STAGE_SECTIONS",
    "Iteration",
    "ParameterError",
    "Params",
    "Section",
    "load_execution",
    "load_params",
    "read_stage_view",
    "round_params",
    "stage_view",
    "with_abstain_limit",
    "write_stage_views",
]
