"""Killable worker processes with limits, and processes that do not outlive their parent."""

from assay.isolation.fleet import IsolationError
from assay.isolation.lifeline import die_with_parent, is_orphan
from assay.isolation.pool import Outcome, Pool

__all__ = ["IsolationError", "Outcome", "Pool", "die_with_parent", "is_orphan"]
