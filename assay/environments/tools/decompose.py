"""Stage 1, scenario decomposition: a question as a graph of sub-questions, in one of four scenarios.

single_hop: one; parallel_single_hop: several independent ones, whose answers the policy combines; multi_hop: a chain; parallel_multi_hop:
chains, combined by the policy or by a last tool.
"""

from collections.abc import Collection, Sequence
from fractions import Fraction
from math import prod
from random import Random
from typing import Any

from assay.environments.asking import Asker, Invalid, need
from assay.environments.tools.config import ToolConfig
from assay.environments.tools.record import Decomposition, Scenario, SubQuestion, ToolError
from assay.environments.tools.world import NUMBER, World, as_answer, spoken
from assay.rewards.tool_use import normalise, verifies
from assay.trajectories import seed_from

FIGURES = "figures"
"""Domain of the calculator's relations; its subject is the numbers, smallest first."""
SHORTEST = 4
"""Characters of the shortest answer: the matcher finds shorter ones by accident."""
LEAST = {"single_hop": 1, "parallel_single_hop": 2, "multi_hop": 2, "parallel_multi_hop": 4}
Chain = list[tuple[str, str]]


def from_template(config: ToolConfig, scenario: Scenario, seed: int) -> Decomposition:
    """Seeded. Raises ToolError where the draw makes no sound question; the caller draws again."""
    random, world = Random(seed_from(seed, "decompose")), World(config.world, seed, config.brief)
    count = config.shapes[scenario].sub_answers.draw(random)
    if scenario in ("single_hop", "multi_hop"):
        chains, combine = [_walk(world, count, random, set(), None)], ""
    elif scenario == "parallel_single_hop":
        same = random.random() < config.shapes[scenario].merge
        chains, combine = _roots(world, count, same, config, random)
    else:
        chains, combine = _chains(world, count, config, random)
    nodes: list[SubQuestion] = []
    ends = [_ask(world, chain, index, nodes, config.quoted) for index, chain in enumerate(chains)]
    if not combine:
        phrase, answer = ends[0]
        asked = f"Name {phrase}." if ", " in answer else f"What is {phrase}?"
        return Decomposition(scenario, asked, answer, tuple(nodes))
    answers = [answer for _, answer in ends]
    answer = combined(combine, answers)
    if len(nodes) < count:
        last = tuple(node.id for node in nodes if node.answer in answers)
        key = " ".join(sorted(answers))
        nodes.append(
            SubQuestion(f"s{count}", f"What is the {combine} of the answers to {' and '.join(last)}?", answer, last, combine, FIGURES, key)
        )
    return Decomposition(scenario, _question(combine, [phrase for phrase, _ in ends]), answer, tuple(nodes))


def combined(how: str, answers: Sequence[str]) -> str:
    """The final answer from several sub-answers: sum, difference (of two), largest, or alphabetical order."""
    if how == "order":
        return ", ".join(sorted(answers))
    numbers = sorted(map(int, answers))
    return str({"sum": sum(numbers), "difference": numbers[-1] - numbers[0], "largest": numbers[-1]}[how])


def _question(how: str, phrases: list[str]) -> str:
    listed = ", ".join(phrases[:-1]) + " and " + phrases[-1]
    if how == "order":
        return f"Name {listed}, in alphabetical order."
    return f"Which number is the largest: {listed}?" if how == "largest" else f"What is the {how} of {listed}?"


def _walk(world: World, length: int, random: Random, used: set[tuple[str, str]], to_number: bool | None) -> Chain:
    """Relations that lead from one to the next, none of them used twice. to_number: whether the last one gives a number (None: either)."""

    def go(domain: str, left: int) -> Chain | None:
        options = [(relation, kind) for relation, kind in sorted(world.relations[domain].items()) if (domain, relation) not in used]
        random.shuffle(options)
        for relation, kind in options:
            if left > 1 and kind not in world.relations:
                continue
            if left == 1 and (kind.startswith("list:") if to_number is False else to_number and kind != NUMBER):
                continue
            used.add((domain, relation))
            rest: Chain | None = [] if left == 1 else go(kind, left - 1)
            if rest is not None:
                return [(domain, relation), *rest]
            used.discard((domain, relation))
        return None

    starts = sorted(world.relations)
    random.shuffle(starts)
    for start in starts:
        found = go(start, length)
        if found is not None and (to_number is not False or world.leads_to(*found[-1]) != NUMBER):
            return found
        used.difference_update(found or ())
    raise ToolError(f"the world has no chain of {length} relations left")


