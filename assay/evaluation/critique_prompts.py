"""How many solutions were put before the policy to be judged, and what their prompts had no room for."""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from assay.evaluation.breakdown import Grid
from assay.evaluation.selection import Renderer
from assay.params.self_verification import SelfVerification
from assay.rewards.critiques import OMISSION

MOMENT = ("iteration", "round")


def prompt_grid(trajectories: pa.Table, own: SelfVerification, renderer: Renderer | None) -> Grid | None:
    """A row for critiques that train and one for those of evaluation samples: solutions to be judged, judged ones, and those whose
    beginning was left out of the prompt. None where nothing was to be judged.

    renderer: reads the prompts; without it, or without the column prompt_ids, what was left out is not counted.
    """
    rows = []
    for name, asked, critiques in _kinds(trajectories, own):
        if asked:
            judged = _first_of_each(critiques)
            cut = "–"
            if renderer is not None and len(judged) == 0:
                cut = "0"
            elif renderer is not None and "prompt_ids" in judged.column_names:
                cut = f"{sum(OMISSION in renderer.text(ids) for ids in judged['prompt_ids'].to_pylist()):,}"
            rows.append((name, f"{asked:,}", f"{len(judged):,}", f"{max(asked - len(judged), 0):,}", cut))
    header = ("critiques", "solutions to be judged", "judged", "not judged", "judged without their beginning")
    return Grid(header, tuple(rows)) if rows else None


def _kinds(trajectories: pa.Table, own: SelfVerification) -> Iterator[tuple[str, int, pa.Table]]:
    """(words, solutions that were to be judged, critiques)."""
    if own.share:
        solutions = trajectories.filter(pc.equal(trajectories["kind"], "solution"))
        groups = solutions.group_by([*MOMENT, "group_id"]).aggregate([]).group_by(list(MOMENT)).aggregate([("group_id", "count")])
        asked = sum(map(own.prompts, groups["group_id_count"].to_pylist()))
        yield "that train", asked, trajectories.filter(pc.equal(trajectories["kind"], "critique"))
    if own.evaluation:
        yield (
            "of held-out samples", pc.sum(pc.equal(trajectories["kind"], "evaluation")).as_py() or 0,
            trajectories.filter(pc.equal(trajectories["kind"], "evaluation_critique")),
        )  # fmt: skip


def _first_of_each(critiques: pa.Table) -> pa.Table:
    """One critique of each solution; a solution that is judged again in another round counts again."""
    places = critiques.append_column("place", pa.array(range(len(critiques)), pa.int64()))
    first = places.group_by([*MOMENT, "parent_id"]).aggregate([("place", "min")])["place_min"]
    return critiques.take(first)
