"""The report's section on tasks with tools: success by scenario, what calls are spent on, why episodes fail, and one to read."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from assay.evaluation.breakdown import Grid, interval, percent
from assay.evaluation.figures import Figure, chart, metric_line
from assay.evaluation.metrics import Lookup
from assay.evaluation.record import RunRecord
from assay.evaluation.samples import Samples
from assay.evaluation.selection import clip, visible
from assay.evaluation.tool_use import episodes
from assay.trajectories import content_hash

COLORS = (1, 4, 2, 6)
LONGEST = 1_500
"""Characters of a message that are shown."""
COLUMNS = (
    ("answered", "solve_answered"), ("exactly", "solve_exact"), ("Solve-F1", "solve_f1"), ("Solve-P", "solve_p"),
    ("strict P", "solve_p_strict"), ("Solve-R", "solve_r"),
)  # fmt: skip


@dataclass(frozen=True)
class ToolSection:
    """What the template shows."""

    figures: tuple[Figure, ...]
    scenarios: tuple[tuple[str, Grid], ...]
    """(split, a row for each scenario and of the first and the last policy)."""
    calls: Grid
    """A row for each policy: what its calls came to."""
    endings: Grid
    """A row for each reason, a column for each policy."""
    title: str
    """Of the episode that is shown; "" where none can be."""
    episode: tuple[tuple[str, str, str], ...]
    """(role, text, remark) of its messages."""


def tool_section(record: RunRecord, samples: Samples, table: Lookup, split: str, split_names: Mapping[str, str]) -> ToolSection | None:
    """None for a run without tasks with tools."""
    played = episodes(samples, record.verdicts)
    if not played or record.turns is None or record.tool_calls is None:
        return None
    names = sorted({parts["scenario"] for parts in played.values()})
    figures = [
        chart("Sub-answers found by calling tools", "Means over held-out tasks; P counts 1 where no call was made, strict P 0.",
              [metric_line(table, split, metric, name, color) for color, (name, metric) in zip((1, 4, 3, 2), COLUMNS[2:], strict=True)],
              "policy", "share", unit=True),
        chart("Solve-F1 by scenario", "", [metric_line(table, split, f"solve_f1:{name}", name.replace("_", " "), color)
              for color, name in zip(COLORS, names, strict=False)], "policy", "Solve-F1", unit=True),
    ]  # fmt: skip
    here = {row for row in played if samples.split[samples.task[row]] == split}
    title, shown = _episode(record, samples, {row: played[row] for row in here})
    return ToolSection(
        tuple(figure for figure in figures if figure.svg),
        tuple((split_names[one], _by_scenario(table, one, names)) for one in table.splits if any(
            table.get(k, one, "solve_f1") for k in table.iterations)),
        _calls(record, samples, {row: played[row] for row in here}), _endings(samples, here), title, shown,
    )  # fmt: skip


def _by_scenario(table: Lookup, split: str, names: list[str]) -> Grid:
    rows = []
    for name in names:
        for k in dict.fromkeys((table.iterations[0], table.iterations[-1])):
            found = table.get(k, split, f"solve_f1:{name}")
            if found is not None:
                cells = (interval(table.get(k, split, f"{metric}:{name}")) for _, metric in COLUMNS)
                rows.append((name.replace("_", " "), str(k), f"{found['n']:,}", *cells))
    return Grid(("scenario", "policy", "tasks", *(head for head, _ in COLUMNS)), tuple(rows), 1)


def _calls(record: RunRecord, samples: Samples, played: Mapping[int, Mapping[str, Any]]) -> Grid:
    """What calls were spent on, over all episodes of a policy."""
    assert record.tool_calls is not None
    ids = samples.rows["trajectory_id"].to_pylist()
    policy_of = {ids[row]: int(samples.policy[row]) for row in played}
    mine = record.tool_calls.filter(pc.is_in(record.tool_calls["trajectory_id"], value_set=pa.array(list(policy_of))))
    counts: dict[int, Counter[str]] = {}
    names = ("trajectory_id", "status", "solved", "distractor", "echo")
    for name, status, solved, distractor, echo in zip(*(mine[column].to_pylist() for column in names), strict=True):
        own = counts.setdefault(policy_of[name], Counter())
        own[status] += 1
        own["all"] += status != "dropped"
        own["solving"] += solved is not None
        own["distractor"] += distractor
        own["echo"] += echo
    statuses = sorted({status for own in counts.values() for status in own} - {"all", "solving", "distractor", "echo", "ok", "dropped"})
    rows = []
    for policy, k in enumerate(samples.iterations):
        own, count = counts.get(policy, Counter()), sum(int(samples.policy[row]) == policy for row in played)
        each = f"{own['all'] / own['solving']:.2f}" if own["solving"] else "–"
        shares = (percent(own[key] / max(own["all"], 1)) for key in ("distractor", *statuses, "echo"))
        rows.append((str(k), f"{own['all'] / max(count, 1):.2f}", each, *shares, f"{own['dropped'] / max(count, 1):.2f}"))
    heads = (name.replace("_", " ") for name in ("distractors", *statuses, "echoes"))
    return Grid(("policy", "calls an episode", "calls for each sub-answer", *heads, "unreadable pieces an episode"), tuple(rows), 1)


def _endings(samples: Samples, played: set[int]) -> Grid:
    """Why episodes are right or wrong, as shares of a policy's episodes."""
    reasons = samples.reasons["rule"].to_pylist()
    counts = Counter((reasons[row], int(samples.policy[row])) for row in played)
    totals = Counter(int(samples.policy[row]) for row in played)
    names = sorted({reason for reason, _ in counts}, key=lambda reason: -sum(n for key, n in counts.items() if key[0] == reason))
    shown = sorted(totals)
    rows = tuple((WORDS.get(name, name), *(percent(counts[name, policy] / totals[policy]) for policy in shown)) for name in names)
    return Grid(("the episode", *(f"policy {samples.iterations[policy]}" for policy in shown)), rows, 1)


