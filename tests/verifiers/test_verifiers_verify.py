"""Verdicts of whole tables: roles, reasons, rewards; hostile answers hurt nobody else; nothing is asked twice."""

import json

import psutil
import pyarrow as pa
import pytest

from assay.environments import Task
from assay.isolation import Outcome
from assay.params.verification import VerificationParams
from assay.trajectories import read_table, schema, write_shard
from assay.verifiers import REASONS, VERIFIERS, VerifierError, verify_trajectories
from assay.verifiers.cascade import _finding, ask, open_pool, settle
from assay.verifiers.verdicts import Finding, wrong

PLAIN = VerificationParams(reference="none", oracle=False)


def task(gold: str, verifier: str = "string_match", meta: dict | None = None, environment: str = "own") -> Task:
    return Task.create(environment, "train", f"What is {gold}?", gold, verifier, meta)


def trajectories(*pairs: tuple[Task, str]) -> pa.Table:
    return pa.Table.from_pylist(
        [
            {
                "trajectory_id": f"t{number}",
                "iteration": 3,
                "round": 1,
                "task_id": one.task_id,
                "kind": "solution",
                "text": text,
            }
            for number, (one, text) in enumerate(pairs)
        ],
        pa.schema(
            [
                schema("trajectories").field(name)
                for name in ("trajectory_id", "iteration", "round", "task_id", "kind", "text")
            ]
        ),
    )


def verify(pairs, params=PLAIN, workers=2, **more) -> list[dict]:
    table = verify_trajectories({one.task_id: one for one, _ in pairs}, trajectories(*pairs), params, workers, **more)
    assert table.schema == schema("verdicts")
    return table.to_pylist()


def test_a_row_for_each_trajectory_and_role_in_order():
    half = task("1/2", meta={"oracle": "rational"})
    pairs = [(half, "1/2"), (half, "0.5"), (half, "3/4"), (half, "zzz"), (half, ""), (task("cat"), "act")]
    rows = verify(pairs, VerificationParams())
    assert [row["role"] for row in rows] == ["rule"] * 6 + ["reference"] * 6 + ["oracle"] * 6
    assert [row["trajectory_id"] for row in rows] == [f"t{number}" for number in range(6)] * 3
    assert {(row["iteration"], row["round"]) for row in rows} == {(3, 1)}
    found = [(row["verdict"], row["reason"]) for row in rows]
    right, other, unread, unfit = (
        ("correct", "equal"),
        ("wrong", "different"),
        ("wrong", "unparseable"),
        ("abstain", "not_applicable"),
    )
    assert found[:6] == [right, other, other, other, unread, other]
    assert found[6:12] == [right, right, other, unread, unread, unfit]
    assert found[12:] == [right, right, other, unread, unread, unfit]
    assert [row["observed_reward"] for row in rows] == [1, 0, 0, 0, 0, 0] + [None] * 12
    assert [row["score"] for row in rows[6:12]] == [1, 1, 0, 0, 0, None]
    assert [row["answer_format"] for row in rows[:6]] == ["fraction", "decimal", "fraction", "text", "empty", "text"]
    assert rows[1]["answer"] == "0.5"
    assert {row["verifier"] for row in rows[12:]} == {"oracle:rational", "none"}
    assert not any(row["appealed"] or row["flipped"] for row in rows)
    assert {reason for _, reason in found} <= set(REASONS)


def test_versions_name_the_libraries_that_verdicts_rest_on():
    import sympy

    rows = verify(
        [(task("1/2"), "1/2")], VerificationParams(rule="math_verify", reference="string_match", oracle=False)
    )
    assert [row["verifier"] for row in rows] == ["math_verify", "string_match"]
    assert f"sympy-{sympy.__version__}" in rows[0]["verifier_version"]
    assert len({spec.version for spec in VERIFIERS.values()} | {rows[0]["verifier_version"]}) >= 3


HOSTILE = [
    ("9^{9^{9^{9}}}", "too_complex"),
    ("100000000!", "too_complex"),
    ("(" * 10_000 + "1" + ")" * 10_000, "too_complex"),
    (r"\sum_{k=1}^{10^9} k^k", "too_complex"),
    (r"\prod_{k=1}^{10^8} k", "too_complex"),
    (r"\int_0^1 e^{x^x} \sin(x^x) dx", "timeout"),
]


