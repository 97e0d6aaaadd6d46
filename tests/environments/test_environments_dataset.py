"""A user's own questions and golds: every format, and every mistake told with file, column and row."""

import json
import re

import pytest

from assay.environments import TaskError
from assay.environments.dataset import DatasetEnvironment
from assay.params.data import UserDataset

ROWS = [{"question": f"What is {i} + {i}?", "answer": str(2 * i), "source": "book", "hard": i / 10} for i in range(60)]
MAPPING = {"prompt": "question", "gold": "answer", "difficulty": "hard"}


def environment(tmp_path, path, seed=0, share=0.2, columns=MAPPING, **params):
    return DatasetEnvironment("mine", UserDataset(path=str(path), columns=columns, **params), seed, tmp_path, share)


def tasks(env, split):
    return [candidate.task for candidate in env.candidates(split) if candidate.drop is None]


def write_lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path.name


def write(tmp_path, kind, rows):
    """The rows in one of the formats; what `path` is then, and the split to read."""
    import datasets

    if kind == "jsonl":
        return write_lines(tmp_path / "data.jsonl", rows), {}
    if kind == "parquet":
        datasets.Dataset.from_list(rows).to_parquet(tmp_path / "data.parquet")
        return "data.parquet", {}
    if kind == "csv":
        datasets.Dataset.from_list(rows).to_csv(tmp_path / "data.csv", index=False)
        return "data.csv", {}
    if kind == "saved":
        datasets.Dataset.from_list(rows).save_to_disk(tmp_path / "saved")
        return "saved", {}
    if kind == "saved_splits":
        splits = {"practice": datasets.Dataset.from_list(rows), "other": datasets.Dataset.from_list(rows[:3])}
        datasets.DatasetDict(splits).save_to_disk(tmp_path / "splits")
        return "splits", {"split": "practice"}
    (tmp_path / "folder").mkdir()
    write_lines(tmp_path / "folder" / "train.jsonl", rows)
    return "folder", {}


@pytest.mark.parametrize("kind", ["jsonl", "parquet", "csv", "saved", "saved_splits", "folder"])
def test_every_format_gives_the_same_tasks(tmp_path, kind):
    path, more = write(tmp_path, kind, ROWS)
    env = environment(tmp_path, path, **more)
    env.check()
    found = tasks(env, "train") + tasks(env, "eval")
    assert len(found) == len({task.task_id for task in found}) == len(ROWS)
    expected = {row["question"]: row for row in ROWS}
    for task in found:
        row = expected[task.prompt[0]["content"]]
        assert (task.gold, task.difficulty) == (row["answer"], row["hard"])
        assert task.verifier == "math_verify"
        assert task.meta == {"columns": {"source": "book"}}
    assert 4 <= len(tasks(env, "eval")) <= 20
    assert tasks(env, "demonstration") == tasks(env, "train")


@pytest.mark.parametrize("suffix", ["jsonl", "json"])
def test_golds_of_json_are_those_that_stand_there(tmp_path, suffix):
    """Arrow alone makes doubles of a column with one number beyond 64 bits or a fraction, and times of what looks like times."""
    beyond = [[2**53 + 1, 2**64 + 1, 4]] if suffix == "jsonl" else []  # in an array pandas refuses it
    for golds in (*beyond, [2**53 + 1, 0.5, 4], ["2024-01-01", "2024-01-02", "2024-01-03"]):
        rows = [{"question": f"{number}?", "answer": gold} for number, gold in enumerate(golds)]
        text = "".join(json.dumps(row) + "\n" for row in rows) if suffix == "jsonl" else json.dumps(rows)
        (tmp_path / f"data.{suffix}").write_text(text)
        env = environment(tmp_path, f"data.{suffix}", columns={"prompt": "question", "gold": "answer"}, verifier="string_match")
        found = tasks(env, "train") + tasks(env, "eval")
        assert {task.gold for task in found} == {str(gold) for gold in golds}


def test_a_folder_of_csv_files_is_text_as_one_file_is(tmp_path):
    (tmp_path / "csvs").mkdir()
    (tmp_path / "csvs/train.csv").write_text("question,answer\n" + "".join(f"{n}?,00{n}\n" for n in range(5)))
    columns = {"prompt": "question", "gold": "answer"}
    env = environment(tmp_path, "csvs", columns=columns, verifier="string_match")
    assert {task.gold for task in tasks(env, "train") + tasks(env, "eval")} == {f"00{n}" for n in range(5)}
    (tmp_path / "csvs/more.csv").write_text("question,reply\n1?,1\n")
    with pytest.raises(TaskError, match=r"csvs: train\.csv has other columns than more\.csv"):
        environment(tmp_path, "csvs", columns=columns).check()


