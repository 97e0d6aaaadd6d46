"""Stage 2, document generation: one tool for each sub-question, with a name, a description and a JSON schema of its parameters."""

import re
from random import Random
from typing import Any

from assay.environments.asking import Asker, Invalid, need
from assay.environments.tools.config import ToolConfig
from assay.environments.tools.decompose import FIGURES
from assay.environments.tools.record import Decomposition, Document, Plan, SubQuestion
from assay.environments.tools.world import SUFFIXES, a, spoken, subject_parameter
from assay.rewards.tool_use import verifies
from assay.trajectories import seed_from

TYPES = ("string", "boolean", "number", "integer", "array", "object")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")


def from_template(config: ToolConfig, node: SubQuestion, seed: int) -> Document:
    """Equal relations give equal names, and are integrated later."""
    value: Any = int(node.answer) if node.answer.isdigit() else node.answer.split(", ") if ", " in node.answer else node.answer
    random = Random(seed_from(seed, "document", node.domain, node.relation))
    document = about(node.domain, node.relation, random.choice(SUFFIXES[config.world]))
    assert document.plan is not None
    plan = Plan(document.plan.relations, document.plan.subjects, ((node.relation, node.subject, value),))
    return Document(document.name, document.description, document.parameters, (node.id,), plan)


def about(domain: str, relation: str, suffix: str) -> Document:
    """A tool for one relation, without facts."""
    if domain == FIGURES:
        subject = {"type": "array", "items": {"type": "number"}, "description": "The figures, in any order."}
        parameters = {"type": "object", "properties": {"figures": subject}, "required": ["figures"]}
        plan = Plan(((FIGURES, relation),), ((FIGURES, "figures", "numbers"),), ())
        return Document(f"figures_{relation}_{suffix}", f"Gives the {relation} of several recorded figures.", parameters, (), plan)
    name = subject_parameter(domain)
    parameters = {
        "type": "object",
        "properties": {name: {"type": "string", "description": f"Name of the {domain}."}},
        "required": [name],
    }
    description = f"Gives the {spoken(relation)} of {a(domain)}."
    return Document(
        f"{domain}_{relation}_{suffix}", description, parameters, (), Plan(((domain, relation),), ((domain, name, "string"),), ())
    )


_TASK = """Write the document of one tool that can answer the sub-question. It is general: neither names from the question nor its
answer occur in it, and every parameter has a type and a description.
Reply: {"name": identifier, "description": text, "parameters": JSON schema of an object with "properties" and "required"}"""


def from_model(asker: Asker, decomposition: Decomposition, node: SubQuestion) -> Document:
    """Asks a language model. Raises StageDropped."""
    payload = {"question": decomposition.question, "subquestion": node.question, "answer": node.answer}
    return asker.ask("document", _TASK, payload, lambda reply: read_document(reply, decomposition, (node.id,)))


def read_document(reply: Any, decomposition: Decomposition, nodes: tuple[str, ...]) -> Document:
    """A document in a model's reply. Raises Invalid."""
    name, description = need(reply, "name", str), need(reply, "description", str)
    document = Document(name, description, need(reply, "parameters", dict), nodes)
    if problems := check(document, decomposition):
        raise Invalid("; ".join(problems))
    return document


def check(document: Document, decomposition: Decomposition) -> list[str]:
    """What is wrong with a document, from whichever backend."""
    problems = check_schema(document.tool)
    shown = str(document.tool)
    problems += [f"{document.name} gives away the answer to {node.id}" for node in decomposition.nodes if verifies(shown, node.answer)]
    return problems


def check_schema(tool: dict[str, Any]) -> list[str]:
    """What is wrong with a tool in OpenAI's format."""
    function = tool.get("function") if isinstance(tool, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str) or not isinstance(function.get("parameters"), dict):
        return ["a tool is not {type: function, function: {name, description, parameters}}"]
    name, schema = function["name"], function["parameters"]
    if not _NAME.fullmatch(name):
        return [f"{name[:80]!r} is no name of a function"]
    properties, required = schema.get("properties"), schema.get("required", [])
    if schema.get("type") != "object" or not isinstance(properties, dict) or not isinstance(required, list):
        return [f"the parameters of {name} are no JSON schema of an object"]
    problems = [f"{name} requires {key}, which is no parameter" for key in required if not isinstance(key, str) or key not in properties]
    for key, property_ in properties.items():
        if not _NAME.fullmatch(key) or not isinstance(property_, dict) or property_.get("type") not in TYPES:
            problems.append(f"parameter {key!r} of {name} has no type out of {', '.join(TYPES)}")
        elif "enum" in property_ and not (isinstance(property_["enum"], list) and property_["enum"]):
            problems.append(f"parameter {key!r} of {name} has an enum that is no list")
    return problems
