"""The pool keeps what ordinary items are owed, whatever the others do, and leaves nothing behind."""

import contextlib
import socket
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from assay.isolation import IsolationError, Outcome, Pool

sys.path.insert(0, str(Path(__file__).parent))
FUNCTION = "isolation_items:act"
MEMORY = 128


@pytest.fixture(scope="module")
def pool():
    with Pool(FUNCTION, workers=2, timeout=2.0, memory_mib=MEMORY) as pool:
        yield pool


def below() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)


@pytest.mark.parametrize(
    ("kind", "failure", "detail"),
    [
        ("hang", "timeout", "2 s"),
        ("power", "timeout", "2 s"),
        ("eat", "memory", "MemoryError"),
        ("swallow", "memory", "limit was reached"),
        ("segfault", "crash", "SIGSEGV"),
        ("raise", "error", "ValueError: xxx"),
        ("leave", "error", "SystemExit: 4"),
        ("unpicklable", "error", "cannot be sent"),
        ("unreadable", "error", "Unreadable, whose message cannot be read"),
    ],
)
def test_a_bad_item_fails_with_its_reason_and_the_others_keep_their_values(pool, kind, failure, detail):
    items = [("ok", number) for number in range(40)]
    items[7:7] = [(kind, None)]
    outcomes = pool.map(items)
    assert outcomes[7].failure == failure
    assert detail in outcomes[7].detail
    assert len(outcomes[7].detail) <= 500
    assert [outcome.value for position, outcome in enumerate(outcomes) if position != 7] == list(range(40))


def test_exit_code_is_reported(pool):
    assert pool.map([("exit", 3)]) == [Outcome(None, "crash", "ended itself with code 3")]


def test_many_bad_items_at_once_cost_no_other_item_its_value(pool):
    bad = {"exit": "crash", "eat": "memory", "segfault": "crash", "raise": "error", "hang": "timeout"}
    kinds = ["ok", "exit", "ok", "ok", "eat", "segfault", "ok", "raise"] * 6 + ["hang", "ok"]
    outcomes = pool.map([(kind, 1) for kind in kinds])
    assert [outcome.failure for outcome in outcomes] == [bad.get(kind) for kind in kinds]
    assert all(outcome.value == 1 for outcome, kind in zip(outcomes, kinds, strict=True) if kind == "ok")


def test_memory_of_a_worker_stays_below_its_limit():
    others, own = set(below()), psutil.Process().cmdline()
    peaks, ended = [0], threading.Event()

    def watch() -> None:
        while not ended.wait(0.001):
            for process in set(below()) - others:  # other tests of this process may have left helpers of their own
                with contextlib.suppress(psutil.NoSuchProcess):
                    if process.cmdline() != own:  # forked, but no program of its own yet: its memory is this process's
                        peaks.append(process.memory_info().vms)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        with Pool(FUNCTION, workers=2, timeout=5.0, memory_mib=MEMORY) as pool:
            pool.map([("sleep", 0.05)] * 2)
            before = max(peaks)
            pool.map([("eat", 1)] * 4)
    finally:
        ended.set()
        watcher.join()
    assert before + MEMORY / 2 * 2**20 < max(peaks) <= before + (MEMORY + 8) * 2**20


def test_results_do_not_depend_on_the_number_of_workers():
    items = [("ok", number) for number in range(300)] + [("exit", 1), ("eat", 1), ("raise", 1)]
    results = []
    for workers in (1, 3):
        with Pool(FUNCTION, workers, 5.0, MEMORY) as pool:
            results.append(pool.map(items))
    assert results[0] == results[1]
    assert len({outcome.value for outcome in results[0][:300]}) == 300


def test_more_than_one_worker_works(pool):
    assert (
        len({outcome.value for outcome in pool.map([("pid",), ("sleep", 0.3), ("pid",), ("sleep", 0.3), ("pid",)])})
        >= 3
    )


def test_slow_items_within_the_limit_are_never_ended_for_the_time_of_others(pool):
    assert [o.failure for o in pool.map([("sleep", 0.8)] * 8)] == [None] * 8


def test_workers_know_nothing_of_the_parent(pool, tmp_path):
    with open(tmp_path / "open", "w") as kept:
        kept.write("x")
        sees = pool.map([("sees",)])[0].value
    assert sees["environment"] == {}
    assert not sees["modules"]
    assert {sees["descriptors"][number] for number in "012"} == {"/dev/null"}
    others = [target for number, target in sees["descriptors"].items() if number not in "012"]
    assert len([target for target in others if target.startswith("socket:")]) == 1
    assert not [target for target in others if "open" in target]


def test_no_network(pool):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        refused, raw = pool.map([("connect", ("127.0.0.1", port)), ("raw_connect", port)])
        assert refused.failure == "error"
        assert "no network in a worker" in refused.detail
        assert pool.network in ("namespace", "audit")
        if pool.network == "namespace":
            assert raw.value != 0
            server.settimeout(0.2)
            with pytest.raises(TimeoutError):
                server.accept()


def test_files_cannot_be_written_into(pool, tmp_path):
    target = tmp_path / "written"
    assert pool.map([("write", str(target))])[0].failure == "error"
    assert not target.exists() or target.stat().st_size == 0


def test_what_an_item_starts_ends_with_it(pool):
    seconds = 86_417.25
    assert pool.map([("children", seconds), ("ok", 1)])[1].value == 1
    wait_until_none(seconds)


def sleepers(seconds: float) -> list[psutil.Process]:
    return [p for p in psutil.process_iter(["cmdline"]) if p.info["cmdline"] == ["sleep", str(seconds)]]