def test_brackets_in_a_folder_s_name_and_long_fields_are_no_mistake(tmp_path):
    folder = tmp_path / "q[1]"
    folder.mkdir()
    write_lines(folder / "data.jsonl", ROWS)
    assert len(tasks(environment(folder, "data.jsonl"), "train")) > 40
    (folder / "long.csv").write_text("question,answer\n" + "a" * 200_000 + ",1\n")
    env = environment(folder, "long.csv", columns={"prompt": "question", "gold": "answer"})
    assert len((tasks(env, "train") + tasks(env, "eval"))[0].prompt[0]["content"]) == 200_000


def test_division_is_by_content_seeded_and_stable_when_rows_are_added(tmp_path):
    def held_out(rows, seed=0):
        path = write_lines(tmp_path / f"{len(rows)}-{seed}.jsonl", rows)
        return {task.gold for task in tasks(environment(tmp_path, path, seed=seed), "eval")}

    assert held_out(ROWS) & {row["answer"] for row in ROWS[:40]} == held_out(ROWS[:40])
    assert held_out(ROWS) == held_out(ROWS[::-1])
    assert held_out(ROWS) != held_out(ROWS, seed=1)


def test_of_few_rows_one_is_held_out(tmp_path):
    path = write_lines(tmp_path / "few.jsonl", ROWS[:5])
    assert len(tasks(environment(tmp_path, path, share=1e-6), "eval")) == 1


def test_spellings_of_one_prompt_are_on_the_same_side(tmp_path):
    rows = [
        row | {"question": question} for row in ROWS for question in (row["question"], row["question"].upper() + " ")
    ]
    env = environment(tmp_path, write_lines(tmp_path / "twice.jsonl", rows))
    keys = [{task.contamination_key for task in tasks(env, split)} for split in ("train", "eval")]
    assert len(keys[0]) + len(keys[1]) == len(ROWS)
    assert not keys[0] & keys[1]


def test_eval_split_and_split_column(tmp_path):
    import datasets

    named = {"train": datasets.Dataset.from_list(ROWS[:50]), "test": datasets.Dataset.from_list(ROWS[50:])}
    datasets.DatasetDict(named).save_to_disk(tmp_path / "named")
    env = environment(tmp_path, "named", eval_split="test")
    assert {task.gold for task in tasks(env, "eval")} == {row["answer"] for row in ROWS[50:]}
    assert len(tasks(env, "train")) == 50

    kinds = ["train", "Validation", "test", "ood"]
    path = write_lines(tmp_path / "column.jsonl", [row | {"part": kinds[i % 4]} for i, row in enumerate(ROWS)])
    env = environment(tmp_path, path, columns=MAPPING | {"split": "part"})
    assert [len(tasks(env, split)) for split in ("train", "eval", "ood")] == [15, 30, 15]
    assert env.has("ood")
    assert not environment(tmp_path, path).has("ood")


def test_messages_as_prompts(tmp_path):
    system = {"role": "system", "content": "Be brief."}
    rows = [{"prompt": [system, {"role": "user", "content": r["question"]}], "gold": r["answer"]} for r in ROWS]
    import datasets

    datasets.Dataset.from_list(rows).to_parquet(tmp_path / "chat.parquet")
    for path in (write_lines(tmp_path / "chat.jsonl", rows), "chat.parquet"):
        task = tasks(environment(tmp_path, path, columns={}), "train")[0]
        assert task.prompt[0] == system
        assert task.prompt[1]["role"] == "user"


def test_golds_keep_their_spelling(tmp_path):
    (tmp_path / "a.csv").write_text('prompt,gold\n"a, b",007\nc,0.50\nd,NA\ne,1/2\nf,"1,5"\n')
    found = {
        t.prompt[0]["content"]: t.gold
        for s in ("train", "eval")
        for t in tasks(environment(tmp_path, "a.csv", columns={}), s)
    }
    assert found == {"a, b": "007", "c": "0.50", "d": "NA", "e": "1/2", "f": "1,5"}
    path = write_lines(
        tmp_path / "b.jsonl", [{"prompt": p, "gold": g} for p, g in [("a", 5), ("b", 0.5), ("c", 6.0), ("d", " 1/2 ")]]
    )
    found = {
        t.prompt[0]["content"]: t.gold
        for s in ("train", "eval")
        for t in tasks(environment(tmp_path, path, columns={}), s)
    }
    assert found == {"a": "5", "b": "0.5", "c": "6", "d": "1/2"}


def test_prompts_with_different_golds_are_dropped_altogether(tmp_path):
    rows = [*ROWS, ROWS[7] | {"answer": "15"}]
    env = environment(tmp_path, write_lines(tmp_path / "conflict.jsonl", rows))
    dropped = [c for split in ("train", "eval") for c in env.candidates(split) if c.drop is not None]
    assert {(c.task.gold, c.drop) for c in dropped} == {("14", "conflicting_gold"), ("15", "conflicting_gold")}


