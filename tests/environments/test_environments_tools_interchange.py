"""The published record layout, read and written; what is wrong in it is named; other formats; tasks of the record."""

import json
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tools_written import ENVIRONMENT, call_text

from assay.environments.task import TaskError
from assay.environments.tools.backends import TemplateBackend
from assay.environments.tools.config import FULL
from assay.environments.tools.construct import construct
from assay.environments.tools.episodes import Episode, step
from assay.environments.tools.execution import ToolExecutor
from assay.environments.tools.export import to_openai, to_trl
from assay.environments.tools.interchange import COLUMNS, from_record, read, to_record, write
from assay.environments.tools.published import PublishedToolsEnvironment
from assay.environments.tools.record import ToolError
from assay.environments.tools.tasks import from_task, to_task
from assay.params.tools import Tools

ROW = to_record(ENVIRONMENT)


def drawn(count=8):
    return [construct(TemplateBackend(FULL), FULL, FULL.scenarios[place % 4], place) for place in range(count)]


@pytest.fixture(scope="module")
def played():
    with ToolExecutor(1, 5.0) as executor:
        episode = Episode(ENVIRONMENT)
        for text in ("Let me see.\n" + call_text("creator_and_origin_finder", attribute="creator", work_title="Velka Suite"), "unknown"):
            step([episode], [text], executor)
    return episode


def test_a_record_has_the_published_columns_with_nested_values_as_text():
    assert tuple(ROW) == COLUMNS
    assert json.loads(ROW["unsolved_set"]) == {
        "creator_and_origin_finder": ["Orsel Dunmarr", "Kestwick"],
        "town_resource_lookup": ["brelite"],
    }
    assert set(json.loads(ROW["codes"])) == {tool["function"]["name"] for tool in json.loads(ROW["tools"])}
    assert (ROW["data_source"], ROW["split"], ROW["solve_rate"], ROW["answer"]) == ("self/multi_hop", "train", 0.0, "brelite")
    assert [message["role"] for message in ROW["messages"]] == ["user"]


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_what_is_written_is_read_again(suffix, tmp_path):
    path = tmp_path / f"tools{suffix}"
    environments = [ENVIRONMENT, *drawn(), replace(ENVIRONMENT, answer=None, split="eval")]
    write(path, environments)
    again = read(path)
    assert [one.env_id for one in again[:-1]] == [one.env_id for one in environments[:-1]]
    assert (again[-1].answer, again[-1].split) == (None, "test")
    assert [one.question for one in again] == [one.question for one in environments]
    write(tmp_path / f"twice{suffix}", again)
    assert (tmp_path / f"twice{suffix}").read_bytes() == path.read_bytes()
    if suffix == ".parquet":
        assert {str(field.type) for field in pq.read_schema(path) if field.name != "messages"} == {"string", "double"}


def test_states_of_an_episode_are_records_too(played, tmp_path):
    rows = [to_record(ENVIRONMENT, state.messages, state.unsolved, state.solve_rate) for state in played.states]
    write(tmp_path / "states.parquet", rows)
    first, second = read(tmp_path / "states.parquet")
    assert (first.solve_rate, second.solve_rate) == (0.0, pytest.approx(1 / 3))
    assert second.answers == ("Kestwick", "brelite") and second.messages[2]["tool_call_id"] == "call_1_1"
    done = to_record(ENVIRONMENT, None, {"tide_table": []}, 1.0)
    assert from_record(done).answers == ()


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_arguments_of_all_types_share_one_file_and_keep_their_types(suffix, tmp_path):
    def state(*given):
        turns = [
            {"role": "assistant", "content": "", "tool_calls": [
                {"id": f"call_{n}_1", "type": "function", "function": {"name": "tide_table", "arguments": arguments}}
            ]}
            for n, arguments in enumerate(given, 1)
        ]  # fmt: skip
        return [*ENVIRONMENT.messages, *turns]

    given = [{"port": 3, "day": "x"}, {"port": "Port Amsel"}, {"port": ["a"], "far": {"deep": [None, 1.5, True]}}, {}, {"day": "Köln"}]
    path = tmp_path / f"states{suffix}"
    write(path, [to_record(ENVIRONMENT, state(*given), None, 0.0), to_record(ENVIRONMENT, state(given[1]), None, 0.0), ROW])
    mixed, one, first = read(path)
    assert mixed.messages == tuple(state(*given)) and one.messages == tuple(state(given[1])) and first.messages == ENVIRONMENT.messages
    if suffix == ".parquet":
        assert all("arguments: string" in str(field.type) for field in pq.read_schema(path) if field.name == "messages")
    alone = tmp_path / f"alone{suffix}"
    write(alone, [to_record(ENVIRONMENT, state({"day": "\ud800"}), None, 0.0)])  # half a character, which JSON can spell out
    assert read(alone)[0].messages == tuple(state({"day": "?"}))
    write(alone, [replace(ENVIRONMENT, answer=None)])
    assert read(alone)[0].answer is None
    for bad in ("[1]", "{", 5):
        row = to_record(ENVIRONMENT, state({}), None, 0.0)
        row["messages"][1]["tool_calls"][0]["function"]["arguments"] = bad
        with pytest.raises(ToolError, match=r"line 7, messages, arguments of tide_table: "):
            from_record(row, "file, line 7")
    row["messages"][1]["tool_calls"] = "none"
    with pytest.raises(ToolError, match="line 7, messages: a call is not"):
        from_record(row, "file, line 7")


