"""Exports that other tools read, imports that are verified and queried, and back again."""

import json
import os
import subprocess
import sys

import pyarrow.parquet as pq
import pytest
from conftest import environment

from assay.cli.import_ import make_task
from assay.trajectories import QueryError, ShardError, importers, query, read_table, sync
from assay.trajectories.exporters import ExportError, export
from assay.trajectories.importers import ImportFailure, import_rollouts


@pytest.fixture(scope="module")
def synced(finished_project):
    sync(finished_project.root)
    return finished_project


def test_trl_layout_has_messages_rewards_and_tokens(synced, tmp_path):
    where = "t.kind = 'solution' AND r.verdict = 'correct'"
    counts = export("trl", tmp_path / "out", synced.root, version="baseline", where=where)
    rows = pq.read_table(tmp_path / "out" / "train.parquet").to_pylist()
    assert counts == {"train.parquet": len(rows)}
    wanted = "SELECT count(*) AS n FROM trajectories_at('baseline') AS t JOIN verdicts_at('baseline') USING (trajectory_id) WHERE kind = 'solution' AND role = 'rule' AND verdict = 'correct'"  # noqa: E501
    assert len(rows) == query(wanted, synced.root)["n"][0].as_py() > 0
    row = rows[0]
    assert row["prompt"][0]["role"] == "user" and row["completion"][0]["role"] == "assistant"
    flips = query(wanted.replace("count(*)", "count(*) FILTER (flipped)"), synced.root)["n"][0].as_py()
    assert sum(r["reward"] == 0.0 for r in rows) == flips > 0  # what training sees, injected noise included
    assert sum(r["reward"] == 1.0 for r in rows) == len(rows) - flips
    assert all(len(r["completion_ids"]) == len(r["logprobs"]) == len(r["completion_mask"]) for r in rows)
    assert all(r["completion"][0]["content"] == r["solution"] for r in rows)
    assert any(r["advantage"] is not None for r in rows)


def test_verl_layout_has_one_row_per_task(synced, tmp_path):
    counts = export("verl", tmp_path / "out", synced.root)
    assert counts == {"train.parquet": 12, "eval.parquet": 10, "ood.parquet": 6}
    row = pq.read_table(tmp_path / "out" / "eval.parquet").to_pylist()[3]
    assert set(row) == {"data_source", "prompt", "ability", "reward_model", "extra_info"}
    assert row["reward_model"]["style"] == "rule"
    stored = query(f"SELECT * FROM tasks WHERE task_id = '{row['extra_info']['task_id']}'", synced.root).to_pylist()[0]
    assert (row["reward_model"]["ground_truth"], row["prompt"]) == (stored["gold"], stored["prompt"])
    assert (row["extra_info"]["split"], row["extra_info"]["index"]) == ("eval", 3)


def test_hugging_face_layout_is_read_by_datasets(synced, tmp_path):
    out = tmp_path / "out"
    export("hf", out, synced.root, where="t.iteration = 1")
    program = (
        "import json, sys; from datasets import load_dataset\n"
        "found = {c: {s: len(d) for s, d in load_dataset(sys.argv[1], c).items()} for c in ('tasks', 'verdicts')}\n"
        "found['trajectories'] = load_dataset(sys.argv[1])['train'][0]['completion_ids']\n"
        "print(json.dumps(found))\n"
    )
    own = environment() | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")}
    done = subprocess.run([sys.executable, "-c", program, str(out)], capture_output=True, text=True, env=own, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["tasks"] == {"train": 12, "eval": 10, "ood": 6}
    expected = query("SELECT count(*) AS n FROM verdicts WHERE iteration = 1", synced.root)["n"][0].as_py()
    assert found["verdicts"] == {"train": expected}
    assert found["trajectories"]


def test_exports_are_whole_or_not_at_all(synced, tmp_path):
    with pytest.raises(ExportError, match="fits --where"):
        export("trl", tmp_path / "out", synced.root, where="t.iteration = 99")
    with pytest.raises(QueryError, match="golden"):
        export("trl", tmp_path / "out", synced.root, where="golden = 1")
    with pytest.raises(QueryError, match="no version"):
        export("verl", tmp_path / "out", synced.root, version="nope")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "out").mkdir()
    with pytest.raises(ExportError, match="exists already"):
        export("trl", tmp_path / "out", synced.root)


FULL = {
    "prompt": "What is 1/2 + 1/2?", "completion": ["1", "2/2", "two"], "gold": "1", "prompt_ids": [5, 6],
    "completion_ids": [[7, 2], [8, 9, 2], [11]], "logprobs": [[-0.5, -0.1], [-1, -2, -0.25], [-3.5]],
    "reward": [1.0, 0, None], "finish_reason": ["stop", "stop", "length"],
}  # fmt: skip
PLAIN = {"prompt": [{"role": "user", "content": "2 + 2?"}], "completion": "4", "gold": 4}


