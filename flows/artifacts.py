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
    """Markdown from rows of `noise_estimates`: each verifier's error rates with intervals, and true ones if known."""
    lines = [
        "| iteration | environment | verifier | against | false negatives | true | false positives | true | n |",
        "| ---: | --- | --- | --- | --- | ---: | --- | ---: | ---: |",
    ]
    names = ("iteration", "environment", "verifier", "against")
    for row in sorted(rows, key=lambda row: (row["environment"], row["verifier"], row["against"], row["iteration"])):
        cells = [str(row[name]) for name in names]
        for kind in ("false_negative", "false_positive"):
            true = row[f"true_{kind}_rate"]
            cells += [
                interval(row, f"{kind}_rate", f"{kind}_low", f"{kind}_high"),
                "–" if true is None else f"{true:.3f}",
            ]
        lines.append(f"| {' | '.join(cells)} | {row['n']} |")
    return "\n".join(lines)


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
        text = f"How often the verifiers are wrong, with intervals.\n\n{noise_table(estimates)}"
        create_markdown_artifact(key="verifier-noise", markdown=text)
    if (report := (root / places.report).resolve()).is_file():
        create_link_artifact(
            key="report", link=f"file://{quote(str(report))}", link_text="report", description=str(report)
        )
