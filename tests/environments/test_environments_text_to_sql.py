"""Text-to-SQL: seeded databases and questions, equal forms of a query, and a user's own databases."""

import json
import os
import re
import sqlite3
import subprocess
import sys
from collections import Counter
from contextlib import closing
from itertools import islice, pairwise
from pathlib import Path
from random import Random

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from assay.environments import TaskError, generate, make_environment
from assay.environments.text_to_sql import user_files
from assay.environments.text_to_sql.compare import same_result
from assay.environments.text_to_sql.databases import DatabaseError, Seeded, SeededInstance, sources_of
from assay.environments.text_to_sql.environment import TextToSqlEnvironment
from assay.environments.text_to_sql.execution import Limits, execute
from assay.environments.text_to_sql.forms import FORMS, demonstration, written
from assay.environments.text_to_sql.match import match
from assay.environments.text_to_sql.schemas import GRADES, NUMBERS, content, draw_schemas, parse
from assay.params import Params, load_params
from assay.params.data import SqlDatabases, TextToSql
from assay.verifiers import Judge

ROOT = Path(__file__).parents[2]
SMALL = {"databases": 8, "ood_databases": 4}
LIMITS = Limits(2.0, 64, 1000)
CODE = """
from itertools import islice
from assay.environments.text_to_sql.environment import TextToSqlEnvironment
from assay.params.data import TextToSql
environment = TextToSqlEnvironment("sql", TextToSql(databases=8, ood_databases=4), 3)
for candidate in islice(environment.candidates("eval"), 40):
    print(candidate.task.task_id, candidate.task.prompt, candidate.task.gold, candidate.task.meta)
"""


def tasks(split="train", number=400, seed=3, **params):
    environment = TextToSqlEnvironment("sql", TextToSql(**SMALL | params), seed)
    return [candidate.task for candidate in islice(environment.candidates(split), number)]


def test_equal_seeds_give_equal_tasks_in_every_process_and_other_seeds_others():
    said = []
    for seed in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": seed}
        said.append(subprocess.run([sys.executable, "-c", CODE], env=environment, cwd=ROOT, capture_output=True, check=True).stdout)
    assert said[0] == said[1]
    assert said[0].decode().splitlines()[0].startswith(tasks("eval", 1)[0].task_id)
    assert {task.task_id for task in tasks(seed=3)}.isdisjoint(task.task_id for task in tasks(seed=4) if task.difficulty != 1.0)


def test_rows_are_a_function_of_schema_and_seed():
    for schema in draw_schemas(20, 1):
        assert parse(str(schema)) == schema
        database = content(str(schema), 7, 8)
        content.cache_clear()
        assert content(str(schema), 7, 8) == database != content(str(schema), 8, 8)
        assert [len(rows) for _, rows in database] == [8, 4][: len(schema.tables)]
        for table, rows in database:
            for column, values in zip(table.columns, zip(*rows, strict=True), strict=True):
                assert column not in NUMBERS or len(set(values)) == len(values)
                assert None not in values or column in GRADES
        if len(schema.tables) == 2:
            (child, rows), (parent, parents) = database
            keys = {row[0] for row in parents}
            assert child.columns[-1] == parent.columns[0] and {row[-1] for row in rows} <= keys
    with pytest.raises(ValueError, match="no schema"):
        parse("emp(name,salary)")


def test_levels_are_of_growing_difficulty():
    marks = {
        1: r"SELECT (DISTINCT \w+|\w+(, \w+)*) FROM \w+",
        2: r"SELECT \w+ FROM \w+ WHERE [^()]+",
        3: r"SELECT \w+\([*\w]+\) FROM \w+( WHERE .+)?",
        4: r"SELECT \w+ FROM \w+ WHERE .+ (AND|OR) .+",
        5: r"SELECT (\w+), .+ FROM \w+.* GROUP BY \1|SELECT (\w+) FROM \w+ GROUP BY \2 HAVING COUNT\(\*\) > \d",
        6: r"SELECT \w+ FROM \w+( WHERE [^()]+)? ORDER BY \w+( DESC)?( LIMIT \d)?",
        7: r"SELECT .+ FROM \w+ JOIN \w+ USING \(\wid\).*",
    }
    found = tasks(number=1500)
    assert Counter(task.difficulty for task in found).keys() == {float(level) for level in marks}
    for task in found:
        assert re.fullmatch(marks[int(task.difficulty)], task.gold), task.gold
        assert task.meta["ordered"] == (task.difficulty == 6.0)
    assert {task.difficulty for task in tasks(levels=(1, 3))} == {1.0, 3.0}
    shares = Counter(task.difficulty for task in tasks(levels=(1, 3, 3, 3), number=2000))
    assert 0.7 < shares[3.0] / 2000 < 0.8


