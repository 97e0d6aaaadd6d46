"""Stage 3, function integration: tools with overlapping functionality become one, which then owns several sub-answers."""

from dataclasses import replace
from random import Random
from typing import Any

from assay.environments.asking import Asker, Invalid, need
from assay.environments.tools.config import ToolConfig
from assay.environments.tools.decompose import FIGURES
from assay.environments.tools.documents import read_document
from assay.environments.tools.record import Decomposition, Document, Plan
from assay.environments.tools.world import SUFFIXES, World, a, spoken, subject_parameter
from assay.trajectories import seed_from

SELECTOR = "attribute"


def from_template(config: ToolConfig, decomposition: Decomposition, documents: list[Document], seed: int) -> list[Document]:
    """Tools of one relation always become one; others that share the type of what they ask about, or of what they give, do so with the
    scenario's probability."""
    random, world = Random(seed_from(seed, "integrate")), World(config.world, seed, config.brief)
    suffix = random.choice(SUFFIXES[config.world])
    kept: list[Document] = []
    for document in documents:
        same = next((one for one in kept if one.name == document.name), None)
        if same is not None:
            kept[kept.index(same)] = _same(same, document)
        else:
            kept.append(document)
    if decomposition.scenario == "parallel_single_hop":
        return kept  # whether they are one is drawn with the relations
    position = 0
    while position < len(kept) - 1:
        pair = kept[position], kept[position + 1]
        if _fit(*pair, world) and random.random() < config.shapes[decomposition.scenario].merge:
            kept[position : position + 2] = [_merged(*pair, suffix)]
        position += 1
    return kept


def _same(one: Document, other: Document) -> Document:
    """The same tool, asked twice."""
    assert one.plan is not None and other.plan is not None
    return replace(one, nodes=one.nodes + other.nodes, plan=replace(one.plan, facts=one.plan.facts + other.plan.facts))


def _fit(one: Document, other: Document, world: World) -> bool:
    assert one.plan is not None and other.plan is not None
    both = (*one.plan.relations, *other.plan.relations)
    if any(domain == FIGURES for domain, _ in both) or len({relation for _, relation in both}) < len(both):
        return False
    domains = [{domain for domain, _ in plan.relations} for plan in (one.plan, other.plan)]
    ranges = [{world.leads_to(*pair) for pair in plan.relations} for plan in (one.plan, other.plan)]
    return bool(domains[0] & domains[1] or ranges[0] & ranges[1])


def _merged(one: Document, other: Document, suffix: str) -> Document:
    assert one.plan is not None and other.plan is not None
    return selecting(one.plan.relations + other.plan.relations, one.plan.facts + other.plan.facts, one.nodes + other.nodes, suffix)


def selecting(
    relations: tuple[tuple[str, str], ...], facts: tuple[tuple[str, str, Any], ...], nodes: tuple[str, ...], suffix: str
) -> Document:
    """One tool for several relations, told apart by a selector."""
    domains = list(dict.fromkeys(domain for domain, _ in relations))
    names = [relation for _, relation in relations]
    by_domain = {domain: [spoken(relation) for one, relation in relations if one == domain] for domain in domains}
    several = len(domains) > 1
    properties: dict[str, Any] = {SELECTOR: {"type": "string", "enum": names, "description": "What is asked for."}}
    for domain, asked in by_domain.items():
        only = f" Needed for {', '.join(asked)}." if several else ""
        properties[subject_parameter(domain)] = {"type": "string", "description": f"Name of the {domain}.{only}"}
    required = [SELECTOR] if several else [SELECTOR, subject_parameter(domains[0])]
    described = "; ".join(f"{', '.join(asked)} of {a(domain)}" for domain, asked in by_domain.items())
    subjects = tuple((domain, subject_parameter(domain), "string") for domain in domains)
    name = f"{'_or_'.join(domains)}_{'_or_'.join(names)}"[: 62 - len(suffix)] + f"_{suffix}"
    schema = {"type": "object", "properties": properties, "required": required}
    return Document(name, f"Gives one of: {described}.", schema, nodes, Plan(relations, subjects, facts, SELECTOR))


_TASK = """Merge documents of tools that overlap in what they do; leave the others as they are. A merged tool takes the union of the
parameters and one that selects what is asked for. The names of the tools are distinct.
Reply: {"documents": [{"name": identifier, "description": text, "parameters": JSON schema, "subquestions": [ids that it answers]}, ...]};
each sub-question is answered by exactly one tool."""


def from_model(asker: Asker, decomposition: Decomposition, documents: list[Document]) -> list[Document]:
    """Asks a language model. Raises StageDropped."""
    payload = [{"subquestions": list(one.nodes), **one.tool["function"]} for one in documents]

    def read(reply: Any) -> list[Document]:
        found = []
        for item in need(reply, "documents", list):
            nodes = tuple(map(str, need(item, "subquestions", list, "a document")))
            found.append(read_document(item, decomposition, nodes))
        if problems := check(found, decomposition):
            raise Invalid("; ".join(problems))
        return found

    return asker.ask("integrate", _TASK, payload, read)


def check(documents: list[Document], decomposition: Decomposition) -> list[str]:
    """What is wrong with the map of sub-questions to tools, from whichever backend."""
    answered = sorted(node for document in documents for node in document.nodes)
    problems = []
    if answered != sorted(node.id for node in decomposition.nodes):
        problems.append(f"the tools answer {', '.join(answered)}, expected each sub-question once")
    if len({document.name for document in documents}) < len(documents):
        problems.append("the names of tools are not distinct")
    return problems