def write(path, *rows) -> None:
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows) + "\n", encoding="utf-8")


def test_imported_rollouts_are_a_version_that_can_be_queried(project, tmp_path):
    write(tmp_path / "rollouts.jsonl", FULL, PLAIN, "", PLAIN | {"completion": "5"})
    done = project.assay("import", str(tmp_path / "rollouts.jsonl"), "--name", "other")
    assert "imported/other: 2 tasks, 5 trajectories, 2 verdicts" in done.stdout
    rows = query("FROM trajectories ORDER BY len(completion_ids) DESC, text", project.root, version="imported/other").to_pylist()
    assert [row["completion_ids"] for row in rows] == [[8, 9, 2], [7, 2], [11], [], []]
    assert [row["sampled_logprobs"] for row in rows] == [[-1, -2, -0.25], [-0.5, pytest.approx(-0.1)], [-3.5], [], []]
    assert [row["finish_reason"] for row in rows] == ["stop", "stop", "length", "unknown", "unknown"]
    assert [row["sample_index"] for row in rows if row["text"] in "45"] == [0, 1]
    assert {row["sampling"]["engine"] for row in rows} == {"imported"}
    judged = query("SELECT verdict, score FROM verdicts ORDER BY score", project.root, version="imported/other").to_pylist()
    assert judged == [{"verdict": "wrong", "score": 0.0}, {"verdict": "correct", "score": 1.0}]
    note = query("SELECT params FROM versions WHERE name = 'imported/other'", project.root)["params"][0].as_py()
    assert json.loads(note)["file"] == "rollouts.jsonl"
    # The current version is still the pipeline's.
    assert query("SELECT count(*) AS n FROM tasks", project.root)["n"][0].as_py() == 28

    # Out again: the same prompts, texts and rewards.
    export("trl", tmp_path / "trl", project.root, version="imported/other")
    out = pq.read_table(tmp_path / "trl" / "train.parquet").to_pylist()
    assert sorted((row["completion"][0]["content"], row["reward"]) for row in out if row["reward"] is not None) == [
        ("1", 1.0), ("2/2", 0.0),
    ]  # fmt: skip

    # Verdicts that somebody adds to the folder are found; an import that is deleted is gone.
    folder = project.root / "data" / "imported" / "other"
    sync(project.root)
    (folder / "verdicts-0000.parquet").rename(folder / "verdicts.parquet")
    assert sync(project.root).shards == 0
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    sync(project.root)
    with pytest.raises(QueryError, match='no version "imported/other"'):
        query("FROM tasks_at('imported/other')", project.root)


def test_a_task_is_the_same_task_wherever_it_comes_from(synced, tmp_path):
    known = query("SELECT * FROM tasks WHERE environment = 'rational' LIMIT 1", synced.root).to_pylist()[0]
    write(tmp_path / "f.jsonl", {"prompt": known["prompt"][0]["content"], "completion": "1", "gold": known["gold"]})
    import_rollouts(tmp_path / "f.jsonl", "x", tmp_path, make_task, environment="rational")
    import_rollouts(tmp_path / "f.jsonl", "y", tmp_path, make_task, environment="rational")
    own = [read_table("tasks", tmp_path / "data" / "imported" / name)["task_id"][0].as_py() for name in "xy"]
    assert own[0] == own[1] == make_task("rational", "eval", known["prompt"], known["gold"], "v", None)["task_id"]


def test_long_rows_are_written_before_they_fill_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(importers, "TOKENS_PER_SHARD", 10)
    file = tmp_path / "rollouts.jsonl"
    lengths = (6, 5, 3, 2, 6, 1)
    rows = [{"prompt": "q", "completion": "a", "gold": "1", "prompt_ids": [7], "completion_ids": [*range(n)]} for n in lengths]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    import_rollouts(file, "long", tmp_path, make_task)
    shards = sorted((tmp_path / "data/imported/long").glob("trajectories-*.parquet"))
    found = [[len(ids) for ids in pq.read_table(shard)["completion_ids"].to_pylist()] for shard in shards]
    assert found == [[6, 5], [3, 2, 6], [1]]


def test_the_tokens_of_an_imported_row_are_part_of_its_id(tmp_path):
    ids = set()
    for number, tokens in enumerate(([1, 23], [12, 3], [])):
        file = tmp_path / f"{number}.jsonl"
        file.write_text(json.dumps({"prompt": "q", "completion": "a", "gold": "1", "completion_ids": tokens}) + "\n")
        import_rollouts(file, "same", tmp_path / str(number), make_task)
        ids |= set(read_table("trajectories", tmp_path / str(number))["trajectory_id"].to_pylist())
    assert len(ids) == 3