WORDS = {
    "equal": "is answered rightly", "different": "is answered wrongly though all was found",
    "tool_unsolved": "is answered wrongly before all was found", "tool_malformed": "ends with a call that cannot be read",
    "tool_empty": "ends with nothing said", "tool_max_turns": "goes on beyond the last turn", "tool_overlong": "has no room left",
}  # fmt: skip


def _episode(
    record: RunRecord, samples: Samples, played: Mapping[int, Mapping[str, Any]]
) -> tuple[str, tuple[tuple[str, str, str], ...]]:
    """One of the last policy, by a hash of its id: of several turns and right where there is such a one."""
    assert record.turns is not None and record.tool_calls is not None
    last = len(samples.iterations) - 1
    ids = samples.rows["trajectory_id"].to_pylist()
    mine = [row for row in played if int(samples.policy[row]) == last]
    if not mine:
        return "", ()
    right = [row for row in mine if played[row]["right"]]
    best = [row for row in right if played[row]["turns"] > 2] or right or mine
    row = min(best, key=lambda row: content_hash("episode", ids[row]))
    parts, name = played[row], pa.scalar(ids[row])
    task = samples.tasks.slice(int(samples.task[row]), 1).to_pylist()[0]
    turns = record.turns.filter(pc.equal(record.turns["trajectory_id"], name)).sort_by("turn_index").to_pylist()
    calls = record.tool_calls.filter(pc.equal(record.tool_calls["trajectory_id"], name)).sort_by("call_index").to_pylist()
    messages = [(message["role"], _shown(message["content"]), "") for message in task["prompt"]]
    for turn in turns:
        messages.append(("policy", _shown(turn["text"]), f"{turn['unsolved_before']} of {turn['sub_answers']} sub-answers to be found"))
        for call in calls:
            if call["turn_index"] == turn["turn_index"]:
                remark = f"finds {_shown(call['solved'])}" if call["solved"] else call["status"].replace("_", " ")
                messages.append((_shown(call["name"] or "unreadable"), _shown(call["feedback"]), remark))
    title = (
        f"Policy {samples.iterations[last]}, {parts['scenario'].replace('_', ' ')}: {'right' if parts['right'] else 'wrong'}, "
        f"{parts['calls']} calls for {parts['solved']} of {parts['sub_answers']} sub-answers; Solve-F1 {parts['solve_f1']:.3f}"
    )
    return title, tuple(messages)


def _shown(text: str) -> str:
    return clip(visible(text), LONGEST)
