"""What a person sees of a run in Prefect: tables made from the outputs of stages, and the way to the report."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from flows.commands import duration

FUSED = "fused/dvc.yaml"
SPLITS = ("eval", "ood", "train")  # in this order

Row = dict[str, Any]


@dataclass(frozen=True)
class Places:
    """Where a pipeline leaves what people look at."""

    evaluations: Path
    verdicts: Path
    """With a folder for each iteration."""

    @property
    def report(self) -> Path:
        return self.evaluations / "report.html"


def pipeline_of(stages: Iterable[str]) -> Places:
    """Places of the pipeline that these stages belong to: the fused one where any of them does."""
    if any(stage.startswith(FUSED) for stage in stages):
        return Places(Path("data/fused/evaluate"), Path("data/fused/train"))
    return Places(Path("data/evaluate"), Path("data/verify"))


def evaluation_table(rows: Sequence[Row]) -> str:
    """Markdown from rows of `evaluations`: a table per environment and split, a line per policy, pass@k with intervals.

    Shown are the smallest and the largest k; the report has the others.
    """
    environments = {row["environment"] for row in rows}
    if len(environments) == 2:
        environments &= {"all"}  # the other one says the same
    keys = {(row["environment"], row["split"]) for row in rows if row["environment"] in environments}
    tables = (_split_table(rows, *key) for key in sorted(keys, key=_all_and_eval_first))
    return "\n\n".join(table for table in tables if table)


def _split_table(rows: Sequence[Row], environment: str, split: str) -> str:
    chosen = {
        (row["iteration"], row["metric"]): row
        for row in rows
        if (row["environment"], row["split"]) == (environment, split)
    }
    ks = sorted(
        int(metric[5:])
        for metric in {metric for _, metric in chosen}
        if metric.startswith("pass@") and metric[5:].isdigit()
    )
    if not ks:
        return ""
    metrics = [f"pass@{k}" for k in sorted({ks[0], ks[-1]})]
    lines = [
        f"**{'all environments' if environment == 'all' else environment}, {split}**\n",
        f"| policy | {' | '.join(metrics)} | tasks |",
        f"| ---: | {' | '.join('---' for _ in metrics)} | ---: |",
    ]
    for iteration in sorted({iteration for iteration, _ in chosen}):
        found = [chosen.get((iteration, metric)) for metric in metrics]
        tasks = next((row["n"] for row in found if row), "")
        lines.append(f"| {iteration} | {' | '.join(map(interval, found))} | {tasks} |")
    return "\n".join(lines)


def _all_and_eval_first(key: tuple[str, str]) -> tuple[bool, str, int, str]:
    environment, split = key
    return environment != "all", environment, SPLITS.index(split) if split in SPLITS else len(SPLITS), split


def interval(row: Row | None, value: str = "value", low: str = "low", high: str = "high") -> str:
    """0.432 (0.401 to 0.463), or a dash where there is no value."""
    if row is None or row[value] is None or math.isnan(row[value]):
        return "–"
    if row[low] is None or row[high] is None:
        return f"{row[value]:.3f}"
    return f"{row[value]:.3f} ({row[low]:.3f} to {row[high]:.3f})"


def noise_table(rows: Iterable[Row]) -> str:
    """Markdown from rows of `noise_estimates`: each verifier's error rates with intervals, and true ones if known. Of an
    iteration's rounds the last; judge, smoothed rate and coverage of the truth where answers were appealed."""
    groups: dict[tuple[str, str, str, int], list[Row]] = {}
    for row in sorted(rows, key=lambda row: (row["environment"], row["verifier"], row["against"], row["iteration"], row["round"])):
        groups.setdefault((row["environment"], row["verifier"], row["against"], row["iteration"]), []).append(row)
    fused = any(own[-1]["round"] for own in groups.values())
    judged = any(own[-1]["judge"] is not None for own in groups.values())
    columns = (("iteration", "---:"), *([("last round", "---:")] if fused else []), ("environment", "---"), ("verifier", "---"))
    columns += (("against", "---"), ("false negatives", "---"), *([("smoothed", "---:")] if judged else []), ("true", "---:"))
    columns += (*([("covered", "---:")] if judged else []), ("false positives", "---"), ("true", "---:"), ("n", "---:"))
    lines = [[name for name, _ in columns], [mark for _, mark in columns], *(_noise_cells(own, fused, judged) for own in groups.values())]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _noise_cells(rounds: Sequence[Row], fused: bool, judged: bool) -> list[str]:
    from assay.evaluation.breakdown import in_cell
    from assay.evaluation.noise import coverage

    row = rounds[-1]
    held, known = coverage(rounds)
    positives = interval(row, "false_positive_rate", "false_positive_low", "false_positive_high")
    return [
        str(row["iteration"]),
        *([str(row["round"])] if fused else []),
        row["environment"],
        row["verifier"],
        row["against"] if row["judge"] is None else f"judge {in_cell(row['judge'])}",
        interval(row, "false_negative_rate", "false_negative_low", "false_negative_high"),
        *([_rate(row["smoothed_rate"])] if judged else []),
        _rate(row["true_false_negative_rate"]),
        *([f"{held} of {known}" if known else "–"] if judged else []),
        positives + (", assumed" if row["false_positive_source"] == "assumed" else ""),
        _rate(row["true_false_positive_rate"]),
        str(row["n"]),
    ]


