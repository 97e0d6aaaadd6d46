"""Execution match: what makes two results equal, a reason for each way to fail, and hostile statements by their effects."""

import json
import socket
import threading
from collections import Counter
from pathlib import Path

import pytest

from assay.environments import ORACLES, Task
from assay.params.verification import VerificationParams
from assay.verifiers import REASONS, Judge
from assay.verifiers.cascade import Question, open_pool, settle
from benchmarks.hostile import MIB, Usage, watched

LIMITS = {"seconds": 0.3, "memory_mib": 64, "rows": 100}
META = {
    "oracle": "sql_execution", "schema": "emp(name,age,kind,mark)", "seeds": [5, 6, 7, 8], "rows": [8, 24], "ordered": False,
    "limits": LIMITS,
}  # fmt: skip
MEMORY, WORKERS = 512, 2
PARAMS = VerificationParams(reference="none", memory_mib=MEMORY, timeout=10.0)
SECRET = "not to be read by any query"


@pytest.fixture(scope="module")
def pool():
    with open_pool(PARAMS, WORKERS, ["sql_execution", "oracle:sql_execution"]) as opened:
        yield opened


def judged(pool, *pairs, verifier="sql_execution", **meta):
    """(verdict, reason) of each (answer, gold)."""
    questions = [Question(verifier, answer, gold, json.dumps(META | meta)) for answer, gold in pairs]
    found = settle(questions, pool, 4096)
    return [(found[question].verdict, found[question].reason) for question in questions]


RIGHT, WRONG = ("correct", "equal"), ("wrong", "different")


@pytest.mark.parametrize(("answer", "gold", "expected"), [
    ("VALUES (2), (1)", "VALUES (1), (2)", RIGHT),
    ("VALUES (1), (1), (2)", "VALUES (1), (2), (2)", WRONG),
    ("VALUES (1), (2)", "VALUES (1), (2), (2)", WRONG),
    ("SELECT 1 AS x", "SELECT 1 AS y", RIGHT),
    ("SELECT name FROM main.emp", "SELECT name FROM emp", RIGHT),
    ("SELECT Main.emp.name FROM MAIN.emp", "SELECT name FROM emp", RIGHT),
    ("SELECT age(TIMESTAMP '2001-01-01', TIMESTAMP '2000-01-01')", "SELECT INTERVAL 1 YEAR", RIGHT),
    ("SELECT list_aggregate([1, 2], 'sum')", "SELECT 3", RIGHT),
    ("SELECT 1, 2", "SELECT 2, 1", WRONG),
    ("SELECT 1, 1", "SELECT 1", WRONG),
    ("SELECT 5.0::DOUBLE", "SELECT 5", RIGHT),
    ("SELECT 5.00::DECIMAL(9,2)", "SELECT 5::TINYINT", RIGHT),
    ("SELECT 0.1::DOUBLE + 0.2::DOUBLE", "SELECT 0.3", RIGHT),
    ("SELECT 0.30001", "SELECT 0.3", WRONG),
    ("SELECT 9007199254740993", "SELECT 9007199254740992", WRONG),
    ("VALUES (0.3, 'b'), (0.1::DOUBLE + 0.2::DOUBLE, 'a')", "VALUES (0.3, 'a'), (0.1::DOUBLE + 0.2::DOUBLE, 'b')", RIGHT),
    ("VALUES (0.3, 'b'), (0.4, 'a')", "VALUES (0.3, 'a'), (0.4, 'b')", WRONG),
    ("SELECT 'nan'::DOUBLE", "SELECT 'nan'::DOUBLE", RIGHT),
    ("SELECT NULL", "SELECT NULL::VARCHAR", RIGHT),
    ("SELECT NULL", "SELECT 0", WRONG),
    ("SELECT NULL", "SELECT ''", WRONG),
    ("SELECT '1'", "SELECT 1", WRONG),
    ("SELECT true", "SELECT 1", WRONG),
    ("SELECT 'A'", "SELECT 'a'", WRONG),
    ("SELECT DATE '2024-01-02'", "SELECT '2024-01-02'::DATE", RIGHT),
    ("SELECT [1, 2.0]", "SELECT [1, 2]", RIGHT),
    ("SELECT [2, 1]", "SELECT [1, 2]", WRONG),
    ("SELECT 1 WHERE false", "SELECT 2 WHERE false", RIGHT),
    ("SELECT 1 WHERE false", "SELECT 2, 3 WHERE false", RIGHT),
    ("SELECT 1 WHERE false", "SELECT 1", WRONG),
    ("```sql\nSELECT 1\n```", "SELECT 1", RIGHT),
    ("First:\n```\nSELECT 2\n```\nno,\n```sql\nSELECT 1;\n```\n", "SELECT 1", RIGHT),
    ("SELECT 1; -- done", "SELECT 1", RIGHT),
    ("select/* a comment */1", "SELECT 1", RIGHT),
])  # fmt: skip
def test_results_are_equal_by_value_as_bags_of_rows(pool, answer, gold, expected):
    assert judged(pool, (answer, gold)) == [expected]


