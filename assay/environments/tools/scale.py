"""Stage 4, complexity scaling, in four strategies: (a) functional generalisation, a tool does more than is asked of it; (b) parameter
expansion, more parameters, mostly optional; (c) parameter-type generalisation, a text becomes an array or an object; (d) toolset extension,
tools that have nothing to do with the question.

Distractors have facts of their own, about the question's things too: what they say is plausible, and of no use.
"""

from dataclasses import replace
from random import Random
from typing import Any

from assay.environments.asking import Asker, Invalid, need
from assay.environments.tools.config import Shape, ToolConfig
from assay.environments.tools.decompose import FIGURES
from assay.environments.tools.documents import about, read_document
from assay.environments.tools.integrate import selecting
from assay.environments.tools.parameters import OPTIONAL, REQUIRED
from assay.environments.tools.record import Decomposition, Document, ToolError
from assay.environments.tools.world import SUFFIXES, World
from assay.trajectories import seed_from


def from_template(config: ToolConfig, decomposition: Decomposition, documents: list[Document], seed: int) -> list[Document]:
    """Strategies (a) to (c) on the tools of the question."""
    random, world = Random(seed_from(seed, "scale")), World(config.world, seed, config.brief)
    taken = {pair for document in documents if document.plan for pair in document.plan.relations}
    return [_scaled(config, decomposition, document, world, taken, random) for document in documents]


def extend_template(config: ToolConfig, decomposition: Decomposition, documents: list[Document], seed: int) -> list[Document]:
    """Strategy (d): the distractors alone, made of relations that the question does not use."""
    random, world = Random(seed_from(seed, "extend")), World(config.world, seed, config.brief)
    taken = {pair for document in documents if document.plan for pair in document.plan.relations}
    free = [
        (domain, relation) for domain, of in sorted(world.relations.items()) for relation in sorted(of) if (domain, relation) not in taken
    ]
    count = config.shapes[decomposition.scenario].distractors.draw(random)
    if count > len(free):
        raise ToolError(f"{count} distractors are asked for, but the world has {len(free)} relations left")
    chosen = random.sample(free, count)
    taken |= set(chosen)
    found = []
    for domain, relation in chosen:
        document = about(domain, relation, random.choice(SUFFIXES[config.world]))
        found.append(_scaled(config, decomposition, document, world, taken, random))
    return found


def _scaled(
    config: ToolConfig, decomposition: Decomposition, document: Document, world: World, taken: set[tuple[str, str]], random: Random
) -> Document:
    assert document.plan is not None
    if document.plan.relations[0][0] != FIGURES:
        if random.random() < config.generalise:
            document = _generalised(config, document, world, taken, random)
        document = _with_other_facts(config, decomposition, document, world)
        if random.random() < config.retype:
            document = _retyped(document, random)
    return _expanded(config, config.shapes[decomposition.scenario], document, random)


def _generalised(config: ToolConfig, document: Document, world: World, taken: set[tuple[str, str]], random: Random) -> Document:
    """(a) One or two more relations of the same type of subject."""
    assert document.plan is not None
    domain = document.plan.relations[0][0]
    known = {relation for _, relation in document.plan.relations}
    free = [relation for relation in sorted(world.relations[domain]) if (domain, relation) not in taken and relation not in known]
    more = tuple((domain, relation) for relation in random.sample(free, min(len(free), random.randint(1, 2))))
    if not more:
        return document
    taken |= set(more)
    suffix = document.name.rpartition("_")[2]
    return selecting(document.plan.relations + more, document.plan.facts, document.nodes, suffix)