def test_columns_that_json_cannot_hold_are_left_out_and_named(tmp_path):
    import datasets

    datasets.Dataset.from_list([row | {"raw": b"\xff", "kept": [1, 2]} for row in ROWS]).to_parquet(
        tmp_path / "raw.parquet"
    )
    env = environment(tmp_path, "raw.parquet")
    assert tasks(env, "train")[0].meta == {"columns": {"source": "book", "kept": [1, 2]}}
    assert env.notes == ["raw.parquet: column 'raw' is not passed on in 60 rows: JSON cannot hold it"]


def test_only_the_columns_that_are_asked_for_are_kept(tmp_path, monkeypatch):
    import datasets

    read, to_list = [], datasets.Dataset.to_list
    monkeypatch.setattr(datasets.Dataset, "to_list", lambda self: read.append(self.column_names) or to_list(self))
    path = write_lines(tmp_path / "wide.jsonl", [row | {"long": "x" * 100, "tests": [1, 2]} for row in ROWS])
    for keep, meta in (
        (("tests",), {"columns": {"tests": [1, 2]}}), ((), {}), (None, {"columns": {"source": "book", "long": "x" * 100, "tests": [1, 2]}}),
    ):  # fmt: skip
        assert tasks(environment(tmp_path, path, keep=keep), "train")[0].meta == meta
        assert set(read[-1]) == {"question", "answer", "hard", *(meta.get("columns", ()))}
    asked = tasks(environment(tmp_path, path, keep=("question",)), "train")[0]
    assert asked.meta == {"columns": {"question": asked.prompt[0]["content"]}}
    with pytest.raises(TaskError, match=r"wide\.jsonl: `keep` names test, but its columns are question, answer, source, hard, long, tests"):
        environment(tmp_path, path, keep=("tests", "test")).check()
    with pytest.raises(TaskError, match=r"no column 'prompt' .*its columns are question, answer, source, hard, long, tests"):
        environment(tmp_path, path, columns={}, keep=("tests",)).check()


def line(**changes):
    return json.dumps(ROWS[0] | changes) + "\n"


GOOD = line()
NULLS = GOOD * 3 + line(answer=None) + line(answer=" ")
HEADER = "question,answer,hard\n"
PARTS = line(part="train") + line(part="held")
BY_PART = {"columns": MAPPING | {"split": "part"}}


@pytest.mark.parametrize(
    ("name", "content", "params", "message"),
    [
        ("a.jsonl", None, {}, r"a.jsonl: no such file or folder \(looked at .*a.jsonl\)"),
        ("sub/folder/deep", None, {}, "sub/folder/deep: no such file or folder"),
        ("a.txt", "hello", {}, "a.txt: files of type .txt are not read; expected one of .jsonl"),
        ("a.jsonl", "", {}, "a.jsonl: the file is empty"),
        ("a.csv", HEADER, {}, "a.csv: no rows"),
        ("a.jsonl", GOOD, {"columns": {}}, "a.jsonl: no column 'prompt' of text.*; its columns are question, answer"),
        ("a.jsonl", GOOD, {"columns": MAPPING | {"gold": "x"}}, "no column 'x'.*set environments.mine.columns.gold"),
        ("a.jsonl", NULLS, {}, r"\(column 'answer'\) is null or empty in 2 of 5 rows, first in row 4, 5"),
        ("a.csv", HEADER + "a,1,0\nb,,0\n", {}, r"a.csv: the gold .* is null or empty in 1 of 2 rows, first in row 2"),
        ("a.jsonl", GOOD + line(answer=["a"]), {}, "neither text nor a finite number in 1 of 2 rows, first in row 2"),
        ("a.jsonl", GOOD + line(answer=True), {}, "neither text nor a finite number in 1 of 2 rows, first in row 2"),
        ("a.jsonl", GOOD + line(question=""), {}, "a.jsonl, row 2, column 'question': the prompt is empty"),
        ("a.jsonl", GOOD + line(question=None), {}, "a.jsonl, row 2, column 'question': the prompt is missing"),
        ("a.jsonl", GOOD + line(hard="x"), {}, "a.jsonl, row 2, column 'hard': difficulty 'x' is not a finite number"),
        ("a.jsonl", GOOD + "{oops\n", {}, "a.jsonl, line 2: not valid JSON"),
        ("a.jsonl", GOOD + "\n" + GOOD + "[1]\n", {}, "a.jsonl, line 2: the line is empty"),
        ("a.jsonl", GOOD + "[1]\n", {}, "a.jsonl, line 2: expected a JSON object, found list"),
        ("a.csv", HEADER + "a,1,2\nb,1,2,3\n", {}, "a.csv, line 3: 4 fields, but the header names 3 columns"),
        ("a.csv", HEADER + '"a\nb",1,2\nb,1\n', {}, "a.csv, line 4: 2 fields, but the header names 3 columns"),
        ("a.csv", HEADER + '"a,1,2\n', {}, "a.csv: not a CSV file in UTF-8: unexpected end of data"),
        ("a.csv", "question,answer,answer\na,1,2\n", {}, "a.csv: the header names a column twice"),
        ("a.csv", HEADER.encode() + b"\xff\xfe,1,2\n", {}, "a.csv: not a CSV file in UTF-8"),
        ("a.parquet", GOOD, {}, "a.parquet: cannot be read: .*[Pp]arquet"),
        ("a.jsonl", GOOD, {"split": "test"}, "a.jsonl is one file"),
        ("a.jsonl", GOOD, {"eval_split": "test"}, "a.jsonl is one file"),
        ("a.jsonl", GOOD, {"eval_split": "train"}, "split and eval_split are both 'train'"),
        ("a.jsonl", GOOD, {"eval_split": "test"} | BY_PART, "both eval_split and columns.split"),
        ("a.jsonl", PARTS, BY_PART, "a.jsonl, row 2, column 'part': split 'held' is unknown"),
    ],
)
def test_mistakes_name_file_column_and_row(tmp_path, name, content, params, message):
    if content is not None:
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(TaskError) as error:
        environment(tmp_path, name, **({"columns": MAPPING} | params)).check()
    assert re.search(message, str(error.value)), str(error.value)


