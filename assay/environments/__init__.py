"""Environments: where tasks come from, how they are shown, what their golds are, which verifier they name, exact
oracles."""

from assay.environments.base import Candidate, Environment
from assay.environments.candidates import Counts, describe
from assay.environments.generate import Excess, Generated, generate, make_environment
from assay.environments.oracles import ORACLES, OracleError
from assay.environments.task import SPLITS, Task, TaskError, tasks_from_table, tasks_to_table

__all__ = [
    "ORACLES",
    "SPLITS",
    "Candidate",
    "Counts",
    "Environment",
    "Excess",
    "Generated",
    "OracleError",
    "Task",
    "TaskError",
    "describe",
    "generate",
    "make_environment",
    "tasks_from_table",
    "tasks_to_table",
]
