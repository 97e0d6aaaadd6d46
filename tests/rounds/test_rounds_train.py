"""Rounds of one iteration in one process: what a stopped one does when it goes on."""

from dataclasses import replace
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from assay.rollouts.plan import PlannedFrom
from assay.rollouts.progress import Reporter
from assay.rounds import further
from assay.rounds import train as rounds
from assay.rounds.gates import AbstentionError, check_abstentions
from assay.rounds.journal import Journal
from assay.trajectories import file_digest, read_table


def stop_after(number):
    def watch(report):
        if report.round == number:
            raise KeyboardInterrupt

    return watch


@pytest.mark.long  # test_rounds_journal.py plays the same without a model
def test_a_lagging_sampler_is_found_again_after_a_stop(iteration):
    lagging = {"rounds": 6, "tasks_per_round": 2, "steps_per_round": 1, "max_staleness": 2}
    params = iteration.params(fused=lagging, filter={"max_mismatch": 10.0, "zero_variance_groups": False})
    with pytest.raises(KeyboardInterrupt):
        iteration.train(params, stop_after(4))  # round 5 is sampled by the policy of round 3
    iteration.train(params)
    rows = read_table("trajectories", iteration.places.out)
    assert {(row["round"], row["policy"]) for row in rows.to_pylist()} == {(r, "0" if r < 3 else "0.3") for r in range(6)}
    assert (iteration.places.next_model / "policy/model.safetensors").is_file()


def test_what_depends_on_the_run_alone_is_made_once_for_all_rounds(iteration, monkeypatch):
    made = []

    def counted(name, make):
        def called(*arguments):
            made.append(name)
            return make(*arguments)

        return called

    monkeypatch.setattr(PlannedFrom, "of", staticmethod(counted("tasks", PlannedFrom.of)))
    monkeypatch.setattr(further, "pool_for", counted("workers", further.pool_for))
    monkeypatch.setattr(further, "derive", counted("derive", further.derive))
    judging = {"share": 1.0, "group_size": 2, "max_tokens": 4}
    size = {"rounds": 3, "tasks_per_round": 2, "steps_per_round": 1}
    iteration.train(iteration.params(fused=size, self_verification=judging))
    assert sorted(made) == ["derive"] * 3 + ["tasks", "workers"]


def test_long_parts_of_a_round_say_how_far_they_are(iteration, monkeypatch, capsys):
    monkeypatch.setattr("assay.rounds.lines.LINE_EVERY", 0.0)
    monkeypatch.setattr(rounds, "Reporter", partial(Reporter, line_every=0.0))
    size = {"rounds": 1, "tasks_per_round": 4, "steps_per_round": 1}
    iteration.train(iteration.params(fused=size, filter={"max_mismatch": 10.0, "zero_variance_groups": False}))
    printed = capsys.readouterr()
    assert "policy 0, round: " in printed.err and " of 12 completions" in printed.err
    assert f"log-probabilities under {iteration.places.model / 'policy'}: 8 of 8 rows" in printed.out


def digests(folder):
    return {str(file.relative_to(folder)): file_digest(file) for file in sorted(folder.rglob("*")) if file.is_file()}


def test_states_that_are_written_now_and_then_only_change_nothing_but_what_a_stopped_run_plays_again(iteration, tmp_path):
    params = iteration.params(fused={"rounds": 5, "tasks_per_round": 4, "steps_per_round": 1})
    iteration.train(params)
    wanted = digests(iteration.places.out), digests(iteration.places.next_model)
    places = replace(iteration.places, out=tmp_path / "b/tables", next_model=tmp_path / "b/1", scratch=tmp_path / "b/scratch")
    sparse = replace(iteration, places=places)
    played = []

    def stopping(number):
        def watch(report):
            played.append(report.round)
            stop_after(number)(report)

        return watch

    for last in (1, 3):  # before there is any state, and after the one of round 2
        with pytest.raises(KeyboardInterrupt):
            sparse.train(params, stopping(last), state_every=3)
    assert Journal(places.scratch).completed() == 3
    sparse.train(params, stopping(None), state_every=3)
    assert played == [0, 1, 0, 1, 2, 3, 3, 4]
    assert (digests(places.out), digests(places.next_model)) == wanted