def test_mistakes_in_saved_folders(tmp_path):
    path, _ = write(tmp_path, "saved_splits", ROWS)
    with pytest.raises(TaskError, match="no split 'train'; it has practice, other"):
        environment(tmp_path, path).check()
    path, _ = write(tmp_path, "saved", ROWS)
    with pytest.raises(TaskError, match="one data set without splits, so split 'test'"):
        environment(tmp_path, path, split="test").check()
    (tmp_path / "empty").mkdir()
    with pytest.raises(TaskError, match="empty: cannot be read"):
        environment(tmp_path, "empty").check()
    path, _ = write(tmp_path, "folder", ROWS)
    with pytest.raises(TaskError, match=r"folder: cannot be read.*test"):
        environment(tmp_path, path, split="test").check()


def test_a_hub_name_that_cannot_be_reached(tmp_path, monkeypatch):
    import datasets
    import huggingface_hub

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(TaskError, match=r"nobody/nothing: cannot be read: .*; no file or folder of this name exists"):
        environment(tmp_path, "nobody/nothing").check()


def test_a_hub_dataset_of_one_revision_says_which_commit_it_is(tmp_path, monkeypatch):
    import datasets

    commit, asked = "0123456789abcdef" * 2 + "01234567", []
    (tmp_path / commit).mkdir()
    datasets.Dataset.from_list(ROWS).save_to_disk(tmp_path / "saved")
    (file,) = (tmp_path / "saved").glob("*.arrow")
    file.rename(tmp_path / commit / "mine-train.arrow")

    def load(**arguments):
        asked.append(arguments["revision"])
        return datasets.Dataset.from_file(str(tmp_path / commit / "mine-train.arrow"))

    monkeypatch.setattr(datasets, "load_dataset", load)
    for revision in (None, "v1", commit):
        env = environment(tmp_path, "someone/questions", revision=revision)
        env.check()
        assert (asked[-1], env.commit) == (revision, commit)
    with pytest.raises(TaskError, match=rf"the hub did not give revision {'f' * 40}, and the local cache has {commit}"):
        environment(tmp_path, "someone/questions", revision="f" * 40).check()
    with pytest.raises(TaskError, match=r"own\.jsonl is here: `revision` is for hub data sets"):
        environment(tmp_path, write_lines(tmp_path / "own.jsonl", ROWS), revision="v1").check()


def test_names_with_wildcards_are_names(tmp_path):
    path = write_lines(tmp_path / "data[1].jsonl", ROWS)
    assert len(tasks(environment(tmp_path, path), "train")) > 30


def test_golds_of_a_float32_column_are_the_numbers_that_people_wrote(tmp_path):
    import datasets

    features = datasets.Features({"prompt": datasets.Value("string"), "gold": datasets.Value("float32")})
    rows = [{"prompt": "a tenth", "gold": 0.1}, {"prompt": "three", "gold": 3.0}]
    datasets.Dataset.from_list(rows, features=features).to_parquet(tmp_path / "narrow.parquet")
    env = environment(tmp_path, "narrow.parquet", columns={})
    golds = {candidate.task.gold for split in ("train", "eval") for candidate in env.candidates(split)}
    assert golds == {"0.1", "3"}
