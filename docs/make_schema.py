"""Writes docs/schema.md from the schemas and the metrics' definitions."""

from pathlib import Path

from assay.evaluation.definitions import METRICS
from assay.trajectories.documentation import schema_markdown

if __name__ == "__main__":
    Path(__file__).with_name("schema.md").write_text(schema_markdown(METRICS), encoding="utf-8")