def test_hostile_answers_abstain_with_their_reason_and_nobody_else_suffers():
    number, root = task("3/4", "math_verify"), task(r"2\sqrt{3}", "math_verify")
    pairs = []
    for hostile, _ in HOSTILE:
        pairs += [
            (number, hostile),
            (number, "0.75"),
            (root, r"\sqrt{12}"),
            (root, r"\sqrt{13}"),
            (number, r"\frac{3}{5}"),
        ]
    before = set(psutil.Process().children(recursive=True))
    params = PLAIN.model_copy(update={"max_answer_characters": 30_000, "timeout": 4.0})
    rows = verify(pairs, params)
    assert [row["reason"] for row in rows[::5]] == [reason for _, reason in HOSTILE]
    assert {row["verdict"] for row in rows[::5]} == {"abstain"}
    assert all(row["observed_reward"] is None and row["score"] is None for row in rows[::5])
    for position, verdict in ((1, "correct"), (2, "correct"), (3, "wrong"), (4, "wrong")):
        assert {row["verdict"] for row in rows[position::5]} == {verdict}
    assert set(psutil.Process().children(recursive=True)) <= before


def test_memory_and_crashes_are_abstentions_too():
    """Through the same path as every slow verifier: a scorer that is not bounded by its own care."""
    from assay.isolation import Outcome
    from assay.verifiers.cascade import _finding

    for failure in ("timeout", "memory", "crash"):
        finding = _finding(Outcome(None, failure, "x"))
        assert (finding.verdict, finding.reason, finding.score) == ("abstain", failure, None)
    finding = _finding(Outcome(None, "error", "ValueError: <object at 0x7f3a>"))
    assert (finding.verdict, finding.reason) == ("abstain", "error")
    assert json.loads(finding.components) == {"error": "ValueError: <object at 0x>"}


def test_a_long_answer_is_wrong_and_not_read():
    long = "(" * 2_048 + "1" + ")" * 2_048
    for verifier in ("math_verify", "numeric", "string_match"):
        rows = verify([(task("1", verifier), long), (task("2", verifier), "2")])
        assert [(row["verdict"], row["reason"]) for row in rows] == [("wrong", "too_long"), ("correct", "equal")]
        assert len(rows[0]["answer"]) == PLAIN.max_answer_characters


def test_gold_that_cannot_be_read_abstains_whatever_the_answer():
    bad = task(r"\frac{1}{", "math_verify")
    rows = verify([(bad, "1"), (bad, r"\frac{1}{"), (bad, "zzz"), (task("2", "math_verify"), "2")])
    assert [row["reason"] for row in rows] == ["gold_unparseable"] * 3 + ["equal"]
    assert [row["verdict"] for row in rows[:3]] == ["abstain"] * 3


def test_equal_questions_are_asked_once():
    root, other = (
        task(r"\sqrt{12}", "math_verify"),
        task(r"\sqrt{12}", "math_verify", {"note": "differs"}, "elsewhere"),
    )
    seen = []
    rows = verify(
        [(root, r"2\sqrt{3}"), (root, r"\sqrt{7}")] * 50 + [(other, r"2\sqrt{3}")] * 9,
        progress=lambda *x: seen.append(x),
    )
    assert seen == [(1, 2), (2, 2)]
    assert [row["verdict"] for row in rows[:4]] == ["correct", "wrong"] * 2
    assert {row["verdict"] for row in rows[100:]} == {"correct"}


def test_questions_that_need_no_worker_start_none():
    before = set(psutil.Process().children(recursive=True))
    questions = [
        ask("math_verify", answer, "3/4", "{}") for answer in ("3/4", "0.75", "12/", "6/9", "", "-.5", "1/0")
    ]
    with open_pool(PLAIN, 2, ["math_verify"]) as pool:
        found = settle(questions, pool, 100)
        assert set(psutil.Process().children(recursive=True)) == before
    assert [found[question].verdict for question in questions] == ["correct", "correct", *["wrong"] * 5]


def test_rows_do_not_depend_on_the_number_of_workers():
    root = task(r"2\sqrt{3}", "math_verify", {"oracle": "rational"})
    pairs = [(root, rf"\sqrt{{{number}}}") for number in range(1, 40)] + [(root, "9^{9^{9^9}}"), (root, "(")]
    tables = [
        verify_trajectories({root.task_id: root}, trajectories(*pairs), VerificationParams(), workers)
        for workers in (1, 3)
    ]
    assert tables[0].equals(tables[1])


