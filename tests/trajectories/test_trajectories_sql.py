"""`assay sql`: formats, the prompt, and errors that say in one sentence what is wrong."""

import csv
import io
import json
import os
import pty
import subprocess
import sys
import warnings

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import environment

from assay.cli.sql import command
from assay.trajectories import IncompleteWarning, QueryError, WarehouseError, query, sync
from assay.trajectories.answers import cell, cut, fit, write_csv, write_json, write_parquet, write_text
from assay.trajectories.warehouse import WAREHOUSE, open_warehouse
from assay.trajectories.warehouse_query import _elsewhere


@pytest.fixture(scope="module")
def synced(finished_project):
    sync(finished_project.root)
    return finished_project


def reader(**columns) -> pa.RecordBatchReader:
    return pa.table(columns).to_reader(max_chunksize=2)


def text(source: pa.RecordBatchReader, **options) -> list[str]:
    out = io.StringIO()
    write_text(source, out, **({"width": None, "limit": None} | options))
    return out.getvalue().splitlines()


def test_a_table_is_readable():
    lines = text(reader(name=["a", None, "c\nd"], value=[1.0, 0.123456789, float("nan")], ok=[True, False, None]))
    assert lines == [
        "name     value  ok",
        "----  --------  -----",
        "a            1  true",
        "NULL  0.123457  false",
        "c\\nd       nan  NULL",
        "(3 rows)",
    ]


def test_what_a_table_leaves_out_is_said():
    wide = {f"column_{i}": ["x" * 50] * 5 for i in range(9)}
    lines = text(reader(**wide), width=80, limit=3)
    assert max(map(len, lines[:-1])) <= 80
    assert lines[-1] == "(5 rows, 2 not shown (--rows 0 shows all), 3 columns not shown (--wide shows all))"
    full = text(reader(**wide))
    assert full[2].count("x" * 50) == 9 and full[-1] == "(5 rows)"


@pytest.mark.parametrize("widths", [[3], [200], [5, 100, 100], [30] * 20, [1, 1, 1], [11, 400]])
@pytest.mark.parametrize("width", [10, 40, 79, 120])
def test_columns_fit_and_the_widest_is_cut_first(widths, width):
    fitted, count = fit(widths, width)
    assert sum(fitted[:count]) + 2 * (count - 1) <= max(width, 10)
    assert all(new <= old for new, old in zip(fitted, widths, strict=True))
    if count == len(widths):
        shrunk = [new for new, old in zip(fitted, widths, strict=True) if new < old]
        kept = [old for new, old in zip(fitted, widths, strict=True) if new == old]
        assert not shrunk or not kept or max(shrunk) >= min(kept) - 1 or max(kept) <= max(shrunk) + 1


class Watched:
    """A batch of one column of numbers that notes how many of them were made into Python's."""

    converted = 0

    def __init__(self, rows: int) -> None:
        self.num_rows, self.columns = rows, [self]

    def slice(self, start: int, rows: int) -> "Watched":
        return Watched(min(rows, self.num_rows))

    def to_pylist(self) -> list[int]:
        Watched.converted += self.num_rows
        return list(range(self.num_rows))


def test_rows_that_are_not_shown_are_counted_without_being_converted():
    class Reader:
        schema = pa.schema([("n", pa.int64())])

        def __iter__(self):
            return iter([Watched(10_000) for _ in range(5)])

    assert text(Reader(), limit=3)[-1] == "(50,000 rows, 49,997 not shown (--rows 0 shows all))"
    assert Watched.converted == 3


def test_what_steers_a_terminal_is_escaped():
    """Sampled text holds anything; a table must not set a person's title bar or hide a row."""
    nasty = ["\x1b[2Jgone", "a\rb\tc", "\x9b31m", "right\u202eleft", "line\u2028end"]
    lines = text(pa.table({"\x1b[31mname": nasty, "list": [[value] for value in nasty]}).to_reader())
    assert all(line.isprintable() for line in lines)
    assert lines[0].startswith("\\x1b[31mname")
    assert lines[2].startswith("\\x1b[2Jgone") and lines[3].startswith("a\\rb\\tc")
    assert cell("Zürich 日本 ½") == "Zürich 日本 ½"