def test_prompts_and_answers_are_short_and_meta_is_small():
    for task in tasks(number=1500) + tasks("ood"):
        assert len(task.prompt) == 1 and len(task.prompt[0]["content"]) <= 110
        assert task.prompt[0]["content"].startswith(task.meta["schema"] + ": ")
        assert len(task.gold) <= 90
        assert len(json.dumps(task.meta)) <= 320


def test_golds_give_rows_on_the_rules_database_and_differ_between_databases():
    same, count = Counter(), Counter()
    for task in tasks(number=300):
        results = [execute(source, task.gold, LIMITS) for source in sources_of(task.meta)[:2]]
        assert [result.failure for result in results] == [None, None]
        assert task.gold.startswith("SELECT") and results[0].rows and results[0].ordered == task.meta["ordered"]
        count[task.difficulty] += 1
        same[task.difficulty] += same_result(results[0].rows, results[1].rows, False)
    assert sum(same.values()) / 300 < 0.1


def test_every_form_is_right_on_all_databases_and_reads_differently():
    seen = Counter()
    for task in tasks(number=400):
        texts = written(task.gold)
        assert texts["canonical"] == task.gold and len(set(texts.values())) == len(texts)
        seen.update(list(texts))
        for text in set(texts.values()) - {task.gold}:
            assert match(text, task.gold, task.meta, everywhere=True).equal, text
    assert seen.keys() == {form.name for form in FORMS}
    texts = Counter(demonstration("SELECT name FROM emp WHERE age > 30 AND town = 'rome'", Random(seed)) for seed in range(2000))
    assert texts.keys() == {
        "SELECT name FROM emp WHERE age > 30 AND town = 'rome'", "SELECT name FROM emp WHERE town = 'rome' AND age > 30",
        "SELECT name FROM emp WHERE age >= 31 AND town = 'rome'", "SELECT name AS x FROM emp WHERE age > 30 AND town = 'rome'",
    }  # fmt: skip
    assert max(texts.values()) / 2000 == pytest.approx(0.6 / 0.85, abs=0.04)


def test_the_rule_accepts_some_wrong_queries_that_the_oracle_refuses():
    """Answers of other tasks to the same database, as a policy that is half right gives them."""
    found = tasks(number=1200, levels=(2, 3, 4))
    lucky = honest = 0
    for one, other in pairwise(found):
        if one.meta["schema"] == other.meta["schema"] and one.gold != other.gold:
            rule, oracle = (match(other.gold, one.gold, one.meta, everywhere).equal for everywhere in (False, True))
            assert rule or not oracle, "the oracle looks at the rule's database first"
            lucky, honest = lucky + (rule and not oracle), honest + (not rule)
    assert lucky > 0 and honest > 20 * lucky


def test_splits_share_no_prompt_and_ood_no_schema():
    sizes = {"train": 300, "eval": 60, "ood": 40, "demonstrations": 900}
    made = generate(Params(environments={"sql": {"type": "text_to_sql"} | SMALL}, tasks=sizes), ROOT)
    keys = {split: {task.contamination_key for task in made.tasks if task.split == split} for split in ("train", "eval", "ood")}
    assert [len(keys[split]) for split in keys] == [300, 60, 40]
    assert not keys["train"] & keys["eval"] and not (keys["train"] | keys["eval"]) & keys["ood"]
    schemas = {split: {task.meta["schema"] for task in made.tasks if task.split == split} for split in keys}
    assert schemas["train"] == schemas["eval"] and not schemas["ood"] & schemas["train"]
    held_out = {str(task.prompt) for task in made.tasks if task.split != "train"}
    assert len(made.demonstrations) == 900 and not any(str(tuple(row["prompt"])) in held_out for row in made.demonstrations)