def _roots(world: World, count: int, same: bool, config: ToolConfig, random: Random) -> tuple[list[Chain], str]:
    numbers = random.random() < 0.6 and config.combinations != ("order",)
    used: set[tuple[str, str]] = set()
    first = _walk(world, 1, random, used, numbers)
    chains = [first] * count if same else [first, *(_walk(world, 1, random, used, numbers) for _ in range(count - 1))]
    return chains, _combine(numbers, count, config, random)


def _chains(world: World, count: int, config: ToolConfig, random: Random) -> tuple[list[Chain], str]:
    numbers = random.random() < 0.7 and config.combinations != ("order",)
    by_tool = numbers and count > LEAST["parallel_multi_hop"] and random.random() < config.calculator
    left = count - by_tool
    parts = 3 if left >= 6 and random.random() < 0.4 else 2
    lengths = [2] * parts
    for _ in range(left - 2 * parts):
        lengths[random.randrange(parts)] += 1
    used: set[tuple[str, str]] = set()
    return [_walk(world, length, random, used, numbers) for length in lengths], _combine(numbers, parts, config, random, by_tool)


def _combine(numbers: bool, parts: int, config: ToolConfig, random: Random, by_tool: bool = False) -> str:
    """A tool's result must differ from what it is made of."""
    if not numbers:
        return "order"
    fitting = ["sum", *(["difference"] if parts == 2 else []), *([] if by_tool else ["largest"])]
    wanted = [how for how in fitting if how in config.combinations]
    if not wanted:
        raise ToolError(f"none of the combinations {', '.join(config.combinations)} fits {parts} numbers")
    return random.choice(wanted)


def _ask(world: World, chain: Chain, index: int, nodes: list[SubQuestion], quoted: bool) -> tuple[str, str]:
    """Adds the chain's nodes; returns its phrase for the whole question and its answer."""
    subject = world.thing(chain[0][0], index)
    phrase, before = f'"{subject}"' if quoted else subject, ""
    for domain, relation in chain:
        answer = as_answer(world.value(domain, relation, subject))
        asked = f"the answer to {before}" if before else subject
        key = f"s{len(nodes) + 1}"
        question = f"What is the {spoken(relation)} of {asked}?"
        nodes.append(SubQuestion(key, question, answer, (before,) if before else (), relation, domain, subject))
        phrase, subject, before = f"the {spoken(relation)} of {phrase}", answer, key
    return phrase, subject


_TASK = """Write a question that can only be answered with tools, and split it into sub-questions.
All names and facts are invented: nothing in it may be known from the world. Answers are short (4 to 40 characters), none occurs in the
question, in a sub-question or within another answer.
The scenario is {scenario}: {meaning}.
Reply: {{"question": text, "answer": text, "subquestions": [{{"id": "s1", "question": text, "answer": text, "depends_on": [ids]}}, ...]}},
sub-questions in an order in which each comes after those that it depends on."""
COMBINED = "it is one of them, several of them after commas, or their sum, difference, product, largest or smallest"
MEANINGS: dict[Scenario, str] = {
    "single_hop": "exactly one sub-question, whose answer is the final answer",
    "parallel_single_hop": f"two or three sub-questions that do not depend on each other; the final answer combines theirs: {COMBINED}",
    "multi_hop": "a chain of two to ten sub-questions, each of which needs the answer before it; the last answer is the final one",
    "parallel_multi_hop": f"several chains of sub-questions, four to eleven in all; the final answer combines their ends: {COMBINED}",
}