NESTED = "[" * 100_000


@pytest.mark.parametrize(
    ("column", "value", "word"),
    [
        ("messages", [], "a list of messages"),
        ("messages", "hello", "a list of messages"),
        ("messages", [{"role": "user"}], "a message is not"),
        ("messages", [{"role": "user", "content": 3}], "a message is not"),
        ("tools", "{bad", "no JSON"),
        ("tools", NESTED, "no JSON"),
        ("tools", "[]", "a list of tools"),
        ("tools", [], "expected a JSON string, found list"),
        ("tools", '[{"type": "function"}]', "a tool is not"),
        ("tools", json.dumps([ENVIRONMENT.tools[0]] * 3), "each once"),
        ("codes", "[]", "a JSON object"),
        ("codes", "{}", "do not name the same tools"),
        ("codes", json.dumps(ENVIRONMENT.codes | {"extra": "def extra(): pass"}), "see extra"),
        ("codes", json.dumps(dict.fromkeys(ENVIRONMENT.codes, 5)), "text of one function"),
        ("codes", None, "expected a JSON string, found NoneType"),
        ("unsolved_set", "{}", "nothing to solve"),
        ("unsolved_set", '{"tide_table": []}', "nothing to solve"),
        ("unsolved_set", '{"no_tool": ["a"]}', "no_tool is no tool"),
        ("unsolved_set", '{"tide_table": "a"}', "a list of sub-answers"),
        ("unsolved_set", '{"tide_table": [" "]}', "a list of sub-answers"),
        ("unsolved_set", '{"tide_table": [5]}', "a list of sub-answers"),
        ("unsolved_set", '{"tide_table": ["a", ", ,"]}', "none of them empty or only commas"),
        ("solve_rate", 1.5, "a number from 0 to 1"),
        ("solve_rate", "0", "a number from 0 to 1"),
        ("solve_rate", float("nan"), "a number from 0 to 1"),
        ("solve_rate", True, "a number from 0 to 1"),
        ("data_source", "self/other", "self/single_hop"),
        ("data_source", None, "self/single_hop"),
        ("split", "eval", "train or test"),
        ("split", ["train"], "train or test"),
        ("answer", "", "text or null"),
        ("answer", ", ", "text or null"),
        ("answer", 5, "text or null"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_records_with_wrong_contents_are_refused_by_place_and_column(column, value, word):
    with pytest.raises(ToolError, match=rf"line 7.*{word}|line 7, {column}.*{word}"):
        from_record(ROW | {column: value}, "file, line 7")


@pytest.mark.parametrize("column", COLUMNS)
def test_a_missing_column_is_named(column):
    with pytest.raises(ToolError, match=f"the column {column} is missing"):
        from_record({name: value for name, value in ROW.items() if name != column})


def test_files_that_cannot_be_read_are_named_with_line_and_row(tmp_path):
    lines = tmp_path / "a.jsonl"
    lines.write_text(json.dumps(ROW) + "\n\n{bad\n")
    with pytest.raises(ToolError, match=r"a\.jsonl, line 3: no JSON"):
        read(lines)
    lines.write_text("[1]\n")
    with pytest.raises(ToolError, match="expected a JSON object"):
        read(lines)
    table = tmp_path / "b.parquet"
    pq.write_table(pa.Table.from_pylist([ROW, ROW | {"unsolved_set": "{}"}]), table)
    with pytest.raises(ToolError, match=r"b\.parquet, row 2, unsolved_set"):
        read(table)
    table.write_bytes(b"nothing")
    for path, word in ((table, "no Parquet file"), (tmp_path / "c.csv", "no such file"), (tmp_path / "d.jsonl", "no such file")):
        with pytest.raises(ToolError, match=word):
            read(path)
    with pytest.raises(ToolError, match=r"none/a\.jsonl: could not be written \(No such file or directory\)"):
        write(tmp_path / "none" / "a.jsonl", [ENVIRONMENT])
    (tmp_path / "c.csv").write_text("x")
    for call in (lambda: read(tmp_path / "c.csv"), lambda: write(tmp_path / "c.txt", [ENVIRONMENT])):
        with pytest.raises(ToolError, match=r"\.jsonl or \.parquet"):
            call()


def test_a_file_of_records_is_a_task_family_and_what_has_no_answer_is_left_out_with_a_note(tmp_path):
    write(tmp_path / "tools.jsonl", [*drawn(6), replace(ENVIRONMENT, answer=None)])
    made = PublishedToolsEnvironment("bench", Tools(path="tools.jsonl"), 0, tmp_path, 0.5)
    made.check()
    tasks = [candidate.task for split in ("train", "eval") for candidate in made.candidates(split)]
    assert len(tasks) == 6 and {task.verifier for task in tasks} == {"tool_use"} and all(task.gold for task in tasks)
    assert len(made.notes) == 1 and "1 of 7 records are left out: no answer" in made.notes[0]
    write(tmp_path / "tools.jsonl", [replace(ENVIRONMENT, answer=None)])
    with pytest.raises(TaskError, match=r"environments\.bench: .*tools\.jsonl has no record that can be used"):
        PublishedToolsEnvironment("bench", Tools(path="tools.jsonl"), 0, tmp_path, 0.5).check()


def test_unusual_characters_and_unreadable_files_do_no_harm(tmp_path):
    path = tmp_path / "tools.jsonl"
    write(path, [replace(ENVIRONMENT, answer="brelite\u2028x")])
    assert [one.answer for one in read(path)] == ["brelite\u2028x"]
    path.write_bytes(b"{\xff}")
    with pytest.raises(ToolError, match=r"tools\.jsonl: no UTF-8 text at byte 1"):
        read(path)


def test_code_that_is_no_python_is_a_tool_that_fails_not_a_record_that_is_refused():
    broken = from_record(ROW | {"codes": json.dumps(ENVIRONMENT.codes | {"tide_table": "def tide_table(:"})})
    assert broken.codes["tide_table"] == "def tide_table(:"


def test_openai_gets_arguments_as_text_and_trl_as_objects(played):
    chat, row = to_openai(ENVIRONMENT, played.messages), to_trl(ENVIRONMENT, played.messages)
    wanted = {"attribute": "creator", "work_title": "Velka Suite"}
    call = chat["messages"][1]["tool_calls"][0]
    assert json.loads(call["function"]["arguments"]) == wanted and call["id"] == chat["messages"][2]["tool_call_id"]
    assert row["messages"][1]["tool_calls"] == [
        {"type": "function", "function": {"name": "creator_and_origin_finder", "arguments": wanted}}
    ]
    assert row["messages"][2] == {"role": "tool", "name": "creator_and_origin_finder", "content": '{"value": "Orsel Dunmarr"}'}
    assert chat["tools"] == row["tools"] == list(ENVIRONMENT.tools)
    assert [message["content"] for message in row["messages"]][1::2] == ["Let me see.\n", "unknown"]
    assert to_trl(ENVIRONMENT) == {"prompt": list(ENVIRONMENT.messages), "tools": list(ENVIRONMENT.tools)}
    assert played.messages[1]["tool_calls"][0]["function"]["arguments"] == wanted  # the episode is left as it was


def test_a_task_holds_the_whole_environment():
    for environment in drawn(4):
        task = to_task(environment, "tools", "train")
        again = from_task(type(task).from_row(task.to_row()))
        assert again == environment and again.env_id == environment.env_id == task.meta["env_id"]
        assert (task.gold, task.difficulty, task.verifier) == (environment.answer, len(environment.answers), "tool_use")
    assert from_task(to_task(drawn(1)[0], "tools", "ood")).split == "test"
