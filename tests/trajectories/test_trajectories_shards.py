"""Shards: equal rows give equal bytes, damage is found, nothing half-written is left."""

import errno
import os
import random
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import synthetic_record
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assay.trajectories import (
    SCHEMA_VERSION,
    TABLES,
    ShardError,
    is_readable,
    publish_folder,
    read_table,
    schema,
    to_table,
    write_shard,
)

ROWS = synthetic_record.trajectories(synthetic_record.tasks(), 0, ("solution", "evaluation"))


def test_rows_come_back_as_they_were(tmp_path):
    write_shard(tmp_path / "trajectories-0000.parquet", "trajectories", ROWS)
    back = read_table("trajectories", tmp_path)
    assert back.to_pylist() == to_table("trajectories", ROWS).to_pylist()
    assert back.schema.types == schema("trajectories").types


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(cuts=st.lists(st.integers(0, len(ROWS)), max_size=6))
def test_bytes_do_not_depend_on_the_chunks_of_the_caller(tmp_path, cuts):
    whole = to_table("trajectories", ROWS)
    pieces = [whole.slice(a, b - a) for a, b in pairwise([0, *sorted(cuts), len(ROWS)])]
    write_shard(tmp_path / "a.parquet", "trajectories", ROWS)
    write_shard(tmp_path / "b.parquet", "trajectories", pa.concat_tables(pieces))
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


@pytest.mark.parametrize("name", TABLES)
def test_lists_of_floats_are_split_by_byte_and_everything_else_has_a_dictionary(tmp_path, name):
    kinds = {"string": "x", "int32": 1, "int64": 1, "float": 0.25, "double": 0.25, "bool": True}

    def value(kind: pa.DataType):
        if pa.types.is_struct(kind):
            return {field.name: value(field.type) for field in kind}
        return [value(kind.value_type)] if pa.types.is_list(kind) else kinds[str(kind)]

    row = {field.name: value(field.type) for field in schema(name)}
    written = write_shard(tmp_path / f"{name}.parquet", name, [row] * 3)
    assert read_table(name, tmp_path).to_pylist() == written.to_pylist() == [row] * 3
    group = pq.ParquetFile(tmp_path / f"{name}.parquet").metadata.row_group(0)
    lists = {field.name for field in schema(name) if pa.types.is_list(field.type) and pa.types.is_float32(field.type.value_type)}
    for index in range(group.num_columns):
        column = group.column(index)
        if column.path_in_schema.split(".")[0] in lists:
            assert "BYTE_STREAM_SPLIT" in column.encodings and not column.has_dictionary_page
        elif column.physical_type != "BOOLEAN":
            assert column.has_dictionary_page


def test_log_probabilities_take_less_room_than_with_a_dictionary(tmp_path):
    draw = random.Random(0)
    rows = [row | {"sampled_logprobs": [-draw.expovariate(2) for _ in row["completion_ids"]]} for row in ROWS * 40]
    table = write_shard(tmp_path / "trajectories.parquet", "trajectories", rows)
    pq.write_table(table, tmp_path / "plain.parquet", compression="zstd", compression_level=3, write_page_checksum=True)
    assert (tmp_path / "trajectories.parquet").stat().st_size < 0.9 * (tmp_path / "plain.parquet").stat().st_size


def test_special_values_come_back_bit_by_bit(tmp_path):
    import numpy as np

    values = np.array([0.0, -0.0, -np.inf, np.nan, -1e-45, -3.4e38, -0.1], dtype=np.float32)
    rows = [{"trajectory_id": "x", "iteration": 0, "round": 0, "logprobs": values, "entropies": []}]
    write_shard(tmp_path / "token_statistics.parquet", "token_statistics", rows)
    back = read_table("token_statistics", tmp_path)["logprobs"].combine_chunks().values.to_numpy(zero_copy_only=False)
    assert back.tobytes() == values.tobytes()


def test_bytes_do_not_depend_on_the_process(tmp_path):
    program = (
        "import sys; sys.path.insert(0, sys.argv[2]); import synthetic_record as s; from pathlib import Path;"
        "from assay.trajectories import write_shard;"
        "write_shard(Path(sys.argv[1]), 'trajectories', s.trajectories(s.tasks(), 0, ('solution', 'evaluation')))"
    )
    contents = set()
    for seed in ("1", "2"):
        path = tmp_path / f"{seed}.parquet"
        command = [sys.executable, "-c", program, str(path), str(Path(__file__).parent)]
        subprocess.run(command, env=os.environ | {"PYTHONHASHSEED": seed}, check=True)
        contents.add(path.read_bytes())
    assert len(contents) == 1


def test_no_flipped_bit_changes_a_row_unnoticed(tmp_path):
    """Without page checksums nine of ten flips change rows and pass."""
    path = tmp_path / "trajectories-0000.parquet"
    expected = write_shard(path, "trajectories", ROWS).to_pylist()
    good = path.read_bytes()
    draw = random.Random(0)
    found = 0
    for _ in range(150):
        bad = bytearray(good)
        bad[draw.randrange(len(bad))] ^= 1 << draw.randrange(8)
        path.write_bytes(bytes(bad))
        try:
            # A flip in a statistic or a name of the footer changes no row.
            assert read_table("trajectories", tmp_path).to_pylist() == expected
        except ShardError as error:
            found += 1
            assert f"{path}: " in str(error)
    assert found > 100
    path.write_bytes(good)
    assert is_readable(path)