def test_stored_trajectories_can_be_verified_again_with_another_verifier(tmp_path):
    half = task("1/2")
    source = trajectories((half, "1/2"), (half, "0.5"), (half, "1"))
    blank = {"list": [], "int": 0, "bool": False, "string": "", "float": 0.0}
    rows = [
        {
            field.name: row.get(
                field.name,
                None if field.nullable else next(v for k, v in blank.items() if str(field.type).startswith(k)),
            )
            for field in schema("trajectories")
            if field.name != "sampling"
        }
        | {
            "sampling": {
                "temperature": 1.0,
                "top_p": 1.0,
                "max_tokens": 8,
                "seed": 0,
                "engine": "x",
                "engine_version": "1",
            }
        }
        for row in source.to_pylist()
    ]
    write_shard(tmp_path / "trajectories-0000.parquet", "trajectories", rows)
    stored = read_table("trajectories", tmp_path)
    verdicts = {}
    for rule in ("string_match", "numeric", "math_verify"):
        params = VerificationParams(rule=rule, reference="none", oracle=False)
        verdicts[rule] = verify_trajectories({half.task_id: half}, stored, params, 1)["verdict"].to_pylist()
    assert verdicts["string_match"] == ["correct", "wrong", "wrong"]
    assert verdicts["numeric"] == verdicts["math_verify"] == ["correct", "correct", "wrong"]


def test_reasoning_gym_tasks_use_their_own_scorer():
    own = task("121", "reasoning_gym", {"generator": "chain_sum", "config": {}, "entry_metadata": {}})
    pairs = [(own, "121"), (own, "122"), (own, "it is 121"), (own, " ")]
    rows = verify(pairs, VerificationParams())
    assert [row["verdict"] for row in rows[:4]] == ["correct", "wrong", "wrong", "wrong"]
    assert rows[0]["score"] == 1.0
    assert 0 < rows[2]["score"] < 1, "partial credit is kept as the score, but is not correct"
    assert [row["verdict"] for row in rows[4:8]] == ["correct", "wrong", "correct", "wrong"]
    assert {row["reason"] for row in rows[8:]} == {"not_applicable"}


def test_an_oracle_that_raises_abstains():
    rows = verify([(task("cat", meta={"oracle": "rational"}), "1/2")], VerificationParams(reference="none"))
    assert [(row["role"], row["verdict"], row["reason"]) for row in rows] == [
        ("rule", "wrong", "different"),
        ("oracle", "abstain", "gold_unparseable"),
    ]


def test_mistakes_are_errors_that_name_the_place():
    half = task("1/2")
    with pytest.raises(VerifierError, match=r"trajectory t0, task \w+; give the tasks"):
        verify_trajectories({}, trajectories((half, "1")), PLAIN, 1)
    with pytest.raises(VerifierError, match="no verifier 'magic'; there are math_verify, numeric"):
        verify([(task("1", "magic"), "1")])
    with pytest.raises(VerifierError, match="oracle 'delphi'"):
        verify([(task("1", meta={"oracle": "delphi"}), "1")], VerificationParams(reference="none"))
    with pytest.raises(VerifierError, match="reads generator, config, entry_metadata from meta"):
        verify([(half, "1")], VerificationParams(rule="reasoning_gym"))


def test_a_reference_that_does_not_fit_is_not_applicable():
    rows = verify([(task("1"), "1")], VerificationParams(reference="reasoning_gym", oracle=False))
    assert [(row["verdict"], row["reason"], row["verifier"]) for row in rows] == [
        ("correct", "equal", "string_match"),
        ("abstain", "not_applicable", "none"),
    ]


def test_no_trajectories_give_an_empty_table():
    assert verify([], VerificationParams()) == []


def test_what_no_verifier_says_is_a_crash():
    forged = (5, ("correct",), Finding("right", "equal", 1.0), Finding("correct", "because", 1.0), Finding("correct", "equal", "1"))
    assert {_finding(Outcome(value)).reason for value in forged} == {"crash"}
    assert _finding(Outcome(wrong())) == wrong()
