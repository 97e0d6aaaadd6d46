"""The report's section on self-verification, reasoning steps and the critic: only what a run has, and no section where it has none."""

from dataclasses import dataclass

from assay.evaluation.breakdown import Grid
from assay.evaluation.critique_prompts import prompt_grid
from assay.evaluation.critiques import judged_samples
from assay.evaluation.figures import Figure
from assay.evaluation.figures_self_verification import (
    BEHAVIOUR,
    JUDGING,
    OVERTHINKING,
    confusion_grid,
    metric_grid,
    token_figure,
    verification_figures,
    verification_sentence,
    vote_grid,
)
from assay.evaluation.figures_steps import ReasoningSteps
from assay.evaluation.figures_training import critic_figures
from assay.evaluation.metrics import Lookup
from assay.evaluation.record import RunRecord
from assay.evaluation.selection import Renderer
from assay.evaluation.step_traces import MARKS, UNKNOWN, Trace, step_traces
from assay.params import Params


@dataclass(frozen=True)
class SelfVerificationSection:
    """What the template shows."""

    title: str
    statements: tuple[str, ...]
    figures: tuple[Figure, ...]
    grids: tuple[tuple[str, str, Grid], ...]
    """(title, note, grid)."""
    traces: tuple[Trace, ...]
    legend: tuple[tuple[str, str, str], ...]
    """(effect, mark, words) of steps."""


def self_verification_section(
    record: RunRecord, table: Lookup, split: str, params: Params, renderer: Renderer | None = None
) -> SelfVerificationSection | None:
    """Pictures and tables; None where nothing was judged by its policy, no step rewarded, no trace read by an oracle, and no critic
    trained.

    renderer: reads the prompts of critiques. Raises EvaluationError where a step lies outside its trace.
    """
    judging = verification_figures(table, split)
    critic = critic_figures(record.updates)
    steps, traces = None, []
    if record.steps is not None and len(record.steps):
        steps = ReasoningSteps(record.steps, record.states, record.trajectories, params.evaluation.confidence)
        traces = step_traces(record.steps, record.trajectories, record.tasks, record.verdicts)
    checks = metric_grid(table, split, OVERTHINKING)
    prompts = prompt_grid(record.trajectories, params.self_verification, renderer)
    present = (("self-verification", judging or prompts), ("steps", steps), ("overthinking", checks), ("critic", critic))
    parts = [name for name, there in present if there]
    if not parts:
        return None
    tokens = token_figure(table, split)
    figures = [*judging, *([tokens] if tokens else []), *(steps.figures() if steps else []), *critic]
    statements = (verification_sentence(table, split), *((steps.sentence(), steps.agreement_sentence()) if steps else ()))
    grids = [*(_grids(record, table, split, params) if judging else ())]
    agreement = None if steps is None else steps.agreement()
    further = (
        ("Solutions that were judged", _PROMPTS, prompts), ("What re-checks do", _RECHECKS, checks),
        ("Steps by their accuracies and by the oracle", _AGREEMENT, agreement),
    )  # fmt: skip
    grids += [(title, note, grid) for title, note, grid in further if grid is not None]
    return SelfVerificationSection(
        _joined(parts).capitalize(), tuple(filter(None, statements)), tuple(figures), tuple(grids), tuple(traces),
        tuple((effect, MARKS[effect], words) for effect, words in _LEGEND.items()),
    )  # fmt: skip


def _grids(record: RunRecord, table: Lookup, split: str, params: Params) -> tuple[tuple[str, str, Grid], ...]:
    last = table.iterations[-1]
    ids, splits = record.tasks["task_id"].to_pylist(), record.tasks["split"].to_pylist()
    mine = {name for name, own in zip(ids, splits, strict=True) if own == split}
    judged = judged_samples(record.trajectories, record.verdicts, params.self_verification)
    samples = [one for one in judged if one.task_id in mine]
    asked = sorted({one.iteration for one in samples})
    confusion = confusion_grid(samples, params.self_verification.levels, asked[:: len(asked) - 1 or 1])
    found = (
        (f"Votes of policy {last}", _VOTES, vote_grid(table)),
        ("What critiques say, and what their samples earned", _CONFUSION, confusion),
        ("How well policies judge", _JUDGING, metric_grid(table, split, JUDGING)),
        ("As judges of others, and how they speak of checking", _BEHAVIOUR, metric_grid(table, split, BEHAVIOUR)),
    )
    return tuple((title, note, grid) for title, note, grid in found if grid is not None)


def _joined(parts: list[str]) -> str:
    return " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1])))


_VOTES = "Share of tasks whose winning answer is right. What critiques say weighs the votes in two readings of the paper's formula."
_CONFUSION = "Numbers of critiques, by the level that the sample earned (by the oracle where there is one, else by the rule)."
_PROMPTS = (
    "A solution is not judged where even without it its prompt exceeds self_verification.max_prompt_tokens, or where a stratified "
    "selection found too few that the rule decided. A longer one loses its beginning."
)
_JUDGING = (
    "Accuracies beside what naming always the same reaches: in class (right or not) 'majority class', in level 'most frequent level'. Of "
    "the right samples and of the others, the share that critiques find (recall), and of what they say the share that is so (precision)."
)
_BEHAVIOUR = (
    "Rates as a judge of appeals are of critiques with a score. Words of checking (verify, recheck …) and of reflecting (wait, however …) "
    "are counted in the samples themselves, as in the paper; they say nothing of what a check is worth."
)
_RECHECKS = "Of held-out answers to chain arithmetic, by the oracle that reads traces."
_AGREEMENT = (
    "Numbers of steps of training solutions: what accuracies of continuations say, and what the step does to the stated result. Of a few "
    "continuations the accuracy also changes by chance."
)
_LEGEND = {"helpful": "more are right after it", "ineffective": "as many", "harmful": "fewer", UNKNOWN: "none was decided"}
