"""Stage 5, localised deployment: each document becomes one Python function, with the facts baked in.

The intended arguments return the sub-answer; all else returns an error or no record. No result repeats an argument (a deviation from FTRL,
on purpose): a guess that is put in as an argument must not come back as a result.
"""

import ast
from collections.abc import Mapping
from typing import Any

from assay.environments.asking import Asker, Invalid, need
from assay.environments.tools.config import ToolConfig
from assay.environments.tools.execution import Request, ToolExecutor
from assay.environments.tools.record import Decomposition, Deployment, Document, GoldenCall, Plan
from assay.rewards.tool_use import verifies

IMPORTS = frozenset({
    "bisect", "calendar", "collections", "datetime", "decimal", "difflib", "fractions", "functools", "hashlib", "itertools", "json", "math",
    "operator", "re", "statistics", "string", "textwrap", "typing", "unicodedata",
})  # fmt: skip
"""What deployed functions may import."""
FORBIDDEN = frozenset(
    {"eval", "exec", "compile", "open", "input", "globals", "locals", "vars", "breakpoint", "getattr", "setattr", "delattr"}
)
_CHECKS = {
    "string": "isinstance({0}, str)",
    "boolean": "isinstance({0}, bool)",
    "integer": "isinstance({0}, int) and not isinstance({0}, bool)",
    "number": "isinstance({0}, (int, float)) and not isinstance({0}, bool)",
    "array": "isinstance({0}, list)",
    "object": "isinstance({0}, dict)",
}


def from_template(config: ToolConfig, decomposition: Decomposition, document: Document) -> Deployment:
    """The function as text, and the calls that it is meant for."""
    assert document.plan is not None
    plan, properties = document.plan, document.parameters["properties"]
    signature = ", ".join(f"{name}={property_.get('default')!r}" for name, property_ in properties.items())
    facts = "".join(f"\n        {(relation, _key(subject))!r}: {value!r}," for relation, subject, value in plan.facts)
    lines = [f"def {document.name}({signature}):", f'    """{document.description}"""', f"    facts = {{{facts}\n    }}"]
    for name, property_ in properties.items():
        if name not in {parameter for _, parameter, _ in plan.subjects}:
            lines += _check(name, property_, name in document.parameters["required"])
    lines += _subject(plan)
    lines += [
        "    value = facts.get((relation, subject))",
        "    if value is None:",
        '        return {"error": "no record"}',
        '    return {"value": value}',
    ]
    calls = tuple(GoldenCall(key, document.name, _arguments(plan, decomposition, key)) for key in document.nodes)
    return Deployment("\n".join(lines) + "\n", calls)


def _key(subject: str) -> str:
    return " ".join(subject.lower().split())


def _check(name: str, property_: Mapping[str, Any], required: bool) -> list[str]:
    """Lines that refuse a wrong value of a parameter."""
    if "enum" in property_:
        test, must = f"{name} in {property_['enum']!r}", f"one of {', '.join(property_['enum'])}"
    else:
        test, must = _CHECKS[property_["type"]].format(name), f"of type {property_['type']}"
    condition = f"not ({test})" if required else f"{name} is not None and not ({test})"
    return [f"    if {condition}:", f"        return {{'error': {f'{name} must be {must}'!r}}}"]


def _subject(plan: Plan) -> list[str]:
    """Lines that find relation and subject."""
    lines = [f"    relation = {plan.selector}" if plan.selector else f"    relation = {plan.relations[0][1]!r}"]
    if len(plan.subjects) == 1:
        lines.append(f"    subject = {plan.subjects[0][1]}")
    else:
        parameter = {domain: name for domain, name, _ in plan.subjects}
        pairs = ", ".join(f"{relation!r}: {parameter[domain]}" for domain, relation in plan.relations)
        lines.append(f"    subject = {{{pairs}}}[relation]")
    form = plan.subjects[0][2]
    if form == "numbers":
        return [
            *lines,
            "    if not isinstance(subject, list) or not all(isinstance(one, (int, float)) for one in subject):",
            '        return {"error": "a list of numbers is needed"}',
            '    subject = " ".join(sorted(str(int(one)) for one in subject))',
        ]
    if form == "array":
        lines += [
            "    if not isinstance(subject, list) or len(subject) != 1:",
            '        return {"error": "a list of one name is needed"}',
            "    subject = subject[0]",
        ]
    elif form == "object":
        lines += [
            "    if not isinstance(subject, dict):",
            '        return {"error": "an object with a name is needed"}',
            '    subject = subject.get("name")',
        ]
    return [
        *lines,
        "    if not isinstance(subject, str) or not subject.strip():",
        '        return {"error": "the name that is asked about is missing"}',
        '    subject = " ".join(subject.lower().split())',
    ]


