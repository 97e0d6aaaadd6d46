"""The five stages in a row: from (config, scenario, seed) to an environment that has not been through the gate yet."""

from random import Random

from assay.environments.tools.backends import Backend
from assay.environments.tools.config import ToolConfig
from assay.environments.tools.decompose import check as check_decomposition
from assay.environments.tools.documents import check_schema
from assay.environments.tools.integrate import check as check_map
from assay.environments.tools.record import (
    INSTRUCTION,
    Decomposition,
    Deployment,
    Difficulty,
    Document,
    Scenario,
    ToolEnvironment,
    ToolError,
    first_messages,
)
from assay.rewards.tool_use import normalise
from assay.trajectories import seed_from


def construct(backend: Backend, config: ToolConfig, scenario: Scenario, seed: int) -> ToolEnvironment:
    """Raises ToolError or StageDropped where a stage gives nothing sound."""
    decomposition = backend.decompose(scenario, seed)
    if problems := check_decomposition(decomposition):
        raise ToolError("; ".join(problems))
    found = [backend.document(decomposition, node, seed) for node in decomposition.nodes]
    integrated = backend.integrate(decomposition, found, seed)
    if problems := check_map(integrated, decomposition):
        raise ToolError("; ".join(problems))
    scaled = backend.scale(decomposition, integrated, seed)
    everything = [*scaled, *backend.extend(decomposition, scaled, seed)]
    Random(seed_from(seed, "order")).shuffle(everything)
    deployed = [backend.deploy(decomposition, document) for document in everything]
    environment = _assemble(config, decomposition, everything, deployed, seed)
    if problems := check(environment):
        raise ToolError("; ".join(problems))
    return environment


def _assemble(
    config: ToolConfig, decomposition: Decomposition, documents: list[Document], deployed: list[Deployment], seed: int
) -> ToolEnvironment:
    properties = [document.parameters["properties"] for document in documents]
    required = [document.parameters.get("required", []) for document in documents]
    bearing = [document for document in documents if document.nodes]
    forms = [form for document in documents if document.plan for _, _, form in document.plan.subjects]
    difficulty = Difficulty(
        distractors=len(documents) - len(bearing),
        optional=sum(map(len, properties)) - sum(map(len, required)),
        type_changes=sum(form in ("array", "object") for form in forms),
        merges=len(decomposition.nodes) - len(bearing),
    )
    calls = {call.node: call for deployment in deployed for call in deployment.calls}
    return ToolEnvironment(
        scenario=decomposition.scenario,
        question=decomposition.question,
        answer=decomposition.answer,
        tools=tuple(document.tool for document in documents),
        codes={document.name: deployment.source for document, deployment in zip(documents, deployed, strict=True)},
        unsolved={document.name: tuple(decomposition.node(key).answer for key in document.nodes) for document in bearing},
        split=config.split,
        messages=first_messages(decomposition.question, INSTRUCTION if config.instruction else ""),
        nodes=decomposition.nodes,
        calls=tuple(calls[node.id] for node in decomposition.nodes),
        difficulty=difficulty,
        seed=seed,
    )


def check(environment: ToolEnvironment) -> list[str]:
    """What is wrong with an environment, without running it."""
    problems = [problem for tool in environment.tools for problem in check_schema(tool)]
    names = environment.names
    if len(set(names)) < len(names) or set(names) != set(environment.codes):
        problems.append("the names of tools are not distinct, or not those of the codes")
    if strange := sorted(set(environment.unsolved) - set(names)):
        problems.append(f"unsolved_set names {', '.join(strange)}, which is no tool")
    if not environment.answers:
        problems.append("nothing is unsolved")
    shown = normalise(" ".join((environment.question, *map(str, environment.tools))))
    for answer in environment.answers:
        if any(normalise(piece) in shown for piece in answer.split(", ")):
            problems.append(f"answer {answer!r} is given away by question or tools")
    return problems
