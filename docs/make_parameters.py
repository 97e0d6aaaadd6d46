"""Writes docs/parameters.md from the sections of the parameters and their docstrings."""

from pathlib import Path

from assay.params.documentation import parameters_markdown

if __name__ == "__main__":
    Path(__file__).with_name("parameters.md").write_text(parameters_markdown(), encoding="utf-8")