def test_demonstrations_show_every_level_although_some_have_few_questions():
    sizes = {"train": 500, "eval": 50, "ood": 0, "demonstrations": 12_000}
    made = generate(Params(environments={"sql": {"type": "text_to_sql"} | SMALL}, tasks=sizes), ROOT)
    plain = re.compile(r"SELECT (DISTINCT )?[\w, ]+ FROM \w+( GROUP BY \w+)?")
    shown = sum(plain.fullmatch(row["completion"]) is not None for row in made.demonstrations)
    assert len(made.demonstrations) == 12_000 and made.counts["sql"]["demonstrations"]["reused"] > 3000
    assert shown > 240


def test_many_databases_are_kept_and_the_oldest_dropped():
    instance = SeededInstance(64)
    sources = [Seeded("emp(name,age,town)", seed, 8) for seed in range(205)]
    names = [instance.catalog_of(source) for source in sources]
    assert len(set(names)) == 205 and instance.catalog_of(sources[-1]) == names[-1]
    kept = instance.connection.execute("SELECT COUNT(*) FROM duckdb_databases() WHERE database_name LIKE 'database_%'").fetchone()
    assert kept == (200,)
    assert instance.catalog_of(sources[0]) == "database_206"


def test_levels_that_cannot_be_asked_are_refused():
    with pytest.raises(TaskError, match="level 7 asks for joins, but databases is 1"):
        TextToSqlEnvironment("sql", TextToSql(databases=1), 0).check()
    with pytest.raises(TaskError, match="ood_databases is 1"):
        TextToSqlEnvironment("sql", TextToSql(databases=2, ood_databases=1), 0).check()
    for wrong in ({"levels": (8,)}, {"levels": ()}, {"rows": 40}, {"limits": {"seconds": 0}}):
        with pytest.raises(ValidationError):
            TextToSql(**wrong)
    with pytest.raises(DatabaseError, match="describes no database"):
        sources_of({"seeds": [1]})


def test_the_preset_is_valid_at_every_scale(tmp_path):
    os.symlink(ROOT / "conf", tmp_path / "conf")
    for scale in ("micro", "tiny", "small"):
        own = re.sub(r"(?m)^environment: \w+", "environment: text_to_sql", (ROOT / "params.yaml").read_text())
        (tmp_path / "params.yaml").write_text(re.sub(r"(?m)^scale: \w+", f"scale: {scale}", own))
        params = load_params(tmp_path)
        assert isinstance(params.environments["sql"], TextToSql)
        assert params.policy.max_prompt_tokens + params.sampling.max_tokens <= params.policy.shape.max_positions


# A user's own databases.
ROWS = [(1, "Ann", 30, 1.5), (2, "Bob", 25, None), (3, "Cy", 41, 2.0)]
PAIRS = [
    {"question": f"Who is over {age}?", "query": f"SELECT name FROM singer WHERE age > {age}", "database": name}
    for age in range(20, 40) for name in ("duck", "lite", "park", "parts")
]  # fmt: skip


@pytest.fixture
def project(tmp_path):
    """The same table in each format, and questions about it."""
    folder = tmp_path / "databases"
    folder.mkdir()
    with duckdb.connect(str(folder / "duck.duckdb")) as connection:
        connection.execute("CREATE TABLE singer (id INTEGER, name VARCHAR, age INTEGER, score DECIMAL(9,2))")
        connection.executemany("INSERT INTO singer VALUES (?, ?, ?, ?)", ROWS)
    lite = sqlite3.connect(folder / "lite.sqlite")
    lite.execute("CREATE TABLE singer (id INTEGER PRIMARY KEY, name TEXT, age INT, score REAL)")
    lite.executemany("INSERT INTO singer VALUES (?, ?, ?, ?)", ROWS)
    lite.commit()
    lite.close()
    table = pa.table({key: [row[place] for row in ROWS] for place, key in enumerate(("id", "name", "age", "score"))})
    (folder / "park").mkdir()
    pq.write_table(table, folder / "park" / "singer.parquet")
    (folder / "parts").mkdir()
    for part, rows in (("parts.duckdb", ROWS), ("more.duckdb", [*ROWS, (4, "Di", 33, 0.5)])):
        with duckdb.connect(str(folder / "parts" / part)) as connection:
            connection.execute("CREATE TABLE singer (id INTEGER, name VARCHAR, age INTEGER, score DECIMAL(9,2))")
            connection.executemany("INSERT INTO singer VALUES (?, ?, ?, ?)", rows)
    write(tmp_path, PAIRS)
    return tmp_path