def noise_text(rows: Sequence[Row]) -> str:
    """What the artifact `verifier-noise` says: warnings, then the table."""
    from assay.evaluation.breakdown import in_cell
    from assay.evaluation.noise import noise_sentences

    warnings = [f"* {in_cell(text)}" for text in noise_warnings(rows)]
    judged = any(row["judge"] is not None for row in rows)
    parts = ["\n".join(["**Warnings**\n", *warnings])] if warnings else []
    parts += ["How often the verifiers are wrong, with intervals.", noise_table(rows)]
    return "\n\n".join([*parts, *(noise_sentences(rows) if judged else ())])


def noise_warnings(rows: Iterable[Row]) -> list[str]:
    """One line for each iteration, environment and verifier whose estimates came with a warning."""
    from assay.evaluation.noise import noise_warnings as found

    return [f"iteration {k}, {verifier} on {environment}: {' '.join(text.split())}" for k, environment, verifier, text in found(rows)]


def stage_warnings(root: Path, stage: str) -> list[str]:
    """Warnings in what a stage that verifies has written; of other stages none. Raises ShardError."""
    name, _, iteration = stage.rpartition(":")[2].partition("@")
    folder = pipeline_of([stage]).verdicts
    return noise_warnings(read_rows("noise_estimates", root / folder / iteration)) if iteration and name == folder.name else []


def _rate(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def read_rows(table: str, *folders: Path) -> list[Row]:
    """All rows of a small table below the folders; none where its stages have not run. Raises ShardError."""
    from assay.trajectories import read_table, shard_files

    return read_table(table, *folders).to_pylist() if any(shard_files(table, folder) for folder in folders) else []


def publish_stages(stages: Sequence[Row], seconds: float) -> None:
    """The table of stages, as an artifact of the flow run in whose context this is called."""
    from prefect.artifacts import create_table_artifact

    ran = sum(row["outcome"] == "run" for row in stages)
    said = f"{ran} of {len(stages)} stages were run; {duration(seconds)}"
    create_table_artifact(key="stages", table=list(stages), description=said)


def publish_results(root: Path, iterations: Iterable[int], places: Places) -> None:
    """Evaluation, verifier noise and the way to the report, as far as there are such. Raises ShardError."""
    from prefect.artifacts import create_link_artifact, create_markdown_artifact

    if text := evaluation_table(read_rows("evaluations", root / places.evaluations)):
        create_markdown_artifact(key="evaluation", markdown=f"Accuracy of each policy, with intervals.\n\n{text}")
    # Named one by one: iterations that were taken out of params.yaml may still lie there.
    if estimates := read_rows("noise_estimates", *(root / places.verdicts / str(k) for k in iterations)):
        create_markdown_artifact(key="verifier-noise", markdown=noise_text(estimates))
    if (report := (root / places.report).resolve()).is_file():
        create_link_artifact(
            key="report", link=f"file://{quote(str(report))}", link_text="report", description=str(report)
        )
