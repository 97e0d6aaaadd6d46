"""docs/troubleshooting.md explains every reason of a verdict as the code does."""

from pathlib import Path

from assay.verifiers.verdicts import REASONS

PAGE = (Path(__file__).parents[2] / "docs/troubleshooting.md").read_text(encoding="utf-8")


def test_every_reason_is_in_the_page_with_its_meaning():
    rows = [line for line in PAGE.splitlines() if line.startswith("| `")]
    missing = [f"| `{reason}` | {meaning} |" for reason, meaning in REASONS.items() if f"| `{reason}` | {meaning} |" not in rows]
    assert missing == []