def test_no_row_of_sqlite_is_lost_between_chunks(tmp_path, monkeypatch):
    monkeypatch.setattr(user_files, "CHUNK", 4)
    with closing(sqlite3.connect(tmp_path / "many.sqlite")) as lite:
        lite.execute("CREATE TABLE t (n INT)")
        lite.executemany("INSERT INTO t VALUES (?)", [(n,) for n in range(13)])
        lite.commit()
    with duckdb.connect() as connection:
        user_files._copy_sqlite(connection, tmp_path / "many.sqlite")
        assert connection.execute("SELECT count(*), sum(n) FROM t").fetchone() == (13, 78)


def test_what_sqlite_has_not_written_into_its_file_yet_is_not_left_out(tmp_path):
    with closing(sqlite3.connect(tmp_path / "wal.sqlite")) as lite:
        lite.execute("PRAGMA journal_mode=WAL")
        lite.execute("CREATE TABLE t (n INT)")
        lite.commit()
        with pytest.raises(user_files.DatabaseError, match=r"wal\.sqlite-wal beside it holds changes that are not in it yet: close"):
            user_files.load(str(tmp_path / "wal.sqlite"), None)
        lite.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection, _ = user_files.load(str(tmp_path / "wal.sqlite"), None)
        connection.close()


def write(folder, pairs):
    (folder / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))


def own(root, **params):
    section = {"type": "sql_databases", "path": "pairs.jsonl", "databases": "databases"} | params
    environment = make_environment("mine", Params(environments={"mine": section}), root)
    environment.check()
    return [candidate.task for split in ("train", "eval") for candidate in environment.candidates(split)]


def test_databases_of_every_format_load_the_same_way(project, monkeypatch):
    """One question may be asked of several databases; golds are executed by workers, which know files from the project's root."""
    monkeypatch.chdir(project)
    found = own(project)
    assert len(found) == len(PAIRS) and {task.split for task in found} == {"train", "eval"}
    assert {task.prompt[0]["content"].splitlines()[0] for task in found} == {"singer(id,name,age,score)"}
    paths = {tuple(path for path, _ in task.meta["files"]) for task in found}
    assert paths == {
        ("databases/duck.duckdb",), ("databases/lite.sqlite",), ("databases/park",),
        ("databases/parts/parts.duckdb", "databases/parts/more.duckdb"),
    }  # fmt: skip
    with Judge() as judge:
        assert set(judge.gold_problems(found)) == {None}
        for task in found[:12]:
            age = int(re.findall(r"\d+", task.gold)[0])
            names = ", ".join(f"('{name}')" for _, name, years, _ in ROWS if years > age)
            assert judge.verdict(task, f"SELECT name FROM singer WHERE age >= {age + 1}").verdict == "correct"
            assert judge.verdict(task, "SELECT name FROM singer WHERE age > 60").reason == "different"
            assert judge.verdict(task, f"VALUES {names}").verdict == "correct"
            several = len(task.meta["files"]) > 1 and age < 33
            assert judge.is_correct(task, f"VALUES {names}") == (not several)


def test_one_file_needs_no_column_of_databases_and_order_is_that_of_the_query(project, monkeypatch):
    monkeypatch.chdir(project)
    write(project, [
        {"question": "Names by age", "query": "SELECT name FROM singer ORDER BY age", "level": 2},
        {"question": "Names", "query": "SELECT name FROM (SELECT * FROM singer ORDER BY age LIMIT 2)", "level": 1},
    ])  # fmt: skip
    one = {task.prompt[0]["content"]: task for task in own(project, databases="databases/duck.duckdb", columns={"difficulty": "level"})}
    assert {prompt.splitlines()[1]: (task.meta["ordered"], task.difficulty) for prompt, task in one.items()} == {
        "Names by age": (True, 2.0), "Names": (False, 1.0),
    }  # fmt: skip
    assert {task.meta["ordered"] for task in own(project, databases="databases/duck.duckdb", order="always")} == {True}
    assert {task.prompt[0]["content"] for task in own(project, databases="databases/duck.duckdb", prompt="Q: {question}")} == {
        "Q: Names by age", "Q: Names",
    }  # fmt: skip


