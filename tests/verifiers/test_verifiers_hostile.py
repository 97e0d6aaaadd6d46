"""Hostile answers of every kind among ordinary ones: what they do to memory, processes, throughput and other verdicts. Effects only."""

from collections import Counter

import pytest

from assay.params.verification import VerificationParams
from assay.verifiers import REASONS
from benchmarks.hostile import COMPLETIONS, FORMULAS, MIB, Row, Usage, judge, mixture, watched

MEMORY, TIMEOUT, WORKERS = 256, 2.0, 2
PARAMS = VerificationParams(reference="none", oracle=False, memory_mib=MEMORY, timeout=TIMEOUT)
KINDS = (*FORMULAS, *COMPLETIONS)


@pytest.fixture(scope="module")
def calm() -> Usage:
    """As many ordinary answers alone."""
    with watched() as usage:
        rows = mixture(600, 0.0)
        assert [verdict for verdict, _ in judge(rows, PARAMS, WORKERS)] == [row.expected for row in rows]
    return usage


@pytest.fixture(scope="module")
def storm() -> tuple[list[Row], list[tuple[str, str]], Usage]:
    """Two answers of each hostile kind among ordinary ones, in an order by chance."""
    rows = mixture(600, 2 * len(KINDS) / 600)
    with watched() as usage:
        said = judge(rows, PARAMS, WORKERS)
    return rows, said, usage


def test_every_kind_is_there_and_no_two_answers_are_equal(storm):
    rows = storm[0]
    assert Counter(row.kind for row in rows if row.kind) == dict.fromkeys(KINDS, 2)
    assert len({(row.task.gold, row.text, row.task.task_id) for row in rows}) == len(rows) == 600
    assert sum(not row.kind for row in rows) > 350


def test_every_ordinary_answer_gets_its_own_verdict(storm):
    rows, said, _ = storm
    wrong = [(row.task.gold, row.text, what) for row, what in zip(rows, said, strict=True) if not row.kind and what[0] != row.expected]
    assert wrong == []


def test_no_hostile_answer_is_correct_and_each_has_a_reason(storm):
    rows, said, _ = storm
    for row, (verdict, reason) in zip(rows, said, strict=True):
        assert reason in REASONS
        if row.kind in COMPLETIONS:
            assert (row.kind, verdict) == (row.kind, "wrong" if COMPLETIONS[row.kind] == "different" else "abstain")
            assert (row.kind, reason) == (row.kind, COMPLETIONS[row.kind])
        elif row.kind:
            assert (row.kind, verdict) in {(row.kind, "wrong"), (row.kind, "abstain")}
            assert reason in {"too_complex", "timeout", "memory", "different", "unparseable", "too_long"}, row.kind


def test_no_process_is_left(calm, storm):
    assert calm.left == storm[2].left == []


def test_memory_of_all_processes_stays_bounded(calm, storm):
    """Beyond what ordinary answers take: the limit of each worker, and what its processes take until they are looked at."""
    assert storm[2].peak - calm.peak < WORKERS * 2 * MEMORY * MIB


def test_throughput_is_kept_as_few_answers_run_into_the_time_limit(storm):
    """Not a time, which depends on the machine: the number of answers that cost the whole limit. All others are seen through, or end."""
    rows, said, _ = storm
    slow = Counter(row.kind for row, (_, reason) in zip(rows, said, strict=True) if reason == "timeout")
    assert {kind for kind in slow if kind in COMPLETIONS} == {"hang", "spin", "stop"}
    assert slow.total() <= 6 + 20, "two of each of these, and of the formulas that are really evaluated"
    complex_ones = {row.kind for row, (_, reason) in zip(rows, said, strict=True) if reason == "too_complex"}
    assert complex_ones >= {
        "tower of powers", "factorial", "huge exponent", "sum", "product", "hyperbolic", "root of digits", "power of a sum",
    }  # fmt: skip
