"""Whatever is asked, the warehouse stays as it is and no other file is touched."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from assay.trajectories import QueryError, query, sync
from assay.trajectories.exporters import export
from assay.trajectories.warehouse import WAREHOUSE, open_warehouse


@pytest.fixture(scope="module")
def synced(finished_project):
    sync(finished_project.root)
    return finished_project


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO versions BY NAME (SELECT 'x' AS name)", "DELETE FROM trajectories", "UPDATE tasks SET gold = ''", "DROP TABLE parts",
        "CREATE TABLE mine (a INT)", "DELETE FROM store.tasks", "ALTER TABLE parts ADD COLUMN x INT",
        "SELECT 1; DROP VIEW tasks", "TRUNCATE store.tasks", "CREATE TEMP TABLE x AS FROM tasks; DELETE FROM store.tasks",
        "MERGE INTO store.tasks AS t USING (SELECT 1) ON false WHEN NOT MATCHED THEN INSERT (gold) VALUES ('x')",
    ],
)  # fmt: skip
def test_nothing_can_be_written(synced, sql):
    before = (synced.root / WAREHOUSE).read_bytes()
    with pytest.raises(QueryError, match="the warehouse is read-only"):
        query(sql, synced.root)
    assert (synced.root / WAREHOUSE).read_bytes() == before


OTHER_FILES = [
    "COPY tasks TO '{file}'", "COPY (SELECT 'gone' AS x) TO '{file}' (FORMAT csv)", "EXPORT DATABASE '{folder}/copy'",
    "ATTACH '{warehouse}' AS again", "ATTACH '{folder}/new.duckdb' AS other", "SELECT 1; ATTACH ':memory:' AS other", "DETACH trajectories",
    "ATTACH '{warehouse}' AS again (READ_WRITE); DELETE FROM again.store.tasks",
    "FROM read_text('{file}')", "FROM read_blob('{file}')", "FROM read_csv('{file}')", "FROM glob('{folder}/*')",
    "FROM sniff_csv('{file}')",
    "CREATE TEMP TABLE x AS FROM read_text('{file}')", "CREATE TEMP TABLE x (a VARCHAR); COPY x FROM '{file}'",
    "INSTALL httpfs", "LOAD httpfs", "SET enable_external_access = true", "SET lock_configuration = false", "RESET enable_external_access",
    "SET temp_directory = '{folder}'", "PRAGMA enable_profiling; SET profiling_output = '{file}'",
    "CREATE PERSISTENT SECRET s (TYPE s3)", "PREPARE p AS COPY tasks TO '{file}'; EXECUTE p",
]  # fmt: skip


@pytest.mark.parametrize("sql", OTHER_FILES)
def test_no_other_file_can_be_read_or_written(synced, tmp_path, sql):
    """A statement may come from anywhere: a shared cookbook, an agent, the --where of an export."""
    file = tmp_path / "shard.parquet"
    file.write_text("content")
    before = (synced.root / WAREHOUSE).read_bytes()
    with pytest.raises(QueryError, match="reaches no file but the warehouse") as caught:
        query(sql.format(file=file, folder=tmp_path, warehouse=synced.root / WAREHOUSE), synced.root)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["shard.parquet"] and file.read_text() == "content"
    assert (synced.root / WAREHOUSE).read_bytes() == before


def test_a_file_is_no_table(synced, tmp_path):
    pq.write_table(pa.table({"a": [1]}), tmp_path / "x.parquet")
    with pytest.raises(QueryError, match="reaches no file but the warehouse"):
        query(f"FROM '{tmp_path / 'x.parquet'}'", synced.root)


def test_readers_in_one_process_do_not_disturb_each_other(synced):
    with open_warehouse(synced.root / WAREHOUSE), open_warehouse(synced.root / WAREHOUSE) as second:
        assert second.execute("SELECT count(*) FROM tasks").fetchall() == [(28,)]
        with pytest.raises(QueryError, match="reaches no file"):
            query("FROM read_text('/etc/hostname')", synced.root)


def test_the_condition_of_an_export_reaches_no_file_either(synced, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("content")
    for where in (f"k.gold IN (SELECT content FROM read_text('{secret}'))", f"true; COPY tasks TO '{secret}' --"):
        with pytest.raises(QueryError, match=r"reaches no file but the warehouse|syntax error"):
            export("trl", tmp_path / "out", synced.root, where=where)
    with pytest.raises(QueryError, match="reaches no file"):
        export("verl", tmp_path / "out", synced.root, where=f"true; COPY tasks TO '{secret}'; SELECT * FROM tasks WHERE true")
    assert [path.name for path in tmp_path.iterdir()] == ["secret"] and secret.read_text() == "content"