def _with_other_facts(config: ToolConfig, decomposition: Decomposition, document: Document, world: World) -> Document:
    """About other things, and about the question's own where the relation is not asked of them."""
    assert document.plan is not None
    asked = {(node.relation, node.domain, node.subject) for node in decomposition.nodes}
    facts = list(document.plan.facts)
    for domain, relation in document.plan.relations:
        own = sorted({node.subject for node in decomposition.nodes if node.domain == domain})
        others = [world.thing(domain, "other", relation, index) for index in range(config.facts)]
        for subject in (*own, *others):
            if (relation, domain, subject) not in asked:
                facts.append((relation, subject, world.value(domain, relation, subject)))
    return replace(document, plan=replace(document.plan, facts=tuple(facts)))


def _retyped(document: Document, random: Random) -> Document:
    """(c) The subjects become arrays of one, or objects with a name."""
    assert document.plan is not None
    form = random.choice(("array", "object"))
    properties = dict(document.parameters["properties"])
    for _, parameter, _ in document.plan.subjects:
        text = properties[parameter]["description"]
        if form == "array":
            properties[parameter] = {"type": "array", "items": {"type": "string"}, "description": f"{text} A list of one."}
        else:
            properties[parameter] = {
                "type": "object",
                "properties": {"name": {"type": "string"}},
                "required": ["name"],
                "description": text,
            }
    subjects = tuple((domain, parameter, form) for domain, parameter, _ in document.plan.subjects)
    return replace(document, parameters=document.parameters | {"properties": properties}, plan=replace(document.plan, subjects=subjects))


def _expanded(config: ToolConfig, shape: Shape, document: Document, random: Random) -> Document:
    """(b) More parameters, some of them required."""
    assert document.plan is not None
    properties, required = dict(document.parameters["properties"]), list(document.parameters["required"])
    extras: list[tuple[str, Any]] = []
    for name in random.sample(REQUIRED, min(len(REQUIRED), max(0, shape.required.draw(random) - len(required)))):
        properties[name] = {key: value for key, value in OPTIONAL[name].items() if key != "default"}
        required.append(name)
        extras.append((name, OPTIONAL[name]["enum"][0]))
    free = [name for name in OPTIONAL if name not in properties]
    for name in random.sample(free, min(len(free), max(0, config.parameters.draw(random) - len(properties)))):
        properties[name] = OPTIONAL[name]
    schema = document.parameters | {"properties": properties, "required": required}
    return replace(document, parameters=schema, plan=replace(document.plan, extras=tuple(extras)))


_TASK = """Make the tool harder to use, keeping its name and all that it can do: let it do more than is asked of it, add mostly optional
parameters, and give parameters richer types (enum, boolean, number, array, object).
Reply: {"name": identifier, "description": text, "parameters": JSON schema}"""
_EXTEND = """Write documents of further tools that have nothing to do with the question, as many as "count" says. Their names are distinct
from those in "taken", and none could answer a sub-question.
Reply: {"documents": [{"name": identifier, "description": text, "parameters": JSON schema}, ...]}"""


def from_model(asker: Asker, decomposition: Decomposition, document: Document) -> Document:
    """Strategies (a) to (c) on one tool, by a language model. Raises StageDropped."""

    def read(reply: Any) -> Document:
        found = read_document(reply, decomposition, document.nodes)
        if found.name != document.name:
            raise Invalid(f"the tool was renamed: expected {document.name}")
        return found

    return asker.ask("scale", _TASK, document.tool["function"], read)


def extend_model(asker: Asker, decomposition: Decomposition, documents: list[Document], count: int) -> list[Document]:
    """Strategy (d), by a language model. Raises StageDropped."""
    taken = [document.name for document in documents]

    def read(reply: Any) -> list[Document]:
        found = [read_document(item, decomposition, ()) for item in need(reply, "documents", list)]
        names = [document.name for document in found]
        if len(found) != count or len({*names, *taken}) < count + len(taken):
            raise Invalid(f"expected {count} documents with names of their own, found {len(found)}")
        return found

    payload = {"question": decomposition.question, "taken": taken, "count": count}
    return asker.ask("extend", _EXTEND, payload, read) if count else []
