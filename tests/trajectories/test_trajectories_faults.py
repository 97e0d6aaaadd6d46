"""What a sync meets in imports, odd paths and damaged files, and what of the old warehouse is kept."""

import json
import os
import shutil
import signal
import subprocess
import sys

import pytest
import synthetic_record

from assay.cli.import_ import make_task
from assay.trajectories import QueryError, ShardError, publish_folder, query, rebuild, sync, write_shard
from assay.trajectories.exporters import export
from assay.trajectories.importers import import_rollouts
from assay.trajectories.objects import workspace_manifest
from assay.trajectories.warehouse import WAREHOUSE, open_warehouse
from assay.trajectories.warehouse_sync import free_name


@pytest.fixture(scope="module")
def synced(finished_project):
    sync(finished_project.root)
    return finished_project


def rollouts(root, name: str, gold: str = "4"):
    file = root / f"{name}.jsonl"
    file.write_text(json.dumps({"prompt": "2 + 2?", "completion": "4", "gold": gold}) + "\n")
    import_rollouts(file, name, root, make_task)
    return root / "data" / "imported" / name


@pytest.mark.parametrize("place", ["round=3", "iteration=7", "a*b", "a?b", "[ab]", "it's {x,y}"])
def test_paths_are_taken_as_they_are(tmp_path, place):
    """No column comes from a folder's name and no folder is a pattern."""
    root = tmp_path / place.replace("?", "q")  # DuckDB takes no database file below a folder with a question mark
    other = tmp_path / "aXb"
    for folder, gold in ((root, "4"), (other, "5")):
        folder.mkdir()
        rollouts(folder, "own", gold)
    (root / "data" / "imported" / "own").rename(root / "data" / "imported" / place)
    report = sync(root)
    assert (report.shards, report.rows, report.notes) == (2, 2, [])
    ask = "SELECT iteration, round, gold FROM trajectories JOIN tasks USING (task_id)"
    assert query(ask, root, version=f"imported/{place}").to_pylist() == [{"iteration": 0, "round": 0, "gold": "4"}]


def test_imports_that_are_being_written_are_no_versions(tmp_path):
    folder = rollouts(tmp_path, "done")
    for name in (".half.partial", ".done.old"):
        shutil.copytree(folder, folder.with_name(name))
    shutil.copytree(folder, folder / ".copy")
    report = sync(tmp_path)
    assert query("SELECT name FROM versions", tmp_path)["name"].to_pylist() == ["imported/done"]
    assert report.shards == 2


def test_an_import_that_is_killed_leaves_nothing_that_counts(tmp_path):
    file = tmp_path / "f.jsonl"
    file.write_text("".join(json.dumps({"prompt": f"{n}?", "completion": "4", "gold": "4"}) + "\n" for n in range(6)))
    program = (
        "import os, signal, sys; from pathlib import Path\n"
        "from assay.cli.import_ import make_task; from assay.trajectories import importers\n"
        "importers.ROWS_PER_SHARD, write, seen = 2, importers.write_shard, []\n"
        "def dying(*arguments):\n"
        "    if len(seen) == 2: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    seen.append(write(*arguments))\n"
        "importers.write_shard = dying\n"
        "importers.import_rollouts(Path(sys.argv[1]), 'x', Path(), make_task, replace=True)\n"
    )

    def killed() -> None:
        done = subprocess.run([sys.executable, "-c", program, str(file)], cwd=tmp_path, check=False)
        assert done.returncode == -signal.SIGKILL
        assert (tmp_path / "data" / "imported" / ".x.partial").exists()

    killed()
    assert sync(tmp_path).versions == 0
    counts = import_rollouts(file, "x", tmp_path, make_task)
    assert counts["trajectories"] == 6
    sync(tmp_path)
    before = query("FROM trajectories ORDER BY ALL", tmp_path, version="imported/x")
    killed()
    assert sync(tmp_path).shards == 0
    assert query("FROM trajectories ORDER BY ALL", tmp_path, version="imported/x") == before
    import_rollouts(file, "x", tmp_path, make_task, replace=True)
    assert os.listdir(tmp_path / "data" / "imported") == ["x"]


def test_a_corrupted_import_is_a_note_each_time_and_stops_nothing(tmp_path):
    folder = rollouts(tmp_path, "torn")
    rollouts(tmp_path, "whole")
    shard = folder / "trajectories-0000.parquet"
    shard.write_bytes(shard.read_bytes()[:200])
    for _ in range(2):
        text = str(sync(tmp_path))
        assert f"imported/torn is incomplete: {shard}: not a shard of table trajectories" in text
        assert "import it again" in text and "dvc fetch" not in text
    assert query("SELECT count(*) AS n FROM tasks", tmp_path, version="imported/whole")["n"].to_pylist() == [1]
    with pytest.raises(QueryError, match=r"is incomplete: data/imported/torn/trajectories-0000.parquet cannot be read; import it again"):
        query("SELECT 1", tmp_path, version="imported/torn")
    import_rollouts(tmp_path / "torn.jsonl", "torn", tmp_path, make_task, replace=True)
    assert sync(tmp_path).notes == []