def test_instances_of_duckdb_do_not_grow_with_the_questions(project, monkeypatch):
    """Opening one takes longer than anything else that is done for a question."""
    opened, connect = [], duckdb.connect
    monkeypatch.setattr(duckdb, "connect", lambda *given, **options: opened.append(given) or connect(*given, **options))
    counts = []
    for rows in (8, 40):
        write(project, PAIRS[:rows])
        opened.clear()
        own(project)
        counts.append(len(opened))
    assert counts[0] == counts[1] < 8


@pytest.mark.parametrize(("change", "params", "message"), [
    ({"database": "nobody"}, {}, r"pairs\.jsonl, row 1: there is no database 'nobody' in databases; there is duck, lite"),
    ({"database": "../pairs"}, {}, "is not the name of an entry"),
    ({"query": "DROP TABLE singer"}, {}, r"row 1: the query 'DROP TABLE singer' cannot be executed \(sql_forbidden\)"),
    ({"query": "SELEC 1"}, {}, r"\(sql_syntax\)"),
    ({}, {"databases": "elsewhere"}, "databases is 'elsewhere': no such file or folder"),
    ({}, {"databases": "pairs.jsonl"}, "cannot be read as a database"),
    ({}, {"columns": {"database": "where"}}, "there is no text in the column 'where'"),
    ({}, {"columns": {"query": "sql"}}, "no column 'sql'"),
    ({}, {"max_database_mib": 1, "databases": "big.duckdb"}, "more than max_database_mib"),
])  # fmt: skip
def test_mistakes_are_named_with_file_and_row(project, change, params, message):
    write(project, [PAIRS[0] | change, *PAIRS[1:5]])
    with (project / "big.duckdb").open("wb") as stream:
        stream.truncate(3 << 20)
    with pytest.raises(TaskError, match=message):
        own(project, **params)


def test_a_database_that_has_changed_since_is_not_judged_by(project, monkeypatch):
    monkeypatch.chdir(project)
    task = next(task for task in own(project) if "duck" in task.meta["files"][0][0])
    with duckdb.connect("databases/duck.duckdb") as connection:
        connection.execute("DELETE FROM singer")
    with Judge() as judge:
        changed = judge.verdict(task, "SELECT 1")
        Path("databases/duck.duckdb").unlink()
        Path("databases/duck.duckdb").symlink_to(project / "nowhere")
        gone = judge.verdict(task, "SELECT 1")
    assert {(said.verdict, said.reason) for said in (changed, gone)} == {("abstain", "gold_unparseable")}
    assert json.loads(changed.components)["error"].startswith("the database: databases/duck.duckdb: not the database")
    assert json.loads(gone.components)["error"].startswith("the database: databases/duck.duckdb: no such file")


def test_a_path_is_recorded_and_told_as_params_yaml_says_it(project, tmp_path_factory):
    """Also through a link, or where DuckDB's own message names the file."""
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "databases"
    (project / "databases").rename(elsewhere)
    (project / "databases").symlink_to(elsewhere)
    assert {path.split("/")[0] for task in own(project) for path, _ in task.meta["files"]} == {"databases"}
    (elsewhere / "duck.duckdb").write_bytes(b"no database" * 1000)
    with pytest.raises(TaskError, match=r"databases/duck\.duckdb: cannot be read as a database") as told:
        own(project)
    assert str(elsewhere) not in str(told.value) and str(project / "databases") not in str(told.value)


def test_a_gold_that_fails_is_refused_when_tasks_are_made(project, monkeypatch):
    monkeypatch.chdir(project)
    write(project, [*PAIRS[:20], PAIRS[0] | {"question": "Who?", "query": "SELECT nobody FROM singer"}])
    section = {"type": "sql_databases", "path": "pairs.jsonl", "databases": "databases"}
    params = Params(environments={"mine": section}, tasks={"train": 100, "eval": 5, "ood": 0, "demonstrations": 0})
    with Judge() as judge, pytest.raises(TaskError, match=r"1 of \d+ golds cannot be read .*\n.*row 21: gold 'SELECT nobody FROM singer'"):
        generate(params, project, judge.gold_problems)


def test_a_prompt_without_the_question_is_refused():
    with pytest.raises(ValidationError, match="every task would be the same"):
        SqlDatabases(path="a", databases="b", prompt="{schema}")