def test_order_counts_only_where_the_task_asks_for_it(pool):
    pairs = ("SELECT name FROM emp ORDER BY age DESC", "SELECT name FROM emp ORDER BY age")
    same = ("SELECT name FROM emp ORDER BY age ASC", "SELECT name FROM emp ORDER BY age")
    assert judged(pool, pairs, same) == [RIGHT, RIGHT]
    assert judged(pool, pairs, same, ordered=True) == [WRONG, RIGHT]


@pytest.mark.parametrize(("answer", "reason"), [
    ("", "unparseable"), ("   ", "unparseable"), ("-- nothing", "unparseable"), (";", "unparseable"),
    ("SELEC name", "sql_syntax"), ("SELECT name FROM", "sql_syntax"), ("thirty", "sql_syntax"), ("SELECT 'open", "sql_syntax"),
    ("SELECT nme FROM emp", "sql_error"), ("SELECT name FROM nobody", "sql_error"), ("SELECT 1 FROM emp WHERE SUM(age) > 1", "sql_error"),
    ("SELECT name, SUM(age) FROM emp", "sql_error"), ("SELECT 'x'::INTEGER", "sql_error"), ("SELECT ?", "sql_error"),
    ("SELECT nosuch(1)", "sql_error"), ("SELECT (SELECT age FROM emp)", "sql_error"),
    ("DELETE FROM emp", "sql_forbidden"), ("SELECT 1; SELECT 2", "sql_forbidden"), ("SELECT random()", "sql_forbidden"),
    ("SELECT current_catalog", "sql_forbidden"),
    ("SELECT * FROM range(101)", "sql_rows"),
    ("SELECT COUNT(*) FROM range(100000000000)", "sql_timeout"),
    ("SELECT list(range) FROM range(100000000)", "sql_memory"),
    ("SELECT " + "(" * 1500 + "1" + ")" * 1500, "too_complex"),
    ("SELECT age FROM emp", "different"),
])  # fmt: skip
def test_each_way_to_fail_has_its_reason(pool, answer, reason):
    assert reason in REASONS
    assert judged(pool, (answer, "SELECT name FROM emp")) == [("wrong", reason)]


def test_a_result_as_long_as_the_limit_is_read(pool):
    assert judged(pool, ("SELECT * FROM range(100)", "SELECT range FROM range(0, 100)")) == [RIGHT]


def test_what_fails_because_of_gold_or_database_abstains(pool):
    abstained = ("abstain", "gold_unparseable")
    assert judged(pool, ("SELECT 1", "SELECT nobody")) == [abstained]
    assert judged(pool, ("SELECT 1", "SELECT 2"), schema="nobody(nothing)") == [abstained]
    assert judged(pool, ("SELECT 1", "SELECT 2"), files=[["/no/such/file.duckdb", "00"]]) == [abstained]
    assert judged(pool, ("SELECT 1", "SELECT 2"), rows=[8]) == [abstained]


def test_the_oracle_sees_what_is_right_by_accident_on_one_database(pool):
    """The rule's table has eight rows, whose largest age may also be that of a condition."""
    gold, luck = "SELECT MAX(age) FROM emp", None
    for value in range(10, 100):
        if judged(pool, (f"SELECT {value}", gold)) == [RIGHT]:
            luck = f"SELECT {value}"
    assert luck is not None
    assert judged(pool, (luck, gold), verifier="oracle:sql_execution") == [WRONG]
    assert judged(pool, ("SELECT age FROM emp ORDER BY age DESC LIMIT 1", gold), verifier="oracle:sql_execution") == [RIGHT]
    assert ORACLES["sql_execution"](luck, gold, META) is False
    assert ORACLES["sql_execution"]("SELECT age FROM emp ORDER BY age DESC LIMIT 1", gold, META) is True
    assert ORACLES["sql_execution"]("DROP TABLE emp", gold, META) is None