@pytest.mark.parametrize("keep", [0, 3, 100, -1])
def test_a_cut_shard_is_corrupted(tmp_path, keep):
    path = tmp_path / "tasks.parquet"
    write_shard(path, "tasks", synthetic_record.tasks())
    path.write_bytes(path.read_bytes()[:keep])
    assert not is_readable(path)
    with pytest.raises(ShardError, match="run its stage again"):
        read_table("tasks", path)


def test_a_full_disk_leaves_the_old_shard_and_nothing_else(tmp_path):
    path = tmp_path / "trajectories-0000.parquet"
    write_shard(path, "trajectories", ROWS[:3])
    before = path.read_bytes()
    program = (
        "import resource, sys; sys.path.insert(0, sys.argv[2]); import synthetic_record as s; from pathlib import Path;"
        "from assay.trajectories import ShardError, write_shard;"
        "rows = s.trajectories(s.tasks(), 0, ('solution', 'evaluation'));"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "try:\n    write_shard(Path(sys.argv[1]), 'trajectories', rows)\n"
        "except ShardError as error:\n    print(error)\n"
    )
    command = [sys.executable, "-c", program, str(path), str(Path(__file__).parent)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert f"{path}: could not be written" in done.stdout
    assert "free disk space" in done.stdout
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ShardError, match="could not be written"):
        write_shard(tmp_path / "file" / "tasks.parquet", "tasks", synthetic_record.tasks())


def test_rows_must_fit_the_schema(tmp_path):
    rows = synthetic_record.tasks()
    with pytest.raises(ShardError, match="column gold holds nulls"):
        write_shard(tmp_path / "tasks.parquet", "tasks", [rows[0] | {"gold": None}])
    with pytest.raises(ShardError, match="table tasks: rows do not fit"):
        write_shard(tmp_path / "tasks.parquet", "tasks", [rows[0] | {"difficulty": "hard"}])
    with pytest.raises(ShardError, match="table tasks: rows do not fit"):
        write_shard(tmp_path / "tasks.parquet", "tasks", to_table("tasks", rows).drop_columns(["gold"]))
    assert list(tmp_path.iterdir()) == []


def test_columns_that_an_older_shard_lacks_are_null(tmp_path):
    old = to_table("verdicts", synthetic_record.verdicts(synthetic_record.tasks(), ROWS)).drop_columns(["appealed"])
    metadata = {b"assay.table": b"verdicts", b"assay.schema_version": b"0"}
    pq.write_table(old.replace_schema_metadata(metadata), tmp_path / "verdicts.parquet")
    back = read_table("verdicts", tmp_path)
    assert back.column_names == TABLES["verdicts"].schema.names
    assert back["appealed"].null_count == len(back) > 0


def test_only_the_wanted_columns_are_read(tmp_path):
    write_shard(tmp_path / "tasks.parquet", "tasks", synthetic_record.tasks())
    assert read_table("tasks", tmp_path, columns=["gold", "task_id"]).column_names == ["gold", "task_id"]


def test_shards_are_read_in_the_order_of_their_names_and_of_their_table_alone(tmp_path):
    for number in (2, 0, 1):
        write_shard(tmp_path / "x" / f"trajectories-{number:04d}.parquet", "trajectories", [ROWS[number]])
    write_shard(tmp_path / "x" / "tasks.parquet", "tasks", synthetic_record.tasks())
    (tmp_path / "x" / ".trajectories-0003.parquet.partial").write_text("half")
    found = read_table("trajectories", tmp_path)["trajectory_id"].to_pylist()
    assert found == [row["trajectory_id"] for row in ROWS[:3]]
    with pytest.raises(ShardError, match="no shard of table updates found"):
        read_table("updates", tmp_path)


def test_a_shard_of_another_table_is_refused(tmp_path):
    write_shard(tmp_path / "tasks.parquet", "updates", [])
    with pytest.raises(ShardError, match="a shard of table updates, expected tasks"):
        read_table("tasks", tmp_path)


def test_shards_say_their_table_and_schema_version(tmp_path):
    write_shard(tmp_path / "tasks.parquet", "tasks", synthetic_record.tasks())
    metadata = pq.read_schema(tmp_path / "tasks.parquet").metadata
    assert metadata[b"assay.table"] == b"tasks"
    assert metadata[b"assay.schema_version"] == str(SCHEMA_VERSION).encode()


def test_a_folder_is_published_whole(tmp_path):
    source, target = tmp_path / "draft", tmp_path / "out"
    for generation in ("first", "second"):
        source.mkdir()
        (source / generation).write_text(generation)
        publish_folder(source, target)
        assert [path.name for path in target.iterdir()] == [generation]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_a_publication_that_was_killed_between_its_renames_is_taken_up(tmp_path):
    (tmp_path / ".out.old").mkdir()
    (tmp_path / ".out.old" / "before").write_text("")
    (tmp_path / "draft").mkdir()
    (tmp_path / "draft" / "after").write_text("")
    publish_folder(tmp_path / "draft", tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["after"]
    assert not (tmp_path / ".out.old").exists()


def test_a_folder_that_cannot_be_moved_leaves_the_one_before(tmp_path, monkeypatch):
    for name in ("draft", "out"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    move = os.replace

    def other_file_system(source, target):
        if Path(source).name == "draft":
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        move(source, target)

    monkeypatch.setattr(os, "replace", other_file_system)
    with pytest.raises(OSError, match="cross-device"):
        publish_folder(tmp_path / "draft", tmp_path / "out")
    assert (tmp_path / "out/file").read_text() == "out" and not (tmp_path / ".out.old").exists()