def test_columns_of_other_names(tmp_path):
    write(tmp_path / "f.jsonl", {"question": "1 + 1?", "response": "2", "answer": "2", "score": 0.5})
    columns = {"prompt": "question", "completion": "response", "gold": "answer", "reward": "score"}
    counts = import_rollouts(tmp_path / "f.jsonl", "f", tmp_path, make_task, columns=columns, split="train")
    assert counts == {"tasks": 1, "trajectories": 1, "verdicts": 1}
    assert read_table("tasks", tmp_path / "data")["split"].to_pylist() == ["train"]


def test_a_rounding_error_above_0_passes_as_it_passes_the_gate(tmp_path):
    write(tmp_path / "f.jsonl", PLAIN | {"completion_ids": [1, 2], "logprobs": [1e-7, -0.5]})
    import_rollouts(tmp_path / "f.jsonl", "f", tmp_path, make_task)
    assert read_table("trajectories", tmp_path / "data")["sampled_logprobs"][0][0].as_py() == pytest.approx(1e-7)


def test_folders_that_cannot_be_made_are_one_sentence(synced, tmp_path):
    (tmp_path / "data").write_text("")
    write(tmp_path / "f.jsonl", PLAIN)
    for out in (tmp_path / "data" / "out", tmp_path / "data" / "deeper" / "out"):
        done = synced.assay("export", "--layout", "trl", "--output", str(out), code=2)
        assert done.stderr.splitlines()[-1].startswith(f"error: {out}: could not be written (Not a directory)")
    done = synced.assay("import", str(tmp_path / "f.jsonl"), "--name", "f", "--root", str(tmp_path), code=None)
    assert done.returncode in (1, 2) and "Traceback" not in done.stderr
    assert str(tmp_path / "data" / "imported") in done.stderr


def test_a_full_disk_leaves_no_part_of_an_export(synced, tmp_path):
    program = (
        "import resource, sys; from assay.cli import main\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "sys.exit(main(['export', '--no-sync', '--layout', 'hf', '--output', sys.argv[1]]))\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "out")]
    done = subprocess.run(command, cwd=synced.root, capture_output=True, text=True, env=environment(), check=False)
    assert done.returncode == 2 and f"{tmp_path / 'out'}: could not be written" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("{", "row 2: not JSON"),
        ("[1]", "row 2: list, expected an object"),
        ({"completion": "1", "gold": "1"}, "row 2, prompt: missing; the row has completion, gold"),
        ({"prompt": "q", "gold": "1"}, "row 2, completion: missing"),
        ({"prompt": "q", "completion": "1"}, "row 2, gold: missing"),
        (PLAIN | {"completion": 5}, "row 2, completion: int, expected text"),
        (PLAIN | {"completion": []}, "row 2, completion: an empty list"),
        (PLAIN | {"gold": " "}, "row 2: the gold is empty"),
        (PLAIN | {"prompt": ""}, "row 2: the prompt is empty"),
        (PLAIN | {"split": "test"}, "row 2: split 'test' is unknown"),
        (PLAIN | {"completion_ids": [1, "x"]}, "row 2, completion_ids: 'x' in it, expected whole numbers"),
        (PLAIN | {"completion_ids": [-1]}, "row 2, completion_ids: -1 in it, which is no token id"),
        (PLAIN | {"completion_ids": "12"}, "row 2, completion_ids: str, expected a list of numbers"),
        (PLAIN | {"completion_ids": [1], "logprobs": [-1, -2]}, "row 2, logprobs: 2 numbers for 1 completion_ids"),
        (PLAIN | {"logprobs": [-1]}, "row 2, logprobs: 1 numbers for 0 completion_ids"),
        (PLAIN | {"completion_ids": [1], "logprobs": [0.5]}, "row 2, logprobs: a log-probability above 0"),
        (PLAIN | {"finish_reason": "bored"}, "row 2, finish_reason: 'bored', expected one of stop, length"),
        (PLAIN | {"reward": "high"}, "row 2, reward: 'high', expected a number"),
        (PLAIN | {"reward": 10**400}, "row 2, reward: 1000000000000000000000000000000000000000..., expected a number of at most 3.4e+38"),
        (PLAIN | {"reward": 1e39}, "row 2, reward: 1e+39, expected a number"),
        (json.dumps(PLAIN)[:-1] + ', "reward": NaN}', "row 2, reward: nan, expected a number"),
        (json.dumps(PLAIN)[:-1] + f', "reward": {"9" * 5000}}}', "row 2: JSON that cannot be read"),
        (json.dumps(PLAIN)[:-1] + f', "meta": {"[" * 100_000}', "row 2: JSON that cannot be read"),
        (PLAIN | {"completion": "\ud800"}, "row 2: half of a surrogate pair"),
        (PLAIN | {"completion_ids": [10**400]}, "row 2, completion_ids: 1000000000000000000000000000000000000000... in it"),
        (PLAIN | {"completion_ids": [1], "logprobs": [-(10**400)]}, "row 2, logprobs: -100000000000000000000000000000000000000... in it"),
        (PLAIN | {"completion_ids": [1], "logprobs": [2e-4]}, "row 2, logprobs: a log-probability above 0"),
        (PLAIN | {"split": "train"}, "row 2, split: 'train', but row 1 has 'eval' for the same question"),
        (PLAIN | {"verifier": "numeric"}, "row 2, verifier: 'numeric', but row 1 has 'math_verify' for the same question"),
        (PLAIN | {"meta": {"oracle": "rational"}}, """row 2, meta: '{"oracle": "rational"}', but row 1 has '{}' for the same"""),
        (PLAIN | {"verifier": "guess"}, "row 2, verifier: there is no 'guess'; there are math_verify, numeric"),
        (PLAIN | {"verifier": ["numeric"]}, "row 2, verifier: there is no ['numeric']"),
        (FULL | {"reward": [1.0]}, "row 2, reward: expected a list of 3, one for each completion"),
        (FULL | {"completion_ids": [1, 2, 3]}, "row 2, completion_ids: int, expected a list of numbers"),
    ],
)
def test_a_bad_row_is_named_and_nothing_is_written(tmp_path, row, words):
    write(tmp_path / "f.jsonl", PLAIN, row)
    with pytest.raises(ImportFailure) as caught:
        import_rollouts(tmp_path / "f.jsonl", "f", tmp_path, make_task, verifiers=("numeric", "math_verify"))
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"{tmp_path / 'f.jsonl'}, {words}")
    assert os.listdir(tmp_path / "data" / "imported") == [] if (tmp_path / "data").exists() else True


