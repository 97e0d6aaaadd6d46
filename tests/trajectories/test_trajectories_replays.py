"""Replays are versions: the shards of the version that was judged again, by hash, and new verdicts beside them."""

import json
import shutil
from collections import Counter

import pytest
from synthetic_record import write_run

from assay.cli.replay import SHARD, ReplayFailure, replay, store_replay
from assay.params.verification import VerificationParams
from assay.trajectories import QueryError, query, read_table, rebuild, sync
from assay.trajectories.warehouse import WAREHOUSE

NUMERIC = VerificationParams(rule="numeric")
PAIRS = """
SELECT o.verdict AS before, n.verdict AS after, count(*) AS rows
FROM verdicts AS o JOIN verdicts AS n USING (trajectory_id) WHERE o.role = 'rule' AND n.role = 'replayed' GROUP BY ALL
"""


def pairs(root, version: str) -> dict[tuple[str, str], int]:
    return {(row["before"], row["after"]): row["rows"] for row in query(PAIRS, root, version=version).to_pylist()}


def counted(root, version: str, table: str, where: str = "true") -> int:
    found: int = query(f"SELECT count(*) AS n FROM {table} WHERE {where}", root, version=version)["n"][0].as_py()
    return found


@pytest.fixture
def replayed(project):
    """The project with replay/again: all of the tag `baseline`, whose rule is string match, by numeric comparison."""
    sync(project.root)
    project.said = store_replay("baseline", "again", project.root, NUMERIC, 1)
    sync(project.root)
    return project


def test_both_verdicts_stand_side_by_side(replayed):
    root = replayed.root
    found = pairs(root, "replay/again")
    assert sum(found.values()) == counted(root, "baseline", "trajectories")
    # The stricter rule rejects 2/4 for 1/2, and neither verifier accepts what the other one knows to be wrong.
    assert found["wrong", "correct"] > 0 and found["correct", "correct"] > 0 and ("correct", "wrong") not in found
    reference = "SELECT r.verdict, n.verdict AS new, count(*) AS n FROM verdicts AS r JOIN verdicts AS n USING (trajectory_id) " \
        "WHERE r.role = 'reference' AND n.role = 'replayed' GROUP BY ALL"  # fmt: skip
    assert {(row["verdict"], row["new"]) for row in query(reference, root, version="replay/again").to_pylist()} == {
        ("correct", "correct"), ("wrong", "wrong")
    }  # fmt: skip
    for table in ("tasks", "trajectories", "batches", "evaluations"):
        assert counted(root, "replay/again", table) == counted(root, "baseline", table) > 0
    assert counted(root, "replay/again", "verdicts", "role <> 'replayed'") == counted(root, "baseline", "verdicts")
    assert counted(root, "baseline", "verdicts", "role = 'replayed'") == 0, "the version that was judged stays as it was"
    assert counted(root, "replay/again", "verdicts", "role = 'replayed' AND observed_reward IS NOT NULL") == 0


def test_what_has_changed_is_said(replayed):
    rows = sum(pairs(replayed.root, "replay/again").values())
    first, second, *changes = replayed.said.splitlines()
    assert first == f"baseline -> {replayed.root / 'data/replays/again'}: {rows:,} trajectories judged again"
    assert second == f"rule: 0 of {rows:,} verdicts are identical", "the verifier is another one"
    assert sum(int(line.split()[0].replace(",", "")) for line in changes) == rows


def test_nothing_is_copied_but_the_new_verdicts(replayed):
    folder = replayed.root / "data" / "replays" / "again"
    assert sorted(file.name for file in folder.iterdir()) == ["replay.json", SHARD]
    stored = query("SELECT count(*) AS n, count(DISTINCT md5) AS m FROM parts", replayed.root).to_pylist()[0]
    assert stored["n"] == stored["m"]
    rows = read_table("verdicts", folder / SHARD)
    assert set(rows["role"].to_pylist()) == {"replayed"} and set(rows["verifier"].to_pylist()) == {"numeric"}
    (version,) = query("SELECT kind, parents, params FROM versions WHERE name = 'replay/again'", replayed.root).to_pylist()
    baseline = query("SELECT version FROM version_names WHERE name = 'baseline'", replayed.root)["version"][0].as_py()
    assert (version["kind"], version["parents"]) == ("replay", [baseline])
    assert json.loads(version["params"])["verification"]["rule"] == "numeric"