def abstaining(verdicts, share):
    """The same verdicts, of which the first `share` of the rule's abstain."""
    last = share * pc.sum(pc.equal(verdicts["role"], "rule")).as_py()
    seen = pc.cumulative_sum(pc.cast(pc.equal(verdicts["role"], "rule"), "int64"))
    silent = pc.and_(pc.equal(verdicts["role"], "rule"), pc.less_equal(seen, last))
    for name, said in (("verdict", "abstain"), ("reason", "crash"), ("score", None)):
        column = pc.if_else(silent, pa.scalar(said, verdicts[name].type), verdicts[name])
        verdicts = verdicts.set_column(verdicts.schema.get_field_index(name), verdicts.schema.field(name), column)
    return verdicts


def test_a_round_whose_rule_abstains_too_often_is_not_trained_on_and_a_higher_limit_goes_on(iteration, monkeypatch):
    size = {"fused": {"rounds": 3, "tasks_per_round": 4, "steps_per_round": 1}}
    with pytest.raises(KeyboardInterrupt):
        iteration.train(iteration.params(**size), stop_after(0))
    verify = rounds.verify

    def crashing(*arguments, **named):
        verified = verify(*arguments, **named)
        return replace(verified, verdicts=abstaining(verified.verdicts, 0.5))

    monkeypatch.setattr(rounds, "verify", crashing)
    gated = replace(iteration, places=replace(iteration.places, gates=iteration.root / "gates"))
    said = r"round 2: the rule abstained on 4 of 8 answers \(4 crash\), more than .*limit \(0\.05\)"
    with pytest.raises(AbstentionError, match=said) as stopped:
        gated.train(iteration.params(**size))
    assert Journal(gated.places.scratch).completed() == 1
    in_flight = gated.places.scratch / "round-in-flight"
    assert str(in_flight) in str(stopped.value) and len(read_table("verdicts", in_flight / "verdicts.parquet"))
    with pytest.raises(KeyboardInterrupt):
        gated.train(iteration.params(**size, verification={"abstain_limit": 0.5}), stop_after(1))
    assert Journal(gated.places.scratch).completed() == 2


def rule_verdicts(environments, answers_per_task=2):
    """Verdicts of the rule, and for each its environment and task. environments: per name, answers and how many abstain."""
    rows, of = [], {}
    for name, (answers, silent) in environments.items():
        for index in range(answers):
            said = {"verdict": "abstain", "reason": "timeout"} if index < silent else {"verdict": "wrong", "reason": "different"}
            rows.append({"trajectory_id": f"{name}-{index}", "role": "rule"} | said)
            of[f"{name}-{index}"] = name, f"{name} task {index // answers_per_task}"
    return pa.Table.from_pylist(rows), of


def test_one_abstention_stops_a_small_round_only_where_none_is_allowed(iteration, tmp_path):
    given = rule_verdicts({"sums": (4, 1)})
    check_abstentions(*given, iteration.params(), 3, tmp_path)
    with pytest.raises(AbstentionError):
        check_abstentions(*given, iteration.params(verification={"abstain_limit": 0.0}), 3, tmp_path)


def test_one_environment_of_a_mixture_that_cannot_be_judged_stops_the_round(iteration, tmp_path):
    check_abstentions(*rule_verdicts({"sums": (96, 0), "sql": (4, 2)}), iteration.params(), 3, tmp_path)  # one task: its gold, perhaps
    said = r"round 4: the rule abstained on 4 of 4 answers of environment sql \(4 timeout\), more than"
    with pytest.raises(AbstentionError, match=said):
        check_abstentions(*rule_verdicts({"sums": (96, 0), "sql": (4, 4)}), iteration.params(), 3, tmp_path)
    check_abstentions(*rule_verdicts({"sums": (992, 0), "sql": (32, 3)}), iteration.params(), 3, tmp_path)  # 9 %, which may be chance
    check_abstentions(*rule_verdicts({"sql": (100, 4)}), iteration.params(), 3, tmp_path)
