"""What a set of environments looks like, beside what was measured on the published test set (method file, A.1.2)."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from json import dumps
from statistics import fmean

from assay.environments.tools.record import SCENARIOS, ToolEnvironment

Measured = tuple[float, int, int]
"""Mean, least, most."""
COLUMNS = ("tools", "sub_answers", "answer_bearing", "distractors")
PUBLISHED: dict[str, dict[str, Measured]] = {
    scenario: dict(zip(COLUMNS, row, strict=True))
    for scenario, row in {
        "single_hop": ((7.96, 5, 11), (1, 1, 1), (1, 1, 1), (6.96, 4, 10)),
        "parallel_single_hop": ((7.48, 1, 12), (2.02, 2, 3), (1.36, 1, 3), (6.12, 0, 11)),
        "multi_hop": ((10.34, 2, 14), (5.72, 2, 10), (5.72, 2, 10), (4.62, 0, 9)),
        "parallel_multi_hop": ((11.26, 8, 15), (7.66, 5, 11), (7.54, 4, 11), (3.72, 1, 7)),
    }.items()
}
"""50 environments each; the least and most answer-bearing tools follow from the sub-answers, as they are not printed."""


@dataclass(frozen=True)
class Statistics:
    """Of a set of environments."""

    by_scenario: dict[str, dict[str, Measured]]
    parameters: float
    """Per tool, as what follows."""
    required: float
    source_characters: float
    list_characters: float
    """Of an environment's serialised tools."""
    types: dict[str, float]
    """Shares of the types of parameters."""
    with_enum: float
    """Share of parameters."""
    with_default: float


def measure(environments: Sequence[ToolEnvironment]) -> Statistics:
    """Raises ValueError for no environments."""
    if not environments:
        raise ValueError("there are no environments to measure")
    functions = [tool["function"] for environment in environments for tool in environment.tools]
    properties = [property_ for function in functions for property_ in function["parameters"].get("properties", {}).values()]
    types = Counter(property_["type"] for property_ in properties)
    return Statistics(
        by_scenario={
            scenario: {column: _measured([_count(one, column) for one in environments if one.scenario == scenario]) for column in COLUMNS}
            for scenario in SCENARIOS
            if any(one.scenario == scenario for one in environments)
        },
        parameters=len(properties) / len(functions),
        required=fmean(len(function["parameters"].get("required", [])) for function in functions),
        source_characters=fmean(len(source) for one in environments for source in one.codes.values()),
        list_characters=fmean(len(dumps(one.tools)) for one in environments),
        types={name: count / len(properties) for name, count in types.most_common()},
        with_enum=sum("enum" in property_ for property_ in properties) / len(properties),
        with_default=sum("default" in property_ for property_ in properties) / len(properties),
    )


def _count(environment: ToolEnvironment, column: str) -> int:
    distractors, tools = len(environment.distractors), len(environment.tools)
    counts = {"tools": tools, "sub_answers": len(environment.answers), "answer_bearing": tools - distractors, "distractors": distractors}
    return counts[column]


def _measured(counts: list[int]) -> Measured:
    return fmean(counts), min(counts), max(counts)


def table(found: Statistics) -> str:
    """For people: what was found, and the published set's in brackets."""
    lines = [f"{'scenario':<20}" + "".join(f"{column:>30}" for column in COLUMNS)]
    for scenario, row in found.by_scenario.items():
        cells = [f"{_cell(row[column])} [{_cell(PUBLISHED[scenario][column])}]" for column in COLUMNS]
        lines.append(f"{scenario:<20}" + "".join(f"{cell:>30}" for cell in cells))
    types = ", ".join(f"{name} {share:.1%}" for name, share in found.types.items())
    return "\n".join([
        *lines,
        f"per tool: {found.parameters:.2f} parameters [7.1], {found.required:.2f} required [1.3 to 2.5], "
        f"{found.source_characters:.0f} characters of source [2200]",
        f"per environment: {found.list_characters:.0f} characters of tools [15600]",
        f"types: {types} [string 67%, boolean 18%, object 4%, number 4%, array 3%, integer 3%]",
        f"with enum {found.with_enum:.1%} [26%], with default {found.with_default:.1%} [30%]",
    ])  # fmt: skip


def _cell(measured: Measured) -> str:
    mean, least, most = measured
    return f"{mean:.2f} ({least}-{most})"