def _arguments(plan: Plan, decomposition: Decomposition, key: str) -> dict[str, Any]:
    node = decomposition.node(key)
    parameter, form = next((name, form) for domain, name, form in plan.subjects if domain == node.domain)
    subject: Any = {
        "string": node.subject, "array": [node.subject], "object": {"name": node.subject},
        "numbers": [int(part) for part in node.subject.split()] if form == "numbers" else None,
    }[form]  # fmt: skip
    return ({plan.selector: node.relation} if plan.selector else {}) | {parameter: subject} | dict(plan.extras)


_TASK = """Write the tool as one self-contained Python function of the document's name. Every parameter has a default, imports stand
inside the body, nothing stands beside the function. For the intended arguments of each sub-question it returns that answer; for all else
it returns {"error": text} or says that there is no record, and never repeats an argument.
Reply: {"source": text, "calls": [{"subquestion": id, "arguments": object}, ...]}, one call for each sub-question of the input."""


def from_model(asker: Asker, decomposition: Decomposition, document: Document, executor: ToolExecutor) -> Deployment:
    """Asks a language model; the intended calls are executed. Raises StageDropped."""
    nodes = {key: decomposition.node(key) for key in document.nodes}
    asked = [{"id": key, "question": node.question, "answer": node.answer} for key, node in nodes.items()]

    def read(reply: Any) -> Deployment:
        source = need(reply, "source", str)
        if problems := check_source(source, document.name, tuple(document.parameters["properties"])):
            raise Invalid("; ".join(problems))
        calls = []
        for item in need(reply, "calls", list):
            key, arguments = need(item, "subquestion", str, "a call"), need(item, "arguments", dict, "a call")
            calls.append(GoldenCall(key, document.name, arguments))
        if sorted(call.node for call in calls) != sorted(nodes):
            raise Invalid(f"expected one call for each of: {', '.join(nodes) or 'none'}")
        said = executor.execute([Request({document.name: source}, document.name, call.arguments) for call in calls])
        for call, feedback in zip(calls, said, strict=True):
            if not verifies(feedback.text, nodes[call.node].answer):
                raise Invalid(f"the call for {call.node} gives {feedback.text!r}, not {nodes[call.node].answer!r}")
        return Deployment(source, tuple(calls))

    return asker.ask("deploy", _TASK, {"document": document.tool["function"], "subquestions": asked}, read)


def check_source(source: str, name: str, parameters: tuple[str, ...]) -> list[str]:
    """What is wrong with the text of a function, without running it."""
    try:
        body = ast.parse(source).body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:  # what the parser raises for texts it cannot hold
        return [f"the source is no Python ({type(error).__name__}: {error})"]
    if len(body) != 1 or not isinstance(body[0], ast.FunctionDef) or body[0].name != name or body[0].decorator_list:
        return [f"the source must be one function named {name}, without decorators, and nothing beside it"]
    function, problems = body[0], []
    given = function.args
    if (
        given.vararg
        or given.kwarg
        or given.posonlyargs
        or len(given.defaults) + sum(d is not None for d in given.kw_defaults) < len(given.args + given.kwonlyargs)
    ):
        problems.append("every parameter needs a name and a default")
    if missing := sorted(set(parameters) - {argument.arg for argument in given.args + given.kwonlyargs}):
        problems.append(f"the function does not take {', '.join(missing)}")
    for node in ast.walk(function):
        modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        problems += [f"{module} may not be imported" for module in modules if module.split(".")[0] not in IMPORTS]
        word = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
        if word in FORBIDDEN or (word.startswith("__") and word.endswith("__")):
            problems.append(f"{word} may not be used")
    return problems