def test_cells_stay_on_one_line():
    assert cell([1, 2.123456789, None]) == "[1, 2.123, null]"
    assert cell({"a": "ü\n"}) == '{"a": "ü\\n"}'
    assert cut("abcdef", 4) == "abc…"


def test_csv_and_json_and_parquet_hold_every_value(tmp_path):
    columns = {"n": [1, None], "list": [[1.5, float("inf")], []], "text": ['a,"b"', None]}
    out = io.StringIO()
    write_csv(reader(**columns), out)
    rows = list(csv.DictReader(io.StringIO(out.getvalue())))
    assert rows == [{"n": "1", "list": "[1.5, null]", "text": 'a,"b"'}, {"n": "", "list": "[]", "text": ""}]
    out = io.StringIO()
    write_json(reader(**columns), out)
    assert json.loads(out.getvalue()) == [
        {"n": 1, "list": [1.5, None], "text": 'a,"b"'}, {"n": None, "list": [], "text": None},
    ]  # fmt: skip
    write_parquet(reader(**columns), tmp_path / "x.parquet")
    assert pq.read_table(tmp_path / "x.parquet").to_pydict() == columns
    assert [path.name for path in tmp_path.iterdir()] == ["x.parquet"]


def test_sums_are_numbers_and_maps_are_objects(synced):
    """DuckDB sums integers to HUGEINT, which Arrow gives as a decimal, and a map as a list of pairs."""
    found = query("SELECT sum(range) AS s, 1.5::DECIMAL(4, 2) AS d, map([1, 2], ['nan'::DOUBLE, 0.5]) AS m FROM range(4)", synced.root)
    out = io.StringIO()
    write_json(found.to_reader(), out)
    assert json.loads(out.getvalue()) == [{"s": 6, "d": 1.5, "m": {"1": None, "2": 0.5}}]
    out = io.StringIO()
    write_csv(found.to_reader(), out)
    assert out.getvalue().splitlines()[1].startswith("6,1.50,")
    lines = text(query("SELECT sum(n) AS total FROM (VALUES (5), (100)) AS t(n) GROUP BY n ORDER BY n", synced.root).to_reader())
    assert lines[2:4] == ["    5", "  100"]
    assert "nan" in text(found.to_reader())[2].lower()


def test_an_answer_of_no_rows_and_columns_of_one_name(synced):
    empty = query("SELECT 1 AS a WHERE false", synced.root)
    assert text(empty.to_reader()) == ["a", "-", "(0 rows)"]
    out = io.StringIO()
    write_json(query("SELECT 1 AS a, 2 AS a", synced.root).to_reader(), out)
    assert json.loads(out.getvalue()) == [{"a": 1, "a_1": 2}]


def test_formats_on_the_command_line(synced, tmp_path):
    sql = "SELECT task_id, split, prompt FROM tasks ORDER BY task_id"
    found = query(sql, synced.root)
    rows = json.loads(synced.assay("sql", sql, "--format", "json").stdout)
    assert rows == found.to_pylist()
    target = tmp_path / "answer.parquet"
    synced.assay("sql", sql, "--format", "parquet", "--output", str(target))
    assert pq.read_table(target).to_pylist() == rows
    shown = synced.assay("sql", sql, "--rows", "5").stdout.splitlines()
    assert len(shown) == 8 and shown[-1] == f"({len(rows)} rows, {len(rows) - 5} not shown (--rows 0 shows all))"


def test_statements_from_a_pipe_and_another_version(synced):
    piped = synced.assay("sql", "--format", "csv", stdin="CREATE TEMP TABLE x AS SELECT 41 AS n;\nSELECT n + 1 AS n FROM x;")
    assert piped.stdout == "n\n42\n"
    old = synced.assay("sql", "--format", "csv", "--version", "baseline", "SELECT DISTINCT verifier_version FROM verdicts")
    assert old.stdout == "verifier_version\n1\n"