def from_model(asker: Asker, config: ToolConfig, scenario: Scenario, seed: int) -> Decomposition:
    """Asks a language model. Raises StageDropped."""
    topic = config.topics[seed % len(config.topics)] if config.topics else "free"

    def read(reply: Any) -> Decomposition:
        nodes = []
        for item in need(reply, "subquestions", list):
            depends = need(item, "depends_on", list, "a sub-question")
            key, question, answer = (need(item, name, str, "a sub-question") for name in ("id", "question", "answer"))
            nodes.append(SubQuestion(key, question, answer, tuple(map(str, depends))))
        found = Decomposition(scenario, need(reply, "question", str), need(reply, "answer", str), tuple(nodes))
        if problems := check(found):
            raise Invalid("; ".join(problems))
        return found

    task = _TASK.format(scenario=scenario, meaning=MEANINGS[scenario])
    return asker.ask("decompose", task, {"scenario": scenario, "topic": topic, "variation": seed}, read)


def check(found: Decomposition) -> list[str]:
    """What is wrong with a decomposition, from whichever backend."""
    problems: list[str] = []
    ids = [node.id for node in found.nodes]
    if len(set(ids)) < len(ids):
        problems.append("ids of sub-questions are not distinct")
    for position, node in enumerate(found.nodes):
        if missing := [key for key in node.depends_on if key not in ids[:position]]:
            problems.append(f"{node.id} depends on {', '.join(missing)}, which does not come before it")
    problems += _check_shape(found) + _check_answers(found)
    return problems


def _check_shape(found: Decomposition) -> list[str]:
    least, count = LEAST[found.scenario], len(found.nodes)
    if count < least or (found.scenario == "single_hop" and count > 1):
        return [f"{found.scenario} has {count} sub-questions, expected {'exactly' if least == 1 else 'at least'} {least}"]
    depends = [node.depends_on for node in found.nodes]
    if found.scenario == "parallel_single_hop" and any(depends):
        return ["sub-questions of parallel_single_hop depend on each other"]
    if found.scenario == "multi_hop" and any(len(on) != (position > 0) for position, on in enumerate(depends)):
        return ["sub-questions of multi_hop are no chain"]
    if found.scenario == "parallel_multi_hop" and (sum(not on for on in depends) < 2 or not any(depends)):
        return ["sub-questions of parallel_multi_hop are not several chains"]
    if found.scenario in ("single_hop", "multi_hop") and not verifies(found.answer, found.nodes[-1].answer):
        return ["the final answer is not the last sub-answer"]
    if found.scenario.startswith("parallel") and not _follows(found):
        return [f"the final answer {found.answer!r} does not follow from the last sub-answers: {COMBINED}"]
    return []


def _known(piece: str, known: Collection[str]) -> bool:
    return normalise(piece) in known or all(normalise(part) in known for part in piece.split(" and "))


def _follows(found: Decomposition) -> bool:
    """Whether the final answer is made of the answers to those sub-questions on which no other depends."""
    inner = {key for node in found.nodes for key in node.depends_on}
    given = [node.answer for node in found.nodes if node.id not in inner]
    ends = [normalise(answer) for answer in given]
    known = {*ends, *(normalise(piece) for answer in given for piece in answer.split(", "))}
    pieces = [piece.removeprefix("and ") for piece in found.answer.split(", ")]
    if normalise(found.answer) in known or all(_known(piece, known) for piece in pieces):
        return True
    try:
        numbers, answer = [Fraction(end) for end in ends], Fraction(normalise(found.answer))
    except (ValueError, ZeroDivisionError):
        return False
    made = {sum(numbers), prod(numbers), max(numbers), min(numbers)}
    return answer in made | ({abs(numbers[0] - numbers[1])} if len(numbers) == 2 else set())


def _check_answers(found: Decomposition) -> list[str]:
    problems = []
    for node in found.nodes:
        for piece in node.answer.split(", "):
            if len(normalise(piece)) < SHORTEST:
                problems.append(f"answer {node.answer!r} is too short to be found by no accident")
            if normalise(piece) in normalise(found.question):
                problems.append(f"answer {node.answer!r} occurs in the question")
            if any(normalise(piece) in normalise(other.answer) for other in found.nodes if other.id != node.id):
                problems.append(f"answer {node.answer!r} occurs in another answer")
    if any(len(normalise(piece)) < SHORTEST for piece in found.answer.split(", ")):
        problems.append(f"the final answer {found.answer!r} is too short to be found by no accident")
    if not normalise(found.answer) or verifies(found.question, found.answer):
        problems.append("the final answer is blank, or occurs in the question")
    return problems