def test_files_that_are_kept_replace_none_that_were_kept(tmp_path):
    rollouts(tmp_path, "x")
    file = tmp_path / WAREHOUSE
    kept = []
    for number in range(3):
        file.write_bytes(b"not a database %d" % number * 500)
        report = sync(tmp_path)
        kept.append(report.kept)
        assert f"the old file is {report.kept}" in str(report)
        file.write_bytes(b"no database either %d" % number * 500)
        kept.append(rebuild(tmp_path)[0].kept)
    assert len(set(kept)) == 6 and all(path.exists() for path in kept)
    assert kept[4].name == "trajectories.broken-3.duckdb" and kept[4].read_bytes().startswith(b"not a database 2")
    assert kept[1].name == "trajectories.previous.duckdb" and kept[1].read_bytes().startswith(b"no database either 0")
    assert free_name(file, "broken").name == "trajectories.broken-4.duckdb"


def test_a_corrupted_shard_is_left_out_of_a_rebuild_and_said_afterwards(synced, project):
    sync(project.root)
    ((name, digest),) = [(p, d) for p, d in workspace_manifest(project.root / "data" / "verify").items() if "0/v" in p]
    stored = project.root / ".dvc" / "cache" / "files" / "md5" / digest[:2] / digest[2:]
    stored.chmod(0o644)
    stored.write_bytes(stored.read_bytes()[:-100] + b"x" * 100)
    (project.root / "data" / "verify" / name).unlink()
    done = project.assay("rebuild", code=1)
    assert "error:" in done.stderr and f"corrupted shard of table verdicts (data/verify/{name})" in done.stderr
    assert "the old file is kept as data/trajectories.previous.duckdb" in done.stdout
    with open_warehouse(project.root / WAREHOUSE) as fresh, open_warehouse(project.root / "data/trajectories.previous.duckdb") as old:
        ask = "SELECT (SELECT count(*) FROM store.trajectories), (SELECT count(*) FROM store.tasks), (SELECT count(*) FROM store.verdicts)"
        (now,), (before,) = fresh.execute(ask).fetchall(), old.execute(ask).fetchall()
        assert now[:2] == before[:2] and 0 < now[2] < before[2]
    with pytest.raises(ShardError, match="dvc pull"):
        sync(project.root)
    # Half of the rows is nothing to train on.
    with pytest.raises(QueryError, match="is incomplete"):
        export("trl", project.root / "out", project.root)


def test_lineage_is_that_of_the_version_that_is_shown(synced):
    ask = "SELECT DISTINCT version FROM lineage(1, 'rational', 'eval', 'pass@1')"
    now, before = (query(ask, synced.root, version=version)["version"].to_pylist() for version in (None, "baseline"))
    names = query("SELECT version_of('baseline') AS b, version_of('tolerant') AS t", synced.root).to_pylist()[0]
    assert (before, now) == ([names["b"]], [names["t"]])
    assert query(ask, synced.root, version="tolerant")["version"].to_pylist() == now


def test_a_publication_that_was_killed_between_its_renames_has_a_whole_folder_until_the_next_is_there(tmp_path, monkeypatch):
    old, draft = tmp_path / ".out.old", tmp_path / "draft"
    for folder in (old, draft):
        folder.mkdir()
        (folder / "file").write_text(folder.name)

    def failing(source, target):
        raise OSError("no")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", failing)
        with pytest.raises(OSError, match="no"):
            publish_folder(draft, tmp_path / "out")
    assert (old / "file").read_text() == ".out.old"
    publish_folder(draft, tmp_path / "out")
    assert (tmp_path / "out" / "file").read_text() == "draft" and not old.exists()


def test_the_line_of_progress_is_cleared_on_a_terminal(tmp_path, monkeypatch, capsys):
    from assay.cli import main

    write_shard(tmp_path / "data" / "imported" / "x" / "tasks.parquet", "tasks", synthetic_record.tasks())
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert main(["sql", "--root", str(tmp_path), "SELECT 1"]) == 0
    err = capsys.readouterr().err
    assert "tasks.parquet" in err
    assert err.rindex("\r\033[K") > err.rindex("tasks.parquet") and err.count("\r\033[K") == 2


def test_what_does_not_fit_into_memory_goes_to_the_disk_also_where_no_stage_has_run(tmp_path):
    """A folder that has imports alone, or a clone: DuckDB makes the last folder of its path alone."""
    with open_warehouse(tmp_path / WAREHOUSE, write=True) as connection:
        connection.execute("SET memory_limit = '60MB'; SET threads = 1")
        distinct = "SELECT count(*) FROM (SELECT DISTINCT md5(range::VARCHAR) FROM range(2_000_000))"
        assert connection.execute(distinct).fetchall() == [(2_000_000,)]