def test_a_task_is_judged_by_name_and_its_gold_checked():
    task = Task.create("sql", "train", "emp(name,age,kind,mark): all name", "SELECT name FROM emp", "sql_execution", META)
    broken = Task.create("sql", "train", "emp(name,age,kind,mark): all names", "SELECT names FROM emp", "sql_execution", META)
    with Judge(PARAMS) as judge:
        assert judge.verdict(task, "SELECT emp.name FROM emp").verdict == "correct"
        assert judge.is_correct(task, "SELECT name AS x FROM emp") and not judge.is_correct(task, "SELECT age FROM emp")
        problems = judge.gold_problems([task, broken])
    assert problems[0] is None and "sql_execution" in problems[1]


# Hostile statements. {p}: a folder of the test with a file in it; {u}: a server that counts who comes; {n}: makes four of each kind.
FORBIDDEN: dict[str, str] = {
    "insert": "INSERT INTO emp VALUES ('x', {n}, 'old', 1)",
    "update": "UPDATE emp SET age = {n}",
    "delete": "DELETE FROM emp WHERE age > {n}",
    "drop": "DROP TABLE IF EXISTS emp{n}",
    "truncate": "TRUNCATE emp /* {n} */",
    "alter": "ALTER TABLE emp ADD COLUMN c{n} INTEGER",
    "create table": "CREATE TABLE t{n} AS SELECT * FROM emp",
    "create view": "CREATE OR REPLACE VIEW emp AS SELECT {n} AS name",
    "create macro": "CREATE MACRO m{n}(a) AS a + 1",
    "create secret": "CREATE SECRET s{n} (TYPE s3)",
    "write in a query": "WITH x AS (INSERT INTO emp VALUES ('x', {n}, 'old', 1) RETURNING name) SELECT name FROM x",
    "delete in a query": "WITH x AS (DELETE FROM emp WHERE age > {n} RETURNING name) SELECT name FROM x",
    "attach": "ATTACH '{p}/new{n}.duckdb' AS a",
    "attach sqlite": "ATTACH '{p}/new{n}.db' (TYPE sqlite)",
    "detach": "DETACH memory{n}",
    "copy out": "COPY emp TO '{p}/out{n}.csv'",
    "copy query out": "COPY (SELECT {n}) TO '{p}/out{n}.parquet' (FORMAT parquet)",
    "copy in": "COPY emp FROM '{p}/secret.txt' /* {n} */",
    "export": "EXPORT DATABASE '{p}/export{n}'",
    "import": "IMPORT DATABASE '{p}/export{n}'",
    "install": "INSTALL httpfs FROM '{u}/{n}'",
    "load": "LOAD '{p}/x{n}.duckdb_extension'",
    "pragma": "PRAGMA threads={n}",
    "pragma function": "PRAGMA table_info('emp'); -- {n}",
    "set": "SET memory_limit = '{n}GB'",
    "set access": "SET enable_external_access = true -- {n}",
    "reset": "RESET memory_limit /* {n} */",
    "set variable": "SET VARIABLE v{n} = 1",
    "use": "USE database_{n}",
    "call": "CALL pragma_version() -- {n}",
    "checkpoint": "FORCE CHECKPOINT -- {n}",
    "vacuum": "VACUUM emp -- {n}",
    "transaction": "BEGIN TRANSACTION; DELETE FROM emp WHERE age = {n}; COMMIT",
    "prepare": "PREPARE p{n} AS SELECT 1",
    "explain": "EXPLAIN ANALYZE SELECT {n}",
    "describe": "SELECT {n} FROM (DESCRIBE emp)",
    "many statements": "SELECT {n}; SELECT name FROM emp",
    "hundreds of statements": "SELECT {n};" * 300,
    "statement after a comment": "SELECT name FROM emp; /* {n} */ DROP TABLE emp -- ",
    "statement in another line": "SELECT name FROM emp --\n; COPY emp TO '{p}/out{n}.csv'",
    "read_csv": "SELECT * FROM read_csv('{p}/secret.txt', header = false) LIMIT {n}",
    "read_csv_auto": "SELECT * FROM read_csv_auto(['{p}/secret.txt']) LIMIT {n}",
    "read_text": "SELECT content FROM read_text('{p}/secret.txt') LIMIT {n}",
    "read_blob": "SELECT content::VARCHAR FROM read_blob('{p}/s*') LIMIT {n}",
    "read_parquet": "SELECT * FROM read_parquet('{p}/{n}.parquet')",
    "read_json": "SELECT * FROM read_json_auto('{p}/secret.txt') LIMIT {n}",
    "read_duckdb": "SELECT * FROM read_duckdb('{p}/{n}.duckdb')",
    "file as a table": "SELECT * FROM '{p}/{n}.csv'",
    "file in a subquery": "SELECT (SELECT content FROM read_text('{p}/secret.txt')) LIMIT {n}",
    "file in a comparison": "SELECT 1 WHERE EXISTS (FROM read_text('{p}/secret.txt')) OR {n} > 0",
    "file in capitals": "SELECT content FROM READ_TEXT('{p}/secret.txt') LIMIT {n}",
    "file in quotes": 'SELECT content FROM "read_text"(\'{p}/secret.txt\') LIMIT {n}',
    "glob": "SELECT file FROM glob('{p}/*') LIMIT {n}",
    "sniff": "SELECT * FROM sniff_csv('{p}/secret.txt') LIMIT {n}",
    "query function": "SELECT * FROM query('SELECT content FROM read_text(''{p}/secret.txt'')') LIMIT {n}",
    "query_table": "SELECT * FROM query_table('emp') LIMIT {n}",
    "serialized query": "SELECT * FROM json_execute_serialized_sql(json_serialize_sql('SELECT {n}'))",
    "http": "SELECT * FROM read_csv('{u}/{n}.csv')",
    "http table": "SELECT * FROM '{u}/{n}.parquet'",
    "s3": "SELECT * FROM read_parquet('s3://bucket/{n}.parquet')",
    "environment": "SELECT getenv('HOME') || '{n}'",
    "settings": "SELECT current_setting('home_directory') || '{n}'",
    "settings table": "SELECT name FROM duckdb_settings() LIMIT {n}",
    "secrets": "SELECT * FROM duckdb_secrets() LIMIT {n}",
    "catalog": "SELECT table_name FROM information_schema.tables LIMIT {n}",
    "other databases": "SELECT * FROM database_{n}.emp",
    "system table": "SELECT * FROM sqlite_master LIMIT {n}",
    "random": "SELECT name FROM emp ORDER BY random() LIMIT {n}",
    "sample": "SELECT name FROM emp USING SAMPLE {n}",
    "table sample": "SELECT name FROM emp TABLESAMPLE {n}0%",
    "clock": "SELECT current_timestamp, {n}",
    "age until today": "SELECT age(TIMESTAMP '2000-01-0{n}')",
    "age as a method": "SELECT (TIMESTAMP '2000-01-0{n}').age()",
    "quantile of a sample": "SELECT reservoir_quantile(age, 0.{n}) FROM emp",
    "the same by name": "SELECT list_aggregate([{n}, 1], 'Reservoir_quantile', 0.5)",
    "by a name that is made": "SELECT list_aggr([{n}, 1], 'reservoir' || '_quantile', 0.5)",
    "another catalog": "SELECT name FROM system.main.emp LIMIT {n}",
    "system table of main": "SELECT name FROM main.sqlite_master LIMIT {n}",
    "sleep": "SELECT sleep_ms({n}0000)",
    "log": "SELECT write_log('{n}')",
    "Python's names": "SELECT * FROM pandas_scan({n})",
    "pivot": "PIVOT emp ON kind USING SUM(age) LIMIT {n}",
}  # fmt: skip
FAILING: dict[str, tuple[str, str]] = {
    "a variable of Python": ("sql_error", "SELECT * FROM META{n}"),
    "quoted punctuation": ("sql_error", 'SELECT * FROM "emp; DROP TABLE emp --{n}"'),
    "full-width letters": ("sql_syntax", "ＳＥＬＥＣＴ ｎａｍｅ ＦＲＯＭ ｅｍｐ{n}"),
    "right-to-left mark": ("sql_error", "SELECT \u202ename\u202d{n} FROM emp"),
    "null byte": ("sql_syntax", "SELECT name FROM emp WHERE \x00 {n}"),
    "lone surrogate": ("sql_syntax", "SELECT '\ud800' || {n}"),
    "unclosed comment": ("sql_syntax", "SELECT {n} /* /* */"),
    "unclosed string": ("sql_syntax", "SELECT '{n}''"),
    "endless recursion": ("sql_timeout", "WITH RECURSIVE r AS (SELECT {n} x UNION ALL SELECT x + 1 FROM r) SELECT COUNT(*) FROM r"),
    "recursion in a circle": ("sql_timeout", "WITH RECURSIVE r AS (SELECT {n} x UNION ALL SELECT 1 - x FROM r) SELECT MAX(x) FROM r"),
    "cross join": ("sql_timeout", "SELECT COUNT(*) FROM range(100000) a, range(100000) b, range({n}) c"),
    "billion rows": ("sql_timeout", "SELECT SUM(range % {n}) FROM range(1000000000000)"),
    "endless rows": ("sql_rows", "WITH RECURSIVE r AS (SELECT {n} x UNION ALL SELECT x + 1 FROM r) SELECT x FROM r"),
    "billions of rows": ("sql_rows", "SELECT range + {n} FROM range(1000000000000)"),
    "doubling text": ("sql_memory", "WITH RECURSIVE r AS (SELECT '{n}' x UNION ALL SELECT x || x FROM r) SELECT MAX(LENGTH(x)) FROM r"),
    "huge text": ("sql_memory", "SELECT repeat('{n}', 1000000000)"),
    "huge list": ("sql_memory", "SELECT range(1{n}00000000)"),
    "huge aggregate": ("sql_memory", "SELECT string_agg(range::VARCHAR, '{n}') FROM range(100000000)"),
    "huge sort": ("sql_memory", "SELECT * FROM range(100000000) t(x) ORDER BY x % {n}, x DESC"),
    "huge distinct": ("sql_memory", "SELECT COUNT(DISTINCT hash(range + {n})) FROM range(1000000000)"),
    "huge unnest": ("sql_memory", "SELECT unnest(range(1{n}00000000))"),
    "huge format": ("sql_memory", "SELECT printf('%1{n}00000000d', 1)"),
    "huge group": ("sql_memory", "SELECT range + {n}, list(range) FROM range(100000000) GROUP BY range"),
    "impossible text": ("sql_error", "SELECT repeat('{n}', 100000000000)"),
    "brackets": ("too_complex", "SELECT " + "(" * 1900 + "{n}" + ")" * 1900),
    "many negations": ("too_complex", "SELECT " + "NOT " * 1000 + "{n} > 1"),
    "long sum": ("too_complex", "SELECT {n}" + "+1" * 1900),
    "nested queries": ("too_complex", "SELECT " + "(SELECT " * 350 + "{n}" + ")" * 350),
    "nested lists": ("too_complex", "SELECT " + "[" * 1900 + "{n}" + "]" * 1900),
}  # fmt: skip
ANY_WRONG: dict[str, str] = {
    "sixty joins": "SELECT COUNT(*) FROM " + ",".join(f"emp e{i}" for i in range(60)) + " WHERE {n} > 0",
    "hundreds of unions": " UNION ".join(["SELECT {n}"] * 250),
    "thousands of columns": "SELECT " + ", ".join(["{n}"] * 1300),
    "backtracking": "SELECT regexp_matches(repeat('a', 1000{n}), '(a+)+$')",
    "huge padding": "SELECT lpad('x', 200000000{n}, 'y')",
    "huge number": "SELECT 9{n}" + "9" * 3000,
    "huge power": "SELECT {n} ^ 1000000",
    "nested cases": "SELECT " + "CASE WHEN true THEN " * 150 + "{n}" + " END" * 150,
}
"""Expensive, or nearly: any reason, as long as it is no right answer and no other question suffers."""
COPIES = 4
PATIENT = META | {"limits": LIMITS | {"seconds": 2.0}}
"""For what is to end at the memory's limit: on a busy machine it may not get there in the others' third of a second."""


