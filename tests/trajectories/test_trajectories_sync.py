"""The warehouse over a real git and DVC project: every version once, complete or said to be not, whatever happens."""

import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import synthetic_record

from assay.cli import main
from assay.trajectories import QueryError, ShardError, query, rebuild, sync, warehouse_sync, write_shard
from assay.trajectories.objects import folder_digest, workspace_manifest
from assay.trajectories.past_runs import forget
from assay.trajectories.pipelines import PipelineError
from assay.trajectories.schemas import TABLES, Table
from assay.trajectories.warehouse import WAREHOUSE, open_warehouse


@pytest.fixture(scope="module")
def synced(finished_project):
    sync(finished_project.root)
    return finished_project


@pytest.fixture(scope="module")
def expected(synced):
    """What every warehouse of this project says."""
    return everything(synced)


def one(project, sql: str, version: str | None = None):
    """The only value of an answer."""
    (column,) = query(sql, project.root, version=version).columns
    (value,) = column.to_pylist()
    return value


def everything(project) -> dict[str, list]:
    """All that any version holds, in an order of its own."""
    with open_warehouse(project.root / WAREHOUSE) as connection:
        names = [name for (name,) in connection.execute("SELECT name FROM versions ORDER BY name").fetchall()]
        return {
            f"{table} {name}": connection.execute(f"SELECT * FROM {table}_at('{name}') ORDER BY ALL").fetchall()
            for name in names
            for table in TABLES
        }