def test_chosen_iterations_or_a_folder_of_the_pipeline(replayed):
    root = replayed.root
    store_replay("baseline:1", "second", root, NUMERIC, 1)
    store_replay(str(root / "data/rollout/0"), "folder", root, NUMERIC, 1)
    sync(root)
    assert sum(pairs(root, "replay/second").values()) == counted(root, "baseline", "trajectories", "iteration = 1")
    shown = read_table("trajectories", root / "data/rollout/0")["trajectory_id"].to_pylist()
    ids = query("SELECT trajectory_id FROM verdicts WHERE role = 'replayed'", root, version="replay/folder")["trajectory_id"].to_pylist()
    assert Counter(ids) == Counter(shown)
    parents = query("SELECT parents FROM versions WHERE name = 'replay/folder'", root)["parents"][0].as_py()
    current = query("SELECT version FROM version_names WHERE name = 'current'", root)["version"][0].as_py()
    assert parents == [current]


def test_a_replay_outlives_the_version_and_a_rebuild(replayed):
    root = replayed.root
    before = pairs(root, "replay/again")
    shutil.rmtree(root / "data" / "rollout")
    (root / WAREHOUSE).unlink()
    sync(root)
    assert pairs(root, "replay/again") == before, "its shards are found in DVC's cache"
    report, lost = rebuild(root)
    assert (lost, report.notes, pairs(root, "replay/again")) == ([], [], before)
    shutil.rmtree(root / "data" / "replays" / "again")
    sync(root)
    with pytest.raises(QueryError, match='there is no version "replay/again"'):
        pairs(root, "replay/again")
    assert counted(root, "baseline", "trajectories") == sum(before.values())


def test_a_replay_of_uncommitted_work_stays_when_the_work_goes_on(replayed):
    root = replayed.root
    for seed in (1, 2):
        for folder in ("tasks", "rollout", "verify", "models", "filter", "update", "finish", "evaluate"):
            shutil.rmtree(root / "made" / "tolerant" / folder)
        write_run(root / "made" / "tolerant", 2, seed=seed)
        replayed.script("dvc repro -q")
        sync(root)
        if seed == 1:
            store_replay("current:0", "passing", root, NUMERIC, 1)
            sync(root)
            before, (name,) = pairs(root, "replay/passing"), query("SELECT parents FROM versions WHERE name = 'replay/passing'", root)
    assert name[0].as_py() == ["workspace"]
    assert pairs(root, "replay/passing") == before and sum(before.values()) > 0
    shown, kept = (set(query("SELECT task_id FROM tasks", root, version=v)["task_id"].to_pylist()) for v in ("current", "replay/passing"))
    assert not shown & kept, "other tasks by now"
    store_replay("replay/passing:0", "of_replay", root, VerificationParams(rule="string_match"), 1)
    sync(root)
    assert counted(root, "replay/of_replay", "verdicts", "role = 'replayed'") == sum(before.values())


def test_equal_replays_are_equal_bytes_and_a_name_is_taken_once(replayed):
    folder = replayed.root / "data" / "replays" / "again"
    first = {file.name: file.read_bytes() for file in folder.iterdir()}
    with pytest.raises(ReplayFailure, match="exists already; choose another --name, or say --replace"):
        store_replay("baseline", "again", replayed.root, NUMERIC, 1)
    store_replay("baseline", "again", replayed.root, NUMERIC, 2, replace=True)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == first
    assert [path.name for path in folder.parent.iterdir()] == ["again"]


def test_without_a_name_nothing_is_kept(replayed):
    before = sorted(replayed.root.rglob("*.parquet"))
    said = replay("baseline:0", replayed.root, VerificationParams(rule="numeric", reference="none", oracle=False), 1)
    assert said.startswith("baseline:0: ") and "wrong (different) by string_match 1  ->  correct (equal) by numeric 2" in said
    assert sorted(replayed.root.rglob("*.parquet")) == before


@pytest.mark.parametrize(("what", "name", "said"), [
    ("baseline", "a/b", "the name 'a/b' cannot be a folder's"),
    ("baseline:x", "other", "expected VERSION:ITERATION"),
    ("baseline:7", "other", "has no trajectories of iteration 7"),
    ("nowhere", "other", 'there is no version "nowhere"'),
])  # fmt: skip
def test_mistakes_are_named_and_leave_nothing(replayed, what, name, said):
    with pytest.raises((ReplayFailure, QueryError)) as caught:
        store_replay(what, name, replayed.root, NUMERIC, 1)
    assert said in str(caught.value)
    assert [path.name for path in (replayed.root / "data" / "replays").iterdir()] == ["again"]
