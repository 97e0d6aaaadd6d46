"""Template tool environments: what the five stages promise, the gate, and what depends on the seed."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from assay.environments.tools.backends import TemplateBackend
from assay.environments.tools.build import build
from assay.environments.tools.config import FULL, TINY, Spread, config_of
from assay.environments.tools.construct import check, construct
from assay.environments.tools.decompose import check as check_decomposition
from assay.environments.tools.decompose import combined
from assay.environments.tools.deploy import check_source
from assay.environments.tools.documents import check_schema
from assay.environments.tools.execution import ToolExecutor
from assay.environments.tools.gate import run_gate, trial
from assay.environments.tools.record import SCENARIOS, Decomposition, SubQuestion, ToolError
from assay.environments.tools.statistics import COLUMNS, PUBLISHED, measure, table
from assay.environments.tools.tasks import to_task
from assay.environments.tools.world import RELATIONS, SUFFIXES
from assay.params.tools import Tools
from assay.rewards.tool_use import normalise, verifies

ROOT = Path(__file__).parents[2]
BUILD = """
from assay.environments.tools.backends import TemplateBackend
from assay.environments.tools.config import FULL
from assay.environments.tools.construct import construct
for place in range(12):
    print(construct(TemplateBackend(FULL), FULL, FULL.scenarios[place % 4], place).env_id)