def hostile(folder: Path, address: str) -> list[tuple[str, str, set[str]]]:
    """(kind, statement, reasons that are right)."""
    kinds = [(kind, text, {"sql_forbidden"}) for kind, text in FORBIDDEN.items()]
    kinds += [(kind, text, {reason}) for kind, (reason, text) in FAILING.items()]
    limits = {"sql_memory", "sql_timeout", "sql_error", "sql_rows", "too_complex", "sql_syntax", "different", "timeout", "memory"}
    kinds += [(kind, text, limits) for kind, text in ANY_WRONG.items()]
    return [
        (kind, text.replace("{p}", str(folder)).replace("{u}", address).replace("{n}", str(copy + 2)), reasons)
        for copy in range(COPIES)
        for kind, text, reasons in kinds
    ]


@pytest.fixture(scope="module")
def storm(tmp_path_factory):
    """All hostile statements among ordinary ones: what was said, what they took, what is left in the folder and at the server."""
    folder = tmp_path_factory.mktemp("prey")
    (folder / "secret.txt").write_text(SECRET)
    before = {file.name: (file.stat().st_mtime_ns, file.read_bytes()) for file in folder.iterdir()}
    visits: list[tuple] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.1)
        over = threading.Event()

        def count_visits() -> None:
            while not over.is_set():
                try:
                    visits.append(server.accept())
                except TimeoutError:
                    continue

        listener = threading.Thread(target=count_visits)
        listener.start()
        statements = hostile(folder, f"http://127.0.0.1:{server.getsockname()[1]}")
        asked, ordinary = [], []
        for place, (_, statement, reasons) in enumerate(statements):
            meta = PATIENT if reasons == {"sql_memory"} else META
            asked.append(Question("sql_execution", statement, f"SELECT '{SECRET}'", json.dumps(meta)))
            calm = f"SELECT name FROM emp WHERE {place} = {place}"
            ordinary.append(Question("sql_execution", calm, "SELECT name FROM emp", json.dumps(META)))
        mixed = [question for pair in zip(asked, ordinary, strict=True) for question in pair]
        with watched() as usage, open_pool(PARAMS, WORKERS, ["sql_execution"]) as pool:
            found = settle(mixed, pool, 4096)
        over.set()
        listener.join()
    after = {file.name: (file.stat().st_mtime_ns, file.read_bytes()) for file in folder.iterdir()}
    said = [(kind, reasons, found[question]) for (kind, _, reasons), question in zip(statements, asked, strict=True)]
    return said, [found[question] for question in ordinary], usage, before == after, visits