def wait_until_none(seconds: float) -> None:
    end = time.monotonic() + 5
    while left := sleepers(seconds):
        assert time.monotonic() < end, left
        time.sleep(0.05)


def test_a_thread_or_a_process_that_an_item_leaves_ends_and_no_later_item_runs_beside_it():
    with Pool(FUNCTION, 1, 5.0, MEMORY) as pool:
        first, second, *others = (o.value for o in pool.map([("leave_thread",), ("leave_child", 86_418.25), ("pid",), ("pid",)]))
        assert len({first, second, others[0]}) == 3 and others[0] == others[1]
        wait_until_none(86_418.25)
        assert not psutil.pid_exists(first) and not psutil.pid_exists(second)


def test_processes_of_an_item_are_limited_in_number(pool):
    outcomes = pool.map([("ok", 1), ("many_children", 86_419.25), ("ok", 2)])
    assert [outcome.value for outcome in outcomes] == [1, None, 2]
    assert outcomes[1].failure == "crash" and "processes of its own, more than 64" in outcomes[1].detail
    wait_until_none(86_419.25)


def test_processes_of_an_item_share_its_memory():
    with Pool(FUNCTION, 1, 20.0, MEMORY) as pool:
        outcomes = pool.map([("children_eat", MEMORY * 2**20 // 2), ("ok", 1)])
    assert outcomes[0].failure == "memory" and "processes" in outcomes[0].detail
    assert outcomes[1].value == 1


@pytest.mark.parametrize("kind", ["fork", "fork_raise"])
def test_a_forked_child_that_comes_back_answers_nothing(kind):
    with Pool(FUNCTION, 1, 5.0, MEMORY) as pool:
        outcomes = pool.map([("ok", number) if number % 2 else (kind,) for number in range(40)])
        assert [outcome.value for outcome in outcomes[1::2]] == list(range(1, 40, 2))
        assert [outcome.failure for outcome in outcomes] == [None] * 40


def test_an_item_ends_its_own_processes_and_no_others(pool):
    refused, group, own = pool.map([("signal", 0), ("signal", -1), ("end_own_child",)])
    assert refused.failure == group.failure == "error" and "ends no processes but its own" in refused.detail
    assert own.value == "ended"


def test_no_value_of_a_worker_runs_code_in_the_parent(pool, tmp_path):
    outcomes = pool.map([("calls", str(tmp_path / "made")), ("ok", {"a": (1, [None, True, 0.5, b"x"])})])
    assert outcomes == [Outcome(None, "crash", outcomes[0].detail), Outcome({"a": (1, [None, True, 0.5, b"x"])})]
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("forged", [
    b"\x05" + bytes(7) + b"hello", b"\xff" * 8, None, 5, (), ("done",), ("failed", "error", 5), ("failed", "anything", ""), ("bye",),
    ("ready",), ("broken", "why"),
])  # fmt: skip
def test_what_no_worker_says_is_a_crash_of_the_item_that_said_it(forged):
    with Pool(FUNCTION, 1, 2.0, MEMORY) as pool:
        outcomes = pool.map([("ok", 1), ("forge", forged), ("ok", 2), ("ok", 3)])
    assert [outcome.value for outcome in outcomes] == [1, None, 2, 3]
    assert outcomes[1].failure == "crash"


def test_nothing_is_left_after_the_block():
    before = set(below())
    with Pool(FUNCTION, 2, 5.0, MEMORY) as pool:
        pool.map([("sleep", 0.2)] * 4)
        assert len(set(below()) - before) == 3
    assert set(below()) <= before


def test_an_exception_in_the_middle_leaves_nothing_and_the_pool_starts_anew():
    before = set(below())

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with Pool(FUNCTION, 2, 5.0, MEMORY) as pool:
        with pytest.raises(KeyboardInterrupt):
            pool.map([("sleep", 0.01)] * 50, progress=stop)
        assert set(below()) <= before
        assert pool.map([("ok", 5)]) == [Outcome(5)]


def test_progress_counts_every_item_once(pool):
    seen = []
    pool.map([("ok", 1)] * 30 + [("exit", 1)], progress=lambda done, total: seen.append((done, total)))
    assert seen == [(number, 31) for number in range(1, 32)]


def test_no_items_start_nothing():
    before = set(below())
    with Pool("no_such_module:function", 1, 1.0, MEMORY) as pool:
        assert pool.map([]) == []
        assert set(below()) == before


@pytest.mark.parametrize("function", ["no_such_module:function", "isolation_items:no_such_function"])
def test_a_function_that_cannot_be_imported_is_an_error_of_the_pool(function):
    with Pool(function, 1, 1.0, MEMORY) as pool, pytest.raises(IsolationError, match="no_such"):
        pool.map([("ok", 1)])


def test_a_pool_whose_helper_is_killed_says_so():
    before = set(below())
    with Pool(FUNCTION, 1, 20.0, MEMORY) as pool:
        pool.map([("ok", 1)])
        for process in set(below()) - before:
            if process.ppid() == psutil.Process().pid:
                process.kill()
        with pytest.raises(IsolationError, match="is gone"):
            pool.map([("sleep", 10)])
    assert set(below()) <= before


def test_large_items_and_values_pass(pool):
    text = "x" * 5_000_000
    assert pool.map([("ok", text)] * 3) == [Outcome(text)] * 3


@pytest.mark.parametrize("wrong", [{"workers": 0}, {"timeout": 0}, {"memory_mib": 0}])
def test_senseless_limits_are_refused(wrong):
    with pytest.raises(IsolationError, match="needs at least"):
        Pool(FUNCTION, **({"workers": 1, "timeout": 1.0, "memory_mib": 1} | wrong))
