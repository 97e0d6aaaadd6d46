"""Playing tool environments: the worked episode, states as training prompts, stop reasons, demonstrations."""

from dataclasses import replace
from random import Random

import pytest
from tools_written import CALLS, ENVIRONMENT, call_text

from assay.environments.tools.backends import TemplateBackend
from assay.environments.tools.build import build
from assay.environments.tools.config import TINY
from assay.environments.tools.demonstrations import golden_turns, noisy_turns
from assay.environments.tools.episodes import Episode, step
from assay.environments.tools.execution import ToolExecutor
from assay.environments.tools.record import ToolError
from assay.rewards.tool_use import State, turn_reward

FIRST = call_text("creator_and_origin_finder", attribute="creator", work_title="Velka Suite")
SECOND = call_text("creator_and_origin_finder", attribute="home_town", person="Orsel Dunmarr") + call_text("tide_table", port="Port Amsel")
THIRD = call_text("town_resource_lookup", town="Kestwick")


@pytest.fixture(scope="module")
def executor():
    with ToolExecutor(2, 5.0) as made:
        yield made


def play(executor, texts, environment=ENVIRONMENT, **options):
    episode = Episode(environment)
    for text in texts:
        step([episode], [text], executor, **options)
    return episode


def test_the_worked_episode_scores_as_printed(executor):
    episode = play(executor, [FIRST, SECOND, THIRD, "brelite"])
    rows = [(turn.reward.t, turn.reward.p, turn.reward.q, turn.reward.branch) for turn in episode.turns]
    assert rows == [(3, 1, 1, "f1"), (2, 2, 1, "f1"), (1, 1, 1, "f1"), (0, 0, 0, "answer")]
    assert [turn.reward.reward for turn in episode.turns] == pytest.approx([1.0, 2 / 3, 1.0, 1.0])
    assert [turn.solved for turn in episode.turns] == [("Orsel Dunmarr",), ("Kestwick", None), ("brelite",), ()]
    metrics = episode.metrics
    assert (metrics.precision, metrics.recall, metrics.f1) == pytest.approx((0.75, 1.0, 6 / 7))
    assert (episode.stop, episode.is_answered) == ("answered", True)
    assert [state.solve_rate for state in episode.states] == pytest.approx([0, 1 / 3, 2 / 3, 1])


def test_other_ends_of_the_worked_episode_score_as_printed(executor):
    wrong = play(executor, [FIRST, SECOND, THIRD, "unknown"])
    assert (wrong.turns[-1].reward.reward, wrong.turns[-1].reward.branch, wrong.is_answered) == (0.5, "done_noanswer", False)
    at_once = play(executor, ["brelite"])
    assert (at_once.turns[0].reward.reward, at_once.turns[0].reward.t, at_once.metrics.precision) == (0.25, 3, 1.0)
    guess = play(executor, [call_text("creator_and_origin_finder", attribute="Kestwick")])
    assert (guess.turns[0].reward.reward, guess.turns[0].echoes) == (0.0, (False,))


def test_states_are_kept_after_turns_with_calls_alone_and_grow(executor):
    episode = play(executor, [FIRST + SECOND, THIRD, "brelite"])
    assert [state.solve_rate for state in episode.states] == pytest.approx([0, 2 / 3, 1])
    lengths = [len(state.messages) for state in episode.states]
    assert lengths == [1, 5, 7]  # a turn's message and one for each call
    assert all(
        later.messages[: len(state.messages)] == state.messages for state, later in zip(episode.states, episode.states[1:], strict=False)
    )
    assert [sum(map(len, state.unsolved.values())) for state in episode.states] == [3, 1, 0]
    resumed = turn_reward("brelite", [], State(episode.states[2].unsolved, "brelite", episode.states[2].solve_rate))
    assert resumed.reward == 1.0


def test_messages_pair_calls_with_their_feedback(executor):
    episode = play(executor, [SECOND])
    assistant, *tools = episode.messages[1:]
    assert [call["id"] for call in assistant["tool_calls"]] == [message["tool_call_id"] for message in tools] == ["call_1_1", "call_1_2"]
    assert tools[0]["content"] == '{"value": "Kestwick"}' and "06:10" in tools[1]["content"]


def test_malformed_turns_end_the_episode_and_failures_are_feedback(executor):
    episode = play(executor, [call_text("no_such_tool", a=1) + call_text("tide_table", harbour="x"), "<tool_call>{bad"])
    assert [feedback.status for feedback in episode.turns[0].feedback] == ["unknown_tool", "bad_args"]
    assert episode.messages[2]["content"] == "Error: there is no tool named no_such_tool."
    assert (episode.turns[0].reward.reward, episode.turns[1].reward.reward, episode.stop) == (0.0, -0.3, "answered")


def test_an_episode_stops_at_its_last_turn_and_takes_no_more(executor):
    episode = play(executor, [FIRST, SECOND], max_turns=2)
    assert (episode.stop, episode.messages[-1]["role"], episode.metrics.recall) == ("max_turns", "tool", pytest.approx(2 / 3))
    with pytest.raises(ToolError, match="stopped"):
        step([episode], ["brelite"], executor)


def test_no_reward_is_computed_on_the_test_split(executor):
    episode = play(executor, [FIRST, "x"], replace(ENVIRONMENT, split="test"))
    assert [turn.reward for turn in episode.turns] == [None, None] and episode.metrics.recall == pytest.approx(1 / 3)


def test_the_echo_guard_reaches_the_episode(executor):
    echoing = "def tide_table(port=None, day=None):\n    return f'no port {port}'\n"
    environment = replace(ENVIRONMENT, codes=ENVIRONMENT.codes | {"tide_table": echoing}, unsolved={"tide_table": ("brelite",)})
    guess = call_text("tide_table", port="brelite")
    faithful, guarded = play(executor, [guess], environment), play(executor, [guess], environment, echo_guard=True)
    assert (faithful.metrics.recall, guarded.metrics.recall) == (1.0, 0.0)
    assert faithful.turns[0].echoes == guarded.turns[0].echoes == (True,)


def test_an_environment_with_nothing_to_solve_cannot_be_played():
    with pytest.raises(ToolError, match="without unsolved"):
        Episode(replace(ENVIRONMENT, unsolved={"tide_table": ()}))


def test_golden_demonstrations_solve_everything_and_noisy_ones_with_more_calls(executor):
    environments = build(TINY, TemplateBackend(TINY), executor, range(40), 5).environments
    golden = [play(executor, golden_turns(one), one) for one in environments]
    assert all(episode.metrics.f1 == 1.0 and episode.is_answered for episode in golden)
    depth = {"single_hop": 1, "parallel_single_hop": 1}
    assert all(len(golden_turns(one)) == depth[one.scenario] + 1 for one in environments if one.scenario in depth)
    noisy = [play(executor, noisy_turns(one, Random(place), 0.5), one) for place, one in enumerate(environments)]
    assert all(episode.metrics.recall == 1.0 and episode.is_answered for episode in noisy)
    precision = sum(episode.metrics.precision for episode in noisy) / len(noisy)
    assert 0.45 < precision < 0.8
    assert noisy_turns(environments[0], Random(0), 0.0) == golden_turns(environments[0])


def test_records_without_intended_calls_have_no_demonstration():
    with pytest.raises(ToolError, match="published"):
        golden_turns(replace(ENVIRONMENT, calls=()))
    assert len(golden_turns(ENVIRONMENT)) == len(CALLS) + 1
