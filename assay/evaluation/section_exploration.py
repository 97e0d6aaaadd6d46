"""The report's section on exploration: what stands in it for a given run. Parts without data are left out."""

from dataclasses import dataclass

from assay.evaluation.breakdown import Grid
from assay.evaluation.entropy import entropy_figure
from assay.evaluation.exploration import curves, diversity_sentence
from assay.evaluation.figures import Figure
from assay.evaluation.figures_exploration import (
    coverage_figures,
    position_figures,
    split_figures,
    step_figures,
)
from assay.evaluation.metrics import Lookup
from assay.evaluation.record import RunRecord
from assay.evaluation.samples import Samples
from assay.evaluation.selection import Renderer
from assay.evaluation.token_grids import MOST, TOP, Support, forking_grid, split_grid
from assay.evaluation.tokens import TrainedTokens
from assay.params import Params


@dataclass(frozen=True)
class Exploration:
    """What the template shows."""

    statement: str
    """One sentence, or "" where there is one policy or one k only."""
    figures: tuple[Figure, ...]
    grids: tuple[tuple[str, str, Grid], ...]
    """(title, note, grid)."""


def exploration_section(
    record: RunRecord, samples: Samples, table: Lookup, split: str, params: Params, renderer: Renderer | None
) -> Exploration:
    """Pictures and tables. renderer: gives the texts of tokens; without it they are named by id. Raises EvaluationError where token
    statistics do not fit their trajectories."""
    found = curves(samples, split, params.evaluation)
    figures = [*coverage_figures(found, table, split), entropy_figure(record, table, split, params)]
    figures += step_figures(record.updates)
    grids: list[tuple[str, str, Grid | None]] = []
    if record.token_statistics is not None and len(record.token_statistics):
        trained = TrainedTokens(record.token_statistics, record.trajectories)
        windows = trained.windows()
        figures += position_figures(windows)
        grids.append(("Tokens where the policy chooses", _FORKING, forking_grid(windows, trained.vocabulary, renderer)))
        if {"protected", "kept"} & set(trained.flags):
            support = Support(trained)
            sentences = support.sentences()
            grids.append(("Protected tokens", f"{sentences[0]} {_PROTECTED}", support.grid("protected", renderer)))
            grids.append(("Tokens that the proxy leaves out", f"{sentences[-1]} {_OUTSIDE}", support.grid("outside", renderer)))
    figures += split_figures(record.splits)
    grids.append(("Presampled tasks", _SPLIT, split_grid(record.splits)))
    shown = tuple((title, note, grid) for title, note, grid in grids if grid is not None)
    return Exploration(diversity_sentence(found, table.iterations[0]), tuple(figure for figure in figures if figure.svg), shown)


_FORKING = (
    f"Top places are those of the {TOP:.0%} highest entropies of a batch, without those of entropy 0. Entropy belongs to the place; "
    f"the token is the one that was sampled there. The {MOST} most frequent ones; occurrences and what follows are of the last window."
)
_PROTECTED = f"The {MOST} most frequent ones; mean probability is geometric, of the policy that sampled."
_OUTSIDE = "The proxy takes them for noise: less likely than its threshold where they were sampled."
_SPLIT = (
    "By the samples of policy 0, the recheck not among them. Where the recheck failed, a task that looked near-perfect may have been lucky."
)