def test_every_answer_of_several_statements_is_printed(synced, tmp_path):
    piped = "SELECT 1 AS a;\nCREATE TEMP TABLE x AS SELECT 2 AS b;\nSET VARIABLE v = 3;\nFROM x;\nSELECT getvariable('v') AS c;"
    assert synced.assay("sql", "--format", "csv", stdin=piped).stdout == "a\n1\n\nb\n2\n\nc\n3\n"
    assert [line for line in synced.assay("sql", stdin=piped).stdout.splitlines() if line.startswith("(")] == ["(1 row)"] * 3
    target = tmp_path / "one.csv"
    two = synced.assay("sql", "--format", "csv", "--output", str(target), stdin=piped, code=2)
    assert "--output holds one answer" in two.stderr
    assert "no statement gives an answer" in synced.assay("sql", "SET VARIABLE v = 3", "--output", str(target), code=2).stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("form", ["table", "csv", "json", "parquet"])
def test_a_fault_in_the_middle_of_an_answer_is_said_and_leaves_the_old_file(synced, tmp_path, form):
    target = tmp_path / "answer"
    target.write_text("old")
    sql = "SELECT CASE WHEN range = 150000 THEN error('row 150000 is bad') ELSE range END FROM range(200000)"
    done = synced.assay("sql", sql, "--format", form, "--output", str(target), code=2)
    assert done.stderr.splitlines()[-1] == "error: row 150000 is bad"
    assert [path.name for path in tmp_path.iterdir()] == ["answer"] and target.read_text() == "old"
    with pytest.raises(QueryError, match="row 150000 is bad"):
        query(sql, synced.root)


@pytest.mark.parametrize("form", ["table", "csv", "json", "parquet"])
def test_an_output_that_cannot_be_written_is_one_sentence(synced, tmp_path, form):
    (tmp_path / "file").write_text("")
    for target in (tmp_path / "nowhere" / "x", tmp_path / "file" / "x", tmp_path):
        done = synced.assay("sql", "SELECT 1", "--format", form, "--output", str(target), code=2)
        assert done.stderr.startswith(f"error: {target}: could not be written (")
        assert done.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_full_disk_leaves_the_old_file(synced, tmp_path):
    target = tmp_path / "x.csv"
    target.write_text("old")
    program = (
        "import resource, sys; from assay.cli import main\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "sys.exit(main(['sql', '--no-sync', 'FROM range(100000)', '--format', 'csv', '--output', sys.argv[1]]))\n"
    )
    command = [sys.executable, "-c", program, str(target)]
    done = subprocess.run(command, cwd=synced.root, capture_output=True, text=True, env=environment(), check=False)
    assert done.returncode == 2 and f"{target}: could not be written (File too large)" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["x.csv"] and target.read_text() == "old"


@pytest.mark.parametrize("rows", ["-1", "many", "1.5", "²"])
def test_a_number_of_rows_that_is_none(synced, rows):
    assert "is no number of rows" in synced.assay("sql", "SELECT 1", f"--rows={rows}", code=2).stderr


def test_the_views_of_an_incomplete_version_warn(synced, project):
    sync(project.root)
    with open_warehouse(project.root / WAREHOUSE, write=True) as connection:
        connection.execute("UPDATE versions SET missing = ['data/verify/0/verdicts.parquet']")
    with pytest.warns(IncompleteWarning, match="lacks data/verify/0/verdicts.parquet; run `dvc pull`") as caught:
        query("SELECT count(*) FROM verdicts", project.root)
    assert caught[0].filename == __file__
    assert "warning: the answer is not complete" in project.assay("sql", "--no-sync", "SELECT count(*) FROM verdicts").stderr
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        query("SELECT count(*) FROM verdicts", synced.root)


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("SELEC 1", 'syntax error at or near "SELEC" (line 1: "SELEC 1")'),
        ("SELECT 1,\n  FROM\n  WHERE x", "syntax error"),
        ("FROM trajectoriez", 'table with name trajectoriez does not exist! Did you mean "trajectories'),
        ("SELECT golden FROM tasks", 'referenced column "golden" not found'),
        ("SELECT 'a'::INT", "could not convert string 'a'"),
        ("  ", "there is no statement"),
        ("-- nothing", "there is no statement"),
        ("FROM lineage(1)", "lineage()"),
        ("CREATE TEMP TABLE x AS SELEC 1", 'syntax error at or near "SELEC"'),
        ("CREATE TEMP TABLE x AS SELECT golden FROM tasks", 'referenced column "golden" not found'),
        ("CREATE TEMP TABLE x (a INT); INSERT INTO x VALUES ('a')", "could not convert string 'a'"),
        ("INSERT INTO versions VALUES (1)", 'table "versions" has 11 columns'),
    ],
)
def test_a_mistake_is_one_sentence(synced, sql, words):
    with pytest.raises(QueryError) as caught:
        query(sql, synced.root)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "Error:" not in str(caught.value)