"""


@pytest.fixture(scope="module")
def executor():
    with ToolExecutor(2, 5.0, apart=False) as made:  # our own templates, as in generate
        yield made


@pytest.fixture(scope="module")
def built(executor):
    return build(FULL, TemplateBackend(FULL), executor, range(24), 3)


@pytest.fixture(scope="module")
def drawn():
    """Many, without the gate."""
    return [construct(TemplateBackend(FULL), FULL, FULL.scenarios[place % 4], 1000 + place) for place in range(240)]


def test_every_place_is_filled_and_passes_the_gate(built, executor):
    assert len(built.environments) == 24 and built.empty == []
    assert run_gate(built.environments, executor) == [[]] * 24
    for environment in built.environments:
        assert sorted(call.node for call in environment.calls) == sorted(node.id for node in environment.nodes)
        assert len(trial(environment).fuzz) > 5 * len(environment.tools)


def test_no_answer_is_given_away_and_all_names_agree(drawn):
    for environment in drawn[:120]:
        assert check(environment) == [] and set(environment.codes) == set(environment.names)
        shown = normalise(environment.question + str(environment.tools))
        answers = environment.answers
        assert all(normalise(answer) not in shown and len(answer) >= 4 for answer in answers)
        assert not any(one is not other and verifies(other, one) for one in answers for other in answers)
        assert sorted(answers) == sorted(node.answer for node in environment.nodes)
        seen = set()
        for node in environment.nodes:  # so it has no cycle
            assert set(node.depends_on) <= seen
            seen.add(node.id)
        for name, source in environment.codes.items():
            properties = next(
                tool["function"]["parameters"]["properties"] for tool in environment.tools if tool["function"]["name"] == name
            )
            assert check_source(source, name, tuple(properties)) == []


def test_scenarios_have_the_shapes_that_they_are_named_for(drawn):
    for environment in drawn:
        roots = sum(not node.depends_on for node in environment.nodes)
        count = len(environment.nodes)
        if environment.scenario == "single_hop":
            assert (count, roots) == (1, 1)
        elif environment.scenario == "multi_hop":
            assert roots == 1 and count >= 2 and environment.answer == environment.nodes[-1].answer
            assert all(node.subject == before.answer for before, node in zip(environment.nodes, environment.nodes[1:], strict=False))
        else:
            assert roots >= 2 and (roots == count) == (environment.scenario == "parallel_single_hop")
    by_tool = [one for one in drawn if any(node.domain == "figures" for node in one.nodes)]
    assert 8 < len(by_tool) < 40 and all(one.answer == one.nodes[-1].answer for one in by_tool)


def test_final_answers_follow_from_sub_answers():
    assert combined("order", ["Beta Two", "Alpha One"]) == "Alpha One, Beta Two"
    assert [combined(how, ["20000", "31000"]) for how in ("sum", "difference", "largest")] == ["51000", "11000", "31000"]


def test_statistics_are_those_of_the_published_set(drawn):
    found = measure(drawn)
    for scenario, row in found.by_scenario.items():
        for column in COLUMNS:
            mean, least, most = row[column]
            target = PUBLISHED[scenario][column]
            assert mean == pytest.approx(target[0], abs=0.8), (scenario, column)
            assert least <= mean <= most
        for column in ("sub_answers", "distractors"):
            assert row[column][1] >= PUBLISHED[scenario][column][1] and row[column][2] <= PUBLISHED[scenario][column][2]
    assert found.parameters == pytest.approx(7.1, abs=0.2) and 1.3 <= found.required <= 2.5
    assert set(found.types) == {"string", "boolean", "object", "number", "array", "integer"} and 0.6 < found.types["string"] < 0.75
    assert 0.2 < found.with_enum < 0.4 and 0.2 < found.with_default < 0.4
    assert "parallel_multi_hop" in table(found)
    with pytest.raises(ValueError, match="no environments"):
        measure([])


def test_the_preset_for_real_models_is_the_published_size_and_passes_the_gate():
    preset = yaml.safe_load((ROOT / "conf/environment/tools_full.yaml").read_text())
    section = Tools.model_validate(preset["environments"]["tools"])
    config = config_of(section)
    assert (config.shapes, config.parameters, config.scenarios) == (FULL.shapes, FULL.parameters, SCENARIOS)
    with ToolExecutor(2, 5.0, apart=False) as executor:
        some = build(config, TemplateBackend(config), executor, range(4), 0).environments
    assert [one.scenario for one in some] == list(SCENARIOS)
    prompts = [str(to_task(one, "tools", "train", section.shown).prompt) for one in some]
    assert max(map(len, prompts)) < 2 * preset["policy"]["max_prompt_tokens"]  # JSON has three characters a token, or more


def test_all_four_strategies_leave_their_mark(drawn):
    assert any(one.difficulty.merges for one in drawn if one.scenario == "parallel_single_hop")
    assert any(one.difficulty.merges for one in drawn if one.scenario == "parallel_multi_hop")
    assert 0.5 < sum(one.difficulty.type_changes > 0 for one in drawn) / len(drawn) < 0.95
    assert all(one.difficulty.distractors == len(one.distractors) for one in drawn)
    wide = [tool for one in drawn for tool in one.tools if "attribute" in tool["function"]["parameters"]["properties"]]
    tools = sum(len(one.tools) for one in drawn)
    assert 0.05 < len(wide) / tools < 0.3
    several = [answers for one in drawn for answers in one.unsolved.values() if len(answers) > 1]
    assert len(several) > 25
    assert any(", " in answer for one in drawn for answer in one.answers)


def test_equal_seeds_give_equal_hashes_in_other_processes_and_batches(executor, built, monkeypatch):
    other_process = os.environ | {"PYTHONHASHSEED": "7"}
    said = subprocess.run([sys.executable, "-c", BUILD], env=other_process, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert said.split() == [construct(TemplateBackend(FULL), FULL, FULL.scenarios[place % 4], place).env_id for place in range(12)]
    monkeypatch.setattr("assay.environments.tools.build.BATCH", 3)
    parts = [build(FULL, TemplateBackend(FULL), executor, places, 3) for places in (range(4), range(4, 7))]
    assert [one.env_id for part in parts for one in part.environments] == [one.env_id for one in built.environments[:7]]
    other = build(FULL, TemplateBackend(FULL), executor, range(2), 4)
    assert {one.env_id for one in other.environments}.isdisjoint(one.env_id for one in built.environments)
    assert other.digest != build(FULL, TemplateBackend(FULL), executor, range(3), 4).digest


def test_tiny_environments_are_small_and_the_ood_split_shares_no_relation_and_no_tool_name(executor):
    tiny = build(TINY, TemplateBackend(TINY), executor, range(40), 1).environments
    assert max(len(one.tools) for one in tiny) <= 5 and max(len(one.answers) for one in tiny) <= 4
    assert max(len(str(one.tools)) for one in tiny) < 2500
    config = TINY.ood(2)
    ood = build(config, TemplateBackend(config), executor, range(40), 1).environments
    assert {name for one in tiny for name in one.names}.isdisjoint(name for one in ood for name in one.names)
    assert {(node.domain, node.relation) for one in tiny for node in one.nodes}.isdisjoint(
        (n.domain, n.relation) for one in ood for n in one.nodes
    )
    spread = [sum(len(one.distractors) for one in some) / len(some) for some in (tiny, ood)]
    assert spread[1] - spread[0] == pytest.approx(2, abs=0.5)
    pairs = [{(domain, relation) for domain, of in world.items() for relation in of} for world in RELATIONS.values()]
    assert not pairs[0] & pairs[1] and not set(SUFFIXES["train"]) & set(SUFFIXES["ood"])


def leaky(environment, source):
    """The environment with another source for its first answer-bearing tool."""
    name = environment.calls[0].tool
    return replace(environment, codes=environment.codes | {name: source.format(name=name, answer=environment.nodes[0].answer)})


def test_the_gate_finds_what_leaks_and_what_does_not_answer(built, executor):
    sound = next(one for one in built.environments if one.scenario == "single_hop")
    distractor = sound.distractors[0]
    cases = {
        "the intended call for s1": leaky(sound, "def {name}(**given):\n    return 'no record'\n"),
        "gives": leaky(sound, "def {name}(**given):\n    return '{answer}'\n"),
        "ends with crash": leaky(sound, "def {name}(**given):\n    import os\n    if len(given) < 1: os._exit(1)\n    return '{answer}'\n"),
        distractor: replace(sound, codes=sound.codes | {distractor: f"def {distractor}(**given):\n    return str(given)\n"}),
    }
    found = dict(zip(cases, run_gate(list(cases.values()), executor), strict=True))
    assert all(any(word in problem for problem in problems) for word, problems in found.items())
    assert all(problem.startswith(distractor) for problem in found[distractor])  # an echo, found by the answer that was put in
    missing = replace(sound, unsolved={**sound.unsolved, distractor: ("Never Found",)})
    assert "the intended calls leave sub-answers unsolved" in run_gate([missing], executor)[0]


class Rigged(TemplateBackend):
    """Fails its first draws, each in another way."""

    def __init__(self, config):
        super().__init__(config)
        self.draws = 0

    def deploy(self, decomposition, document):
        found = super().deploy(decomposition, document)
        if self.draws == 2 and document.nodes:
            return replace(found, source=f"def {document.name}(**given):\n    return str(given)\n")
        return found

    def decompose(self, scenario, seed):
        self.draws += 1
        if self.draws == 1:
            raise ToolError("nothing was drawn")
        return super().decompose(scenario, seed)


def test_refused_draws_are_counted_with_a_reason_and_drawn_again(executor):
    config = replace(TINY, scenarios=("multi_hop",))
    found = build(config, Rigged(config), executor, [0], 1)
    assert len(found.environments) == 1 and found.refused == {"unsound": 1, "gate": 1}
    assert found.examples["unsound"] == "nothing was drawn" and "intended call" in found.examples["gate"]
    short = build(config, Rigged(config), executor, [0], 1, attempts=2)
    assert (short.environments, short.empty, short.refused.total()) == ([], [0], 2)


def test_spreads_have_their_mean_and_keep_their_bounds():
    from random import Random

    random = Random(0)
    draws = [Spread(2, 5.72, 10).draw(random) for _ in range(4000)]
    assert sum(draws) / 4000 == pytest.approx(5.72, abs=0.1) and min(draws) >= 2 and max(draws) <= 10
    assert Spread(3, 3, 3).draw(random) == 3
    with pytest.raises(ValueError, match="low <= mean"):
        Spread(2, 1, 3)


PAIR = (("s1", "Alpha One", ()), ("s2", "Beta Two", ()))
NUMBERS = (("s1", "1000", ()), ("s2", "4000", ()))


@pytest.mark.parametrize(
    ("nodes", "answers"),
    [
        (PAIR, ["Beta Two", "alpha one, beta two", "Beta Two and Alpha One", "Alpha One, and Beta Two"]),
        (NUMBERS, ["5,000", "3000", "4000000", "4000", "1000"]),
        ((("s1", "Salt and Iron Inn", ()), ("s2", "Beta Two", ())), ["Salt and Iron Inn", "Beta Two, Salt and Iron Inn"]),
        ((("s1", "Tarn Oak, Velm Ash", ()), ("s2", "Beta Two", ())), ["Tarn Oak, Velm Ash", "Tarn Oak, Velm Ash, Beta Two", "Velm Ash"]),
    ],
)
def test_final_answers_follow_from_parallel_ones(nodes, answers):
    made = tuple(SubQuestion(key, "Who?", answer, on) for key, answer, on in nodes)
    for answer in answers:
        assert check_decomposition(Decomposition("parallel_single_hop", "Where is it?", answer, made)) == []


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"nodes": ()}, "0 sub-questions"),
        ({"nodes": (("s1", "abcd", ()), ("s1", "efgh", ("s1",)))}, "not distinct"),
        ({"nodes": (("s1", "abcd", ("s2",)), ("s2", "efgh", ()))}, "does not come before"),
        ({"nodes": (("s1", "abcd", ()), ("s2", "efgh", ()))}, "no chain"),
        ({"nodes": (("s1", "12", ()), ("s2", "efgh", ("s1",)))}, "too short"),
        ({"nodes": (("s1", "abcd", ()), ("s2", "xabcdx", ("s1",)))}, "in another answer"),
        ({"nodes": (("s1", "Where", ()), ("s2", "efgh", ("s1",)))}, "in the question"),
        ({"answer": "ijkl"}, "not the last sub-answer"),
        ({"answer": " , "}, "blank"),
        ({"scenario": "single_hop"}, "expected exactly 1"),
        ({"scenario": "parallel_single_hop"}, "depend on each other"),
        ({"scenario": "parallel_multi_hop"}, "expected at least 4"),
        ({"scenario": "parallel_single_hop", "nodes": PAIR, "answer": "Zzzz 9999"}, "does not follow"),
        ({"scenario": "parallel_single_hop", "nodes": PAIR, "answer": "Beta Two, Gamma"}, "does not follow"),
        ({"scenario": "parallel_single_hop", "nodes": NUMBERS, "answer": "5001"}, "does not follow"),
    ],
)
def test_unsound_graphs_are_refused(changes, word):
    nodes = changes.get("nodes", (("s1", "abcd", ()), ("s2", "efgh", ("s1",))))
    made = tuple(SubQuestion(key, "Who?", answer, on) for key, answer, on in nodes)
    found = Decomposition(changes.get("scenario", "multi_hop"), "Where is it?", changes.get("answer", "efgh"), made)
    assert any(word in problem for problem in check_decomposition(found))


@pytest.mark.parametrize(
    ("source", "word"),
    [
        ("def tool(a=1:\n", "no Python"),
        ("import math\ndef tool(a=1):\n    return 1\n", "nothing beside it"),
        ("def other(a=1):\n    return 1\n", "named tool"),
        ("def tool(a):\n    return 1\n", "a default"),
        ("def tool(a=1, **more):\n    return 1\n", "a default"),
        ("def tool():\n    return 1\n", "does not take a"),
        ("def tool(a=1):\n    import os\n    return 1\n", "os may not be imported"),
        ("def tool(a=1):\n    from subprocess import run\n    return 1\n", "subprocess may not be imported"),
        ("def tool(a=1):\n    return open('x')\n", "open may not be used"),
        ("def tool(a=1):\n    return ().__class__\n", "__class__ may not be used"),
        ("x" * 10 + "(" * 5000, "no Python"),
    ],
)
def test_sources_beyond_one_plain_function_are_refused(source, word):
    assert any(word in problem for problem in check_source(source, "tool", ("a",)))


def test_schemas_that_are_none_are_refused():
    def tool(name="t", **schema):
        return {"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": {}} | schema}}

    assert check_schema(tool()) == []
    bad = [
        tool("a b"), tool(type="array"), tool(properties=[]), tool(required=["x"]), tool(properties={"x": {"type": "text"}}),
        tool(properties={"x": {"type": "string", "enum": []}}), {"function": {"name": "t"}}, None,
    ]  # fmt: skip
    assert all(check_schema(one) for one in bad)