def hold(path: Path, mode: str) -> subprocess.Popen[str]:
    """Another process that has the file open until its standard input is closed."""
    program = (
        "import duckdb, sys\n"
        f"connection = duckdb.connect({str(path)!r}, read_only={mode == 'read'})\n"
        "print('open', flush=True)\nsys.stdin.read()\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "open\n"
    return process


def release(process: subprocess.Popen[str]) -> None:
    process.communicate("")


def test_every_version_is_there_and_each_shard_once(synced):
    names = query("SELECT name, kind FROM versions ORDER BY committed_at", synced.root).to_pylist()
    commits = synced.git("log", "--format=%h", "--abbrev=7", "-2").split()[::-1]
    assert [(row["name"], row["kind"]) for row in names] == [
        (commits[0], "commit"), (commits[1], "commit"), ("shorter", "experiment"),
    ]  # fmt: skip
    assert one(synced, "SELECT version FROM version_names WHERE name = 'current'") == commits[1]
    parts = query("SELECT md5, row_count, table_name FROM parts", synced.root)
    assert len(set(parts["md5"].to_pylist())) == len(parts)
    stored = sum(one(synced, f"SELECT count(*) FROM store.{table}") for table in TABLES)
    assert stored == sum(parts["row_count"].to_pylist())
    # The rollouts of both commits are the same shards.
    twice = "SELECT count(*) FROM (SELECT part FROM version_parts JOIN parts USING (part) WHERE table_name = 'trajectories' GROUP BY part HAVING count(*) > 1)"  # noqa: E501
    assert one(synced, twice) == 5


def test_views_show_the_rows_that_the_stages_wrote(synced):
    made = synthetic_record.trajectories(synthetic_record.tasks(), 1, ("solution", "evaluation"))
    stored = query("SELECT * FROM trajectories WHERE iteration = 1 ORDER BY trajectory_id", synced.root).to_pylist()
    expected = sorted(made, key=lambda row: row["trajectory_id"])
    assert [row["completion_ids"] for row in stored] == [row["completion_ids"] for row in expected]
    assert [row["sampling"]["seed"] for row in stored] == [row["sampling"]["seed"] for row in expected]
    assert [row["text"] for row in stored] == [row["text"] for row in expected]


@pytest.mark.parametrize("name", ["baseline", "commit", "short"])
def test_time_travel_by_any_name(synced, name):
    full = synced.git("rev-parse", "baseline").strip()
    asked = {"baseline": "baseline", "commit": full, "short": full[:9]}[name]
    assert one(synced, f"SELECT any_value(verifier_version) FROM verdicts_at('{asked}')") == "1"
    assert one(synced, "SELECT any_value(verifier_version) FROM verdicts", version=asked) == "1"
    assert one(synced, "SELECT any_value(verifier_version) FROM verdicts") == "2"


def test_stages_that_dvc_yaml_no_longer_has_are_no_part_of_a_version(synced):
    """dvc.lock of the experiment still lists rollout@1 of the commit before."""
    assert "rollout@1" in synced.git("show", f"{_tip(synced)}:dvc.lock")
    assert one(synced, "SELECT max(iteration) FROM verdicts_at('shorter')") == 1
    assert one(synced, "SELECT count(DISTINCT stage) FROM version_parts WHERE version = 'shorter' AND stage LIKE '%@1'") == 0
    assert one(synced, "SELECT count(*) FROM trajectories_at('shorter') WHERE iteration = 1 AND kind = 'solution'") == 0


def _tip(project) -> str:
    return project.git("for-each-ref", "--format=%(objectname)", "refs/exps/*/*/*").split()[0]


def test_parents_params_and_inputs_of_a_version_are_known(synced):
    commits = synced.git("log", "--format=%h", "--abbrev=7", "-2").split()
    assert one(synced, "SELECT parents FROM versions WHERE name = 'shorter'") == [commits[0]]
    assert one(synced, f"SELECT params ->> '$.verification.rule' FROM versions WHERE name = '{commits[1]}'") == "string_match"
    changed = query("FROM params_difference('baseline', 'tolerant')", synced.root).to_pylist()
    assert changed == [{"key": "verification.version", "first_value": "1", "second_value": "2"}]


def test_an_unknown_version_is_an_error_that_says_where_names_are(synced):
    for sql in ("FROM trajectories_at('nope')", "SELECT count(*) FROM trajectories_at('nope')"):
        with pytest.raises(QueryError, match='no version "nope"; SELECT name, kind, version FROM version_names'):
            query(sql, synced.root)
    with pytest.raises(QueryError, match='no version "nope"'):
        query("SELECT 1", synced.root, version="nope")


def test_lineage_leads_from_a_number_to_policy_shards_and_commit(synced):
    rows = query("FROM lineage_at('baseline', 2, 'rational', 'eval', 'accuracy_rule')", synced.root).to_pylist()
    assert len(rows) == 5 * synthetic_record.GROUP
    right = [next(v for v in row["verdicts"] if v["role"] == "rule")["verdict"] == "correct" for row in rows]
    assert sum(right) / len(right) == pytest.approx(rows[0]["value"])
    assert {row["shard"] for row in rows} == {"data/finish/trajectories-0000.parquet"}
    stored = synced.root / ".dvc" / "cache" / "files" / "md5"
    assert all((stored / row["shard_md5"][:2] / row["shard_md5"][2:]).is_file() for row in rows)
    policy = folder_digest(workspace_manifest(synced.root / "made" / "strict" / "models" / "2" / "policy"))
    assert {row["policy_hash"] for row in rows} == {policy}
    assert {row["commit_id"] for row in rows} == {synced.git("rev-parse", "baseline").strip()}
    assert all(len(row["completion_ids"]) == len(row["sampled_logprobs"]) for row in rows)


def test_lineage_knows_the_hashes_of_fused_policies(synced, tmp_path):
    """What a fused version's stages read: a policy with its trainer in each iteration, the last policy alone in `finish`."""
    (tmp_path / "data").mkdir()
    shutil.copyfile(synced.root / WAREHOUSE, tmp_path / WAREHOUSE)
    version = one(synced, "SELECT version FROM version_names WHERE name = 'baseline'")
    fused = {"0": "zero and trainer", "1": "one and trainer", "2/policy": "two"}
    read = {"models/0/policy": "zero", **{f"models/fused/{name}": digest for name, digest in fused.items()}}
    with open_warehouse(tmp_path / WAREHOUSE, write=True) as connection:
        connection.execute("DELETE FROM version_stages WHERE version = ?", [version])
        rows = [(version, "fused/train", "input", path, digest) for path, digest in read.items()]
        connection.executemany("INSERT INTO version_stages VALUES (?, ?, ?, ?, ?)", rows)
    for k, digest in enumerate(("zero", "one and trainer", "two")):
        asked = f"SELECT policy_hash, count(*) FROM lineage_at('baseline', {k}, 'rational', 'eval', 'accuracy_rule') GROUP BY ALL"
        assert list(query(asked, tmp_path).to_pylist()[0].values()) == [digest, 5 * synthetic_record.GROUP]


def test_the_difference_of_two_versions_counts_rows_that_only_one_has(synced):
    found = {row["table_name"]: row for row in query("FROM version_difference('baseline', 'tolerant')", synced.root).to_pylist()}
    assert found["trajectories"]["only_first"] == found["trajectories"]["only_second"] == 0
    assert found["verdicts"]["only_first"] == found["verdicts"]["first_rows"] > 0
    left = {str(row) for row in query("FROM batches_at('baseline')", synced.root).to_pylist()}
    right = {str(row) for row in query("FROM batches_at('tolerant')", synced.root).to_pylist()}
    assert found["batches"]["only_first"] == len(left - right)
    assert found["batches"]["only_second"] == len(right - left)


def test_a_second_sync_does_nothing_and_needs_no_write_lock(synced):
    reader = hold(synced.root / WAREHOUSE, "read")
    try:
        report = sync(synced.root, wait=0)
    finally:
        release(reader)
    assert (report.shards, report.busy, report.versions) == (0, None, 3)
    assert "up to date" in str(report)


def test_a_warehouse_that_another_process_holds_is_said_and_the_run_succeeds(project, monkeypatch):
    (project.root / WAREHOUSE).unlink(missing_ok=True)
    (project.root / WAREHOUSE).parent.mkdir(exist_ok=True)
    writer = hold(project.root / WAREHOUSE, "write")
    try:
        report = sync(project.root, wait=0.2)
        assert report.busy is not None and f"PID {writer.pid}" in report.busy
        assert str(report).endswith("nothing was added, the next `assay sync` catches up")
        done = project.assay("sync")
        assert done.returncode == 0 and "is in use by another process" in done.stdout
        monkeypatch.setattr(warehouse_sync, "sync", partial(sync, wait=0.1))
        assert [main(["sync", "--root", str(project.root), *strict]) for strict in ([], ["--strict"])] == [0, 1]
        asked = project.assay("sql", "--no-sync", "SELECT 1", code=1)
        assert "is in use by another process" in asked.stderr
    finally:
        release(writer)
    assert sync(project.root).shards > 20


def test_shards_are_found_in_the_cache_when_the_workspace_is_gone(synced, project, expected):
    for folder in ("rollout", "verify", "filter", "update", "finish", "evaluate", "tasks"):
        shutil.rmtree(project.root / "data" / folder)
    (project.root / WAREHOUSE).unlink(missing_ok=True)
    assert sync(project.root).incomplete == {}
    assert everything(project) == expected


def test_shards_are_found_in_the_workspace_when_the_cache_is_gone(synced, project, expected):
    (project.root / WAREHOUSE).unlink(missing_ok=True)
    shutil.move(project.root / ".dvc" / "cache", project.root / "elsewhere")
    report = sync(project.root)
    baseline = project.git("log", "--format=%h", "--abbrev=7", "-1", "baseline").strip()
    assert set(report.incomplete) == {baseline, "shorter"}
    assert query("FROM verdicts ORDER BY ALL", project.root) == query("FROM verdicts ORDER BY ALL", synced.root)
    with pytest.raises(QueryError, match=r"incomplete: data/\S+ is not in DVC's cache; run `dvc fetch --all-commits`"):
        query("SELECT count(*) FROM verdicts_at('baseline')", project.root)
    # What comes back is noticed, without any other change.
    shutil.move(project.root / "elsewhere", project.root / ".dvc" / "cache")
    assert sync(project.root).incomplete == {}
    assert everything(project) == expected


def test_what_was_synced_stays_when_the_cache_has_lost_it(synced, project, expected):
    sync(project.root)
    shutil.rmtree(project.root / ".dvc" / "cache")
    (project.root / "note.txt").write_text("something to commit")
    project.commit("later")
    assert sync(project.root).incomplete == {}
    assert everything(project) == expected
    # A rebuild keeps the old file, as it has versions that can be made from nowhere else.
    report, lost = rebuild(project.root)
    assert set(lost) == set(report.incomplete) != set()
    assert (project.root / "data" / "trajectories.previous.duckdb").exists()


def test_push_clone_pull_sync_gives_the_same_answers(synced, project, tmp_path):
    clone = tmp_path / "clone"
    project.script("dvc push -q --all-commits")
    project.git("clone", "-q", str(project.root), str(clone))
    other = type(project)(clone)
    other.script("dvc pull -q")
    report = sync(clone)
    # The commit before is known but not here; the experiment was not cloned.
    assert list(report.incomplete) == [project.git("log", "--format=%h", "--abbrev=7", "-1", "baseline").strip()]
    for table in TABLES:
        assert query(f"FROM {table} ORDER BY ALL", clone) == query(f"FROM {table} ORDER BY ALL", synced.root)
    assert one(other, "SELECT version FROM version_names WHERE name = 'tolerant'") == one(
        synced, "SELECT version FROM version_names WHERE name = 'tolerant'"
    )
    other.script("dvc fetch -q --all-commits")
    assert sync(clone).incomplete == {}
    assert query("FROM verdicts_at('baseline') ORDER BY ALL", clone) == query(
        "FROM verdicts_at('baseline') ORDER BY ALL", synced.root
    )


def test_a_run_that_is_cut_short_and_one_that_is_not_committed(synced, project, expected):
    """Another rollout@0, verify@0 not yet run again: what was made from the old rollout is left out until it is."""
    folder = project.root / "made" / "tolerant"
    synthetic_record.write_run(folder, 2, verifier_version="2", seed=1)
    project.script("dvc repro -q -s rollout@0")
    report = sync(project.root)
    assert report.current == "workspace"
    assert {"verify@0", "filter@0", "update@0", "rollout@1", "evaluate", "finish"} <= set(report.stale)
    assert "left out, as their inputs have changed since" in str(report)
    assert query("SELECT DISTINCT iteration FROM trajectories", project.root)["iteration"].to_pylist() == [0]
    assert one(project, "SELECT count(*) FROM verdicts") == 0
    assert one(project, "SELECT count(*) FROM verdicts_at('tolerant')") > 0

    project.script("dvc repro -q")
    assert sync(project.root).stale == []
    assert one(project, "SELECT count(*) FROM verdicts ANTI JOIN trajectories USING (trajectory_id)") == 0
    assert query("FROM trajectories ORDER BY ALL", project.root) != query("FROM trajectories ORDER BY ALL", synced.root)
    assert one(project, "SELECT parents FROM versions WHERE name = 'workspace'") == [
        one(project, "SELECT version FROM version_names WHERE name = 'HEAD'")
    ]

    # The workspace goes back: what was cut short is gone, the run is kept until it is forgotten, `workspace` is the commit.
    before = one(project, "SELECT count(*) FROM store.trajectories")
    project.script("git checkout -q -- .", "dvc checkout -q")
    report = sync(project.root)
    assert report.current == one(synced, "SELECT version FROM version_names WHERE name = 'current'")
    assert one(project, "SELECT count(*) FROM store.trajectories") == before
    assert forget(project.root, ["workspace~1"]) == report.past
    assert one(project, "SELECT count(*) FROM store.trajectories") < before
    assert everything(project) == expected


def test_a_corrupted_shard_is_named_and_costs_nothing_else(synced, project, expected):
    (project.root / WAREHOUSE).unlink(missing_ok=True)
    manifest = {path: digest for path, digest in workspace_manifest(project.root / "data" / "verify").items() if "0/v" in path}
    ((name, digest),) = manifest.items()
    stored = project.root / ".dvc" / "cache" / "files" / "md5" / digest[:2] / digest[2:]
    good = stored.read_bytes()
    stored.chmod(0o644)
    stored.write_bytes(good[:-100] + b"x" + good[-99:])
    done = project.assay("sync", code=1)
    assert f"{stored.relative_to(project.root)}: corrupted shard of table verdicts (data/verify/{name})" in done.stderr
    assert "dvc pull" in done.stderr
    with pytest.raises(ShardError, match="corrupted shard of table verdicts"):
        sync(project.root)
    assert one(project, "SELECT count(*) FROM trajectories") == one(synced, "SELECT count(*) FROM trajectories")
    asked = project.assay("sql", "SELECT count(*) FROM tasks")
    assert "corrupted shard" in asked.stderr and "28" in asked.stdout
    stored.write_bytes(good)
    assert sync(project.root).incomplete == {}
    assert everything(project) == expected


@pytest.mark.parametrize("after", [2, 26])
def test_kill_9_leaves_a_file_from_which_the_next_sync_goes_on(synced, project, expected, after):
    (project.root / WAREHOUSE).unlink(missing_ok=True)
    program = (
        "import os, signal, sys; from pathlib import Path; from assay.trajectories import ingest, sync\n"
        "seen, ingest.BATCH_BYTES = 0, 50_000\n"
        "def progress(line):\n"
        "    global seen\n"
        "    seen += '.parquet' in line\n"
        f"    if seen > {after}: os.kill(os.getpid(), signal.SIGKILL)\n"
        "sync(Path(), progress=progress)\n"
    )
    killed = subprocess.run([sys.executable, "-c", program], cwd=project.root, check=False)
    assert killed.returncode == -signal.SIGKILL
    report = sync(project.root)
    left = one(synced, "SELECT count(*) FROM parts") - report.shards
    assert (left == 0) if after == 2 else (0 < left < after)
    assert report.notes == []
    assert everything(project) == expected


def test_a_file_that_is_no_warehouse_is_set_aside_and_made_again(synced, project, expected):
    (project.root / WAREHOUSE).write_bytes(b"not a database" * 500)
    assert "is not usable" in project.assay("sql", "--no-sync", "SELECT 1", code=1).stderr
    report = sync(project.root)
    assert report.shards == one(synced, "SELECT count(*) FROM parts")
    assert "it was made again, the old file is" in str(report)
    assert everything(project) == expected
    (project.root / WAREHOUSE).write_bytes(b"not a database" * 500)
    assert "shards" in project.assay("rebuild").stdout
    assert (project.root / "data" / "trajectories.previous.duckdb").read_bytes().startswith(b"not a database")


def test_a_rebuilt_warehouse_says_the_same(synced, project, expected):
    sync(project.root)
    report, lost = rebuild(project.root)
    assert (lost, report.file) == ([], project.root / WAREHOUSE)
    assert everything(project) == expected
    assert not (project.root / "data" / "trajectories.previous.duckdb").exists()


def test_a_column_that_the_schema_gains_is_read_from_shards_that_have_it(synced, project, expected, monkeypatch):
    full = TABLES["tasks"]
    fewer = Table("tasks", full.row, tuple(column for column in full.columns if column.name != "difficulty"))
    (project.root / WAREHOUSE).unlink(missing_ok=True)
    with monkeypatch.context() as patch:
        patch.setitem(TABLES, "tasks", fewer)
        sync(project.root)
        assert "difficulty" not in query("FROM tasks", project.root).column_names
        assert one(project, "SELECT DISTINCT unknown_columns FROM parts WHERE table_name = 'tasks'") == ["difficulty"]
    sync(project.root)
    assert everything(project) == expected


def test_kill_9_after_a_shard_was_read_again_leaves_versions_whole(synced, project, expected, monkeypatch):
    """Shards are stored in earlier transactions than the versions that have them."""
    full = TABLES["tasks"]
    fewer = Table("tasks", full.row, tuple(column for column in full.columns if column.name != "difficulty"))
    (project.root / WAREHOUSE).unlink(missing_ok=True)
    with monkeypatch.context() as patch:
        patch.setitem(TABLES, "tasks", fewer)
        sync(project.root)
    program = (
        "import os, signal; from pathlib import Path; from assay.trajectories import sync, warehouse_sync\n"
        "warehouse_sync.write_version = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "sync(Path())\n"
    )
    killed = subprocess.run([sys.executable, "-c", program], cwd=project.root, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert sync(project.root).incomplete == {}
    assert everything(project) == expected


def test_a_column_that_a_shard_lacks_is_null(synced, project, monkeypatch):
    from assay.trajectories.schemas import Column

    full = TABLES["tasks"]
    more = Table("tasks", full.row, (*full.columns, Column("hint", full.columns[0].type, "added later", nullable=True)))
    sync(project.root)
    monkeypatch.setitem(TABLES, "tasks", more)
    sync(project.root)
    assert one(project, "SELECT count(*) FROM tasks WHERE hint IS NULL") == one(synced, "SELECT count(*) FROM tasks")


def test_the_fused_pipeline_has_versions_of_its_own_with_the_shared_tasks(synced, project):
    rows = synthetic_record.trajectories(synthetic_record.tasks(), 0, ("solution",), seed=5)
    made = project.root / "made" / "fused" / "trajectories-0000.parquet"
    write_shard(made, "trajectories", [row | {"round": 3} for row in rows])
    (project.root / "fused").mkdir()
    (project.root / "fused" / "dvc.yaml").write_text(
        "stages:\n  train:\n    wdir: ..\n    cmd: mkdir -p data/fused && cp -r made/fused data/fused/0\n"
        "    deps:\n      - data/tasks/tasks.parquet\n    outs:\n      - data/fused/0\n"
    )
    project.script("dvc repro -q fused/dvc.yaml", "git add -A", "git commit -q -m fused")
    report = sync(project.root)
    name = "fused/" + project.git("log", "--format=%h", "--abbrev=7", "-1").strip()
    assert report.current == one(synced, "SELECT version FROM version_names WHERE name = 'current'")
    assert one(project, f"SELECT DISTINCT round FROM trajectories_at('{name}')") == 3
    assert one(project, "SELECT DISTINCT round FROM trajectories", version="fused/HEAD") == 3
    assert one(project, f"SELECT count(*) FROM tasks_at('{name}')") == one(synced, "SELECT count(*) FROM tasks")
    assert one(project, f"SELECT count(*) FROM verdicts_at('{name}')") == 0
    assert query("FROM trajectories ORDER BY ALL", project.root) == query("FROM trajectories ORDER BY ALL", synced.root)


def test_a_folder_that_is_no_project_is_said(tmp_path):
    (tmp_path / "dvc.lock").write_text("schema: '2.0'\nstages: {}\n")
    with pytest.raises(PipelineError, match="is no DVC project"):
        sync(tmp_path)


def test_a_project_that_has_never_run_is_said(tmp_path):
    report = sync(tmp_path)
    assert report.versions == 0 and "run `dvc repro` first" in str(report)
    assert query("SELECT count(*) AS n FROM tasks", tmp_path).to_pylist() == [{"n": 0}]


def test_a_full_disk_is_said_and_what_was_there_stays(synced, project, expected):
    (project.root / WAREHOUSE).unlink(missing_ok=True)
    program = (
        "import resource, sys; from pathlib import Path; from assay.trajectories import WarehouseError, sync\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))\n"
        "try:\n    sync(Path())\n"
        "except WarehouseError as error:\n    print(error)\n    sys.exit(7)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=project.root, capture_output=True, text=True, check=False)
    assert done.returncode == 7, done.stderr
    assert str(WAREHOUSE) in done.stdout and "disk" in done.stdout
    sync(project.root)
    assert everything(project) == expected


def test_a_sync_in_a_folder_below_the_root_of_git(synced, tmp_path):
    """The project may be a part of a larger repository."""
    root = tmp_path / "big" / "part"
    shutil.copytree(synced.root, root, symlinks=True, ignore=shutil.ignore_patterns(".git", "*.duckdb*"))
    project = type(synced)(root)
    subprocess.run(["git", "init", "-q", str(root.parent)], check=True)
    project.git("add", "-A")
    project.git("commit", "-q", "-m", "all at once")
    report = sync(root)
    assert report.current == project.git("log", "--format=%h", "--abbrev=7", "-1").strip()
    assert query("FROM verdicts ORDER BY ALL", root) == query("FROM verdicts ORDER BY ALL", synced.root)