def test_mistakes_on_the_command_line_have_no_traceback(synced, tmp_path):
    wrong = synced.assay("sql", "SELEC 1", code=2)
    assert wrong.stderr.splitlines() == ['error: syntax error at or near "SELEC" (line 1: "SELEC 1")']
    missing = synced.assay("sql", "--no-sync", "--root", str(tmp_path), "SELECT 1", code=1)
    assert "trajectories.duckdb does not exist; run `assay sync`" in missing.stderr
    assert "needs --output" in synced.assay("sql", "SELECT 1", "--format", "parquet", code=2).stderr


def test_a_missing_warehouse_says_what_to_run(tmp_path):
    with pytest.raises(WarehouseError, match=r"does not exist; run `assay sync`"):
        query("SELECT 1", tmp_path)
    assert list(tmp_path.iterdir()) == []


def at_prompt(root, *lines: str) -> str:
    """What a person sees who types these lines at the prompt of a real terminal."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "assay", "sql", "--no-sync"], cwd=root, stdin=theirs, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, env=environment() | {"TERM": "dumb", "COLUMNS": "100"},
    )  # fmt: skip
    os.close(theirs)
    for line in lines:
        os.write(ours, f"{line}\n".encode())
    out, _ = process.communicate(timeout=60)
    os.close(ours)
    assert process.returncode == 0, out
    return out


def test_the_prompt_takes_statements_of_several_lines_and_survives_mistakes(synced):
    out = at_prompt(
        synced.root, "SELECT count(*) AS tasks", "FROM tasks;", "SELEC 1;", "FROM nowhere;", "SELECT 6 * 7 AS answer;", ".quit"
    )
    assert "28" in out
    assert 'error: syntax error at or near "SELEC"' in out
    assert "table with name nowhere does not exist" in out
    assert "42" in out
    assert (synced.root / ".assay" / "sql_history").exists()


def test_the_prompt_lists_tables_schemas_and_versions(synced):
    out = at_prompt(synced.root, ".tables", ".schema tasks", ".schema parts", ".versions", ".help", ".quit")
    assert "verdicts" in out and "view" in out and "macro" in out
    assert "the known answer" in out
    assert "byte_count" in out
    assert "baseline" in out
    assert "A statement ends with a semicolon" in out


def test_end_of_input_leaves_the_prompt(synced):
    assert "Statements end with a semicolon" in at_prompt(synced.root, "\x04")


def test_dot_commands_are_answered_or_become_sql(capsys):
    assert "version_names" in command([".versions"])
    assert command([".schema", "updates"]) == ""
    assert "gradient_norm" in capsys.readouterr().out
    assert command([".schema", "versions"]) == "DESCRIBE versions;"


def test_where_trajectories_are_is_said_if_the_current_version_has_none():
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE version_names AS SELECT 'current' AS name, 'workspace' AS version")
        connection.execute("CREATE TABLE parts AS SELECT * FROM (VALUES (1, 'tasks'), (2, 'trajectories')) AS t (part, table_name)")
        of_versions = "VALUES ('workspace', 1), ('fused/workspace', 2)"
        connection.execute(f"CREATE TABLE version_parts AS SELECT * FROM ({of_versions}) AS t (version, part)")
        assert _elsewhere(connection) == (
            "the current version (workspace) has no trajectories; fused/workspace has some: name one with --version"
        )
        connection.execute("INSERT INTO version_parts VALUES ('workspace', 2)")
        assert _elsewhere(connection) is None