def test_two_imports_at_once_do_not_write_into_each_other(tmp_path):
    write(tmp_path / "f.jsonl", PLAIN)
    inner = []

    def while_another_works(*arguments):
        if not inner:
            with pytest.raises(ImportFailure, match=r"another import works in .*: let it end") as refused:
                import_rollouts(tmp_path / "f.jsonl", "f", tmp_path, make_task)
            inner.append(refused)
        return make_task(*arguments)

    assert import_rollouts(tmp_path / "f.jsonl", "f", tmp_path, while_another_works)["trajectories"] == 1
    assert inner
    with pytest.raises(ImportFailure, match="exists already"):
        import_rollouts(tmp_path / "f.jsonl", "f", tmp_path, make_task)


def test_a_file_whose_name_is_no_text_is_noted_as_text(tmp_path):
    file = tmp_path / os.fsdecode(b"\xff.jsonl")
    write(file, PLAIN)
    import_rollouts(file, "f", tmp_path, make_task)
    assert json.loads((tmp_path / "data/imported/f/import.json").read_text(encoding="utf-8"))["file"] == "?.jsonl"


def test_names_and_files_that_cannot_be(tmp_path):
    write(tmp_path / "f.jsonl", PLAIN)
    for name in ("", "a/b", "..", ".hidden", "x*", "iteration=7", "a b", "ü", "a\n"):
        with pytest.raises(ImportFailure, match="cannot be a folder's"):
            import_rollouts(tmp_path / "f.jsonl", name, tmp_path, make_task)
    with pytest.raises(ImportFailure, match="cannot be read"):
        import_rollouts(tmp_path / "missing.jsonl", "f", tmp_path, make_task)
    (tmp_path / "binary.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ImportFailure, match="not text in UTF-8"):
        import_rollouts(tmp_path / "binary.jsonl", "f", tmp_path, make_task)
    write(tmp_path / "empty.jsonl", "")
    with pytest.raises(ImportFailure, match="there is no row in it"):
        import_rollouts(tmp_path / "empty.jsonl", "f", tmp_path, make_task)
    with pytest.raises(ImportFailure, match="no key golden to fill"):
        import_rollouts(tmp_path / "f.jsonl", "f", tmp_path, make_task, columns={"golden": "answer"})
    import_rollouts(tmp_path / "f.jsonl", "f", tmp_path, make_task)
    with pytest.raises(ImportFailure, match="say --replace"):
        import_rollouts(tmp_path / "f.jsonl", "f", tmp_path, make_task)
    write(tmp_path / "f.jsonl", FULL)
    assert import_rollouts(tmp_path / "f.jsonl", "f", tmp_path, make_task, replace=True)["trajectories"] == 3
    with pytest.raises(ShardError):
        read_table("updates", tmp_path / "data")