def test_there_are_hundreds_of_hostile_statements_and_no_two_are_equal(storm):
    statements = hostile(Path("/tmp"), "http://127.0.0.1:1")
    assert len(FORBIDDEN) + len(FAILING) + len(ANY_WRONG) > 100
    assert len(statements) == len(storm[0]) > 400
    assert len({text for _, text, _ in statements}) > 400


def test_each_hostile_statement_gets_its_reason(storm):
    bad = [(kind, finding) for kind, reasons, finding in storm[0] if finding.reason not in reasons]
    assert bad == []
    assert all(finding.verdict == "wrong" for kind, _, finding in storm[0] if kind not in ANY_WRONG)
    assert Counter(finding.verdict for _, _, finding in storm[0])["correct"] == 0


def test_every_ordinary_statement_among_them_gets_its_own_verdict(storm):
    """Also that nothing hostile has changed the tables, or a setting, for the ones after it."""
    assert {(finding.verdict, finding.reason) for finding in storm[1]} == {RIGHT}


def test_no_file_is_made_or_changed_and_none_is_read(storm):
    """Had one been read, its text would have been the gold's, and the answer right."""
    assert storm[3]


def test_nobody_reaches_for_the_network(storm):
    assert storm[4] == []


def test_no_process_survives_and_memory_stays_bounded(storm):
    usage: Usage = storm[2]
    assert usage.left == []
    assert usage.peak - usage.own < (WORKERS + 1) * MEMORY * MIB  # this process has imported what other tests needed
