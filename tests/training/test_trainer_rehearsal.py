"""DPH-RL's division of tasks and its rehearsal: exactly L_exp + eta L_pef, whatever the micro-batches; other policies' rows refused."""

import numpy as np
import pyarrow as pa
import pytest
import torch
from trainer_fixtures import batch_of, files_of, make_params, make_policy, make_trajectories
from transformers import AutoModelForCausalLM

from assay.objectives.divergence import generator
from assay.params.exploration import PresampleParams, Rehearsal
from assay.training.assemble import add_rehearsal
from assay.training.data import BatchError
from assay.training.ragged import Streams
from assay.training.reference import compute_logprobs
from assay.training.rehearsal import (
    RehearsalError,
    part_of,
    policy_identity,
    read_presampled,
    rehearsal_batch,
    rehearsal_rows,
    split_tasks,
)
from assay.training.update import update
from assay.trajectories import to_table, write_shard

ETA = 0.3


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    return make_policy(tmp_path_factory.mktemp("policy") / "policy")


@pytest.fixture(scope="module")
def stored(policy):
    """Nine answers of another policy than the one in training, so that the divergence is not 0."""
    return buffer(policy)


def buffer(reference, rows=9, seed=3):
    found = make_trajectories(rows, 1, seed=seed)
    found = found.set_column(found.schema.get_field_index("sample_index"), "sample_index", pa.array([2] * rows, pa.int32()))
    splits = to_table("splits", [
        {"task_id": task, "environment": "e", "samples": 2, "solved": 2, "recheck": True, "subset": "near_perfect"}
        for task in found["task_id"].to_pylist()
    ])  # fmt: skip
    logprobs = compute_logprobs(reference, Streams.from_table(found), make_params())
    column = logprobs.column(found.schema.field("sampled_logprobs").type)
    return rehearsal_rows(found, set(found["trajectory_id"].to_pylist()), splits, 2, column, policy_identity(reference))


def options(**rehearsal):
    return make_params(
        presample={"enabled": True, "samples": 2, "solved": 2},
        training={
            "rehearsal": {"coefficient": ETA, "rows_per_step": 5, **rehearsal}, "learning_rate": 5e-3, "micro_batch_size": 4,
            "max_gradient_norm": 1e9, "grpo": {"report_to": "none"},
        },
    )  # fmt: skip


def with_training(params, **changes):
    return params.model_copy(update={"training": params.training.model_copy(update=changes)})


GENERATORS = {"forward_kl": None, "js": None, "alpha": 0.5, "reverse_kl": None, "nll_replay": None}


@pytest.mark.parametrize("name", GENERATORS)
def test_a_step_is_the_policy_s_loss_plus_eta_times_the_mean_over_rehearsed_tokens(policy, tmp_path, name):
    other = make_policy(tmp_path / "other", seed=4)
    rows = buffer(other)
    alpha = GENERATORS[name]
    params = with_training(options(generator=name, alpha=alpha), steps_per_iteration=1)
    plain = batch_of(params)
    batch = add_rehearsal(plain, rows, params)
    assert len(batch) == len(plain) + 5
    result = update(policy, None, batch, params, out=tmp_path / "out", scratch=tmp_path / "s").updates.to_pylist()[0]
    alone = with_training(params, rehearsal=None)
    without = update(policy, None, plain, alone, out=tmp_path / "out2", scratch=tmp_path / "s2").updates.to_pylist()[0]

    model = AutoModelForCausalLM.from_pretrained(policy, dtype=torch.float32)
    total, tokens = 0.0, 0
    for row in batch.filter(batch["rehearsal"]).to_pylist():
        prompt, ids = row["prompt_ids"], row["completion_ids"]
        logs = torch.log_softmax(model(input_ids=torch.tensor([prompt + ids])).logits[0, len(prompt) - 1 : -1], -1)
        gap = logs[torch.arange(len(ids)), torch.tensor(ids)] - torch.tensor(row["reference_logprobs"])
        total += generator(name, gap, alpha).sum().item()
        tokens += len(ids)
    assert result["rehearsal_sum"] == pytest.approx(total, rel=1e-4)
    assert (result["rehearsal_tokens"], result["rehearsal_rows"]) == (tokens, 5)
    assert result["loss"] == pytest.approx(without["loss"] + ETA * total / tokens, rel=1e-4)
    # Nothing of the policy's own part depends on what is rehearsed beside it.
    same = ("policy_loss", "policy_sum", "entropy", "rows", "tokens", "mismatch_mean", "mismatch_max", "advantage_mean", "advantage_std")
    assert {key: result[key] for key in same} == {key: without[key] for key in same}


def test_the_step_is_the_same_however_it_is_cut(policy, tmp_path):
    rows = buffer(make_policy(tmp_path / "other", seed=4))
    updates = []
    for size in (2, 3, 256):
        params = with_training(options(generator="js"), micro_batch_size=size)
        batch = add_rehearsal(batch_of(params), rows, params)
        result = update(policy, None, batch, params, out=tmp_path / str(size), scratch=tmp_path / f"s{size}")
        updates.append(result.updates.to_pylist())
    for one, two in ((updates[0], updates[1]), (updates[0], updates[2])):
        for a, b in zip(one, two, strict=True):
            for key in ("loss", "gradient_norm", "rehearsal_sum", "rehearsal_row_sum"):
                assert a[key] == pytest.approx(b[key], rel=2e-4), key


def test_the_loss_of_rehearsed_rows_reads_no_advantage_and_theirs_no_other_row(policy, stored, tmp_path):
    params = with_training(options(), steps_per_iteration=1)
    found = []
    for seed in (0, 1):
        batch = add_rehearsal(batch_of(params, seed=seed), stored, params)
        update_ = update(policy, None, batch, params, out=tmp_path / str(seed), scratch=tmp_path / f"s{seed}")
        found.append(update_.updates.to_pylist()[0])
    assert found[0]["rehearsal_sum"] == found[1]["rehearsal_sum"]
    assert found[0]["policy_loss"] != found[1]["policy_loss"]


def test_at_policy_0_nothing_is_pulled(policy, stored, tmp_path):
    """T10: log ratios are 0 to rounding, so value and gradient of each divergence are."""
    params = with_training(options(coefficient=1e3, generator="js"), steps_per_iteration=1)
    plain = batch_of(params)
    zero = pa.array([0.0] * len(plain), pa.float32())
    plain = plain.set_column(plain.schema.get_field_index("advantage"), plain.schema.field("advantage"), zero)
    batch = add_rehearsal(plain, stored, params)
    row = update(policy, None, batch, params, out=tmp_path / "out", scratch=tmp_path / "s").updates.to_pylist()[0]
    assert abs(row["rehearsal_sum"]) < 1e-9 and row["gradient_norm"] < 1e-3 and row["rehearsal_beyond"] == 0


def test_with_eta_0_no_row_is_added_and_no_bit_differs(policy, stored, tmp_path):
    params = options(coefficient=0.0)
    plain = batch_of(params)
    assert add_rehearsal(plain, stored, params).equals(plain)
    update(policy, None, plain, params, out=tmp_path / "a", scratch=tmp_path / "s")
    update(policy, None, plain, with_training(params, rehearsal=None), out=tmp_path / "b", scratch=tmp_path / "t")
    assert files_of(tmp_path / "a/policy") == files_of(tmp_path / "b/policy")


def test_the_definition_form_also_asks_for_policy_0_on_sampled_rows(policy, stored, tmp_path):
    params = with_training(options(generator="js_definition"), steps_per_iteration=1)
    with_reference = add_rehearsal(batch_of(params, reference=make_policy(tmp_path / "other", seed=4)), stored, params)
    assert with_reference["reference_logprobs"].filter(with_reference["kept"]).null_count == 0
    row = update(policy, None, with_reference, params, out=tmp_path / "o", scratch=tmp_path / "s").updates.to_pylist()[0]
    # The rehearsed half is 0 at policy 0; what is left beside the policy's loss is the other half, written out here.
    model, total, tokens = AutoModelForCausalLM.from_pretrained(policy, dtype=torch.float32), 0.0, 0
    for own in with_reference.filter(pa.compute.invert(with_reference["rehearsal"])).to_pylist():
        prompt, ids = own["prompt_ids"], own["completion_ids"]
        logs = torch.log_softmax(model(input_ids=torch.tensor([prompt + ids])).logits[0, len(prompt) - 1 : -1], -1)
        pi = logs[torch.arange(len(ids)), torch.tensor(ids)].exp()
        ratio = (torch.tensor(own["reference_logprobs"]).exp() + pi) / 2 / pi
        total += (ratio - 1 - ratio.log()).sum().item()
        tokens += len(ids)
    assert abs(row["rehearsal_sum"]) < 1e-6
    assert row["loss"] - row["policy_loss"] == pytest.approx(ETA * total / tokens, rel=1e-3)


def test_rows_without_the_stored_log_probabilities_that_a_term_needs_are_refused(policy, stored, tmp_path):
    """Not read as 0. First of rehearsed rows, then of sampled ones under a penalty, and under the definition form."""
    params = options()
    batch = add_rehearsal(batch_of(params), stored, params)
    column = batch.schema.get_field_index("reference_logprobs")
    blank = batch.set_column(column, batch.schema.field(column), pa.nulls(len(batch), batch.schema.field(column).type))
    penalised = with_training(params, divergence=params.training.divergence.model_copy(update={"coefficient": 0.1}))
    definition = options(generator="js_definition")
    cases = ((params, blank, "a rehearsed row"), (penalised, batch, "a sampled row"), (definition, batch, "a sampled row"))
    for number, (own, rows, said) in enumerate(cases):
        with pytest.raises(BatchError, match=rf"row [0-9a-f]+, {said}, has no reference_logprobs"):
            update(policy, None, rows, own, out=tmp_path / str(number), scratch=tmp_path / f"s{number}")


def test_tasks_are_divided_by_solved_tries_and_the_further_one():
    """T13: 8, 6, 5 and 0 of 8 solved, threshold 6, the further answers of the first two right and wrong."""
    outcomes = {
        f"t{i}": [True] * c + [False] * (8 - c) + [further]
        for i, (c, further) in enumerate([(8, True), (6, False), (5, True), (0, False)])
    }
    environments = dict.fromkeys(outcomes, "e")
    for failed, part in (("explore", "explore"), ("drop", "dropped")):
        splits, notes = split_tasks(environments, outcomes, PresampleParams(enabled=True, failed=failed))
        assert splits["subset"].to_pylist() == ["near_perfect", part, "explore", "explore"]
        assert splits["recheck"].to_pylist() == [True, False, None, None]
        assert splits["solved"].to_pylist() == [8, 6, 5, 0]
        assert notes[0].startswith("1 of 4 train tasks are near-perfect") and notes[-1] == "1 were never solved"
    assert part_of(6, 8, False, PresampleParams(recheck=False)) == "near_perfect"


def test_an_abstention_is_no_wrong_answer():
    """Shares are of decided answers, of which more than half are wanted; an abstained recheck is none that succeeded."""
    outcomes = {
        "a": [True] * 5 + [False] + [None] * 2 + [True],  # 5 of 6 are more than 6 of 8
        "b": [True] * 4 + [False] * 2 + [None] * 2 + [True],  # 4 of 6 are fewer
        "c": [True] * 4 + [None] * 4 + [True],  # too few are decided
        "d": [True] * 8 + [None],
        "e": [None] * 9,
    }
    for failed, part in (("explore", "explore"), ("drop", "dropped")):
        options = PresampleParams(enabled=True, failed=failed)
        splits, notes = split_tasks(dict.fromkeys(outcomes, "e"), outcomes, options)
        assert splits["subset"].to_pylist() == ["near_perfect", "explore", "explore", part, "explore"]
        assert splits["samples"].to_pylist() == [6, 6, 4, 8, 0]
        assert splits["solved"].to_pylist() == [5, 4, 4, 8, 0]
        assert splits["recheck"].to_pylist() == [True, None, None, None, None]
        assert "18 answers on which the rule abstained were not counted" in notes
    assert all(part_of(solved, 8, True, options) == ("near_perfect" if solved >= 6 else "explore") for solved in range(9))


def test_a_division_that_leaves_nothing_says_so():
    easy, hard = {"t": [True, True, True]}, {"t": [False, False, False]}
    options = PresampleParams(samples=2, solved=2)
    with pytest.raises(RehearsalError, match="nothing left to train on"):
        split_tasks({"t": "e"}, easy, options)
    with pytest.raises(RehearsalError, match=r"presample\.when_empty to explore"):
        split_tasks({"t": "e"}, hard, options)
    splits, notes = split_tasks({"t": "e"}, hard, options.model_copy(update={"when_empty": "explore"}))
    assert splits["subset"].to_pylist() == ["explore"] and "none is rehearsed" in notes[0]


def test_which_rows_are_rehearsed_is_a_matter_of_seed_and_position_alone(stored):
    """T14: nothing is carried from step to step, so a resumed run draws the same; every row comes before one comes twice."""
    option = Rehearsal(rows_per_step=4)

    def drawn(moment, seed=0):
        steps = {0: (8, 30), 1: (8, 31)}
        rows = rehearsal_batch(stored, steps, option, seed=seed, iteration=0, round=moment, moment=moment, per=2)
        assert rows["denominator_tokens"].to_pylist() == [30] * 4 + [31] * 4
        return rows["trajectory_id"].to_pylist()

    order = [name for moment in range(5) for name in drawn(moment)]
    assert order == [name for moment in range(5) for name in drawn(moment)]
    assert [len(set(order[start : start + 9])) for start in (0, 9, 18, 27)] == [9] * 4
    assert order != [name for moment in range(5) for name in drawn(moment, seed=1)]


def test_more_rows_a_step_than_there_are_come_again(stored):
    rows = rehearsal_batch(stored, {0: (1, 1)}, Rehearsal(rows_per_step=20), seed=0, iteration=0, round=0, moment=0, per=1)
    counts = np.unique(rows["trajectory_id"].to_pylist(), return_counts=True)[1]
    assert len(rows) == 20 and counts.min() == 2 and counts.max() == 3


@pytest.mark.parametrize("change", ["weights", "tokenizer", "temperature"])
def test_rows_of_another_policy_tokenizer_or_temperature_are_refused(policy, stored, tmp_path, change):
    splits = to_table("splits", [
        {"task_id": "a", "environment": "e", "samples": 2, "solved": 2, "recheck": True, "subset": "near_perfect"},
        {"task_id": "b", "environment": "e", "samples": 2, "solved": 0, "recheck": None, "subset": "explore"},
    ])  # fmt: skip
    write_shard(tmp_path / "p/splits.parquet", "splits", splits)
    write_shard(tmp_path / "p/rehearsal.parquet", "rehearsal", stored)
    found = read_presampled(tmp_path / "p", policy, 1.0)
    assert found.explore == {"b"} and len(found.rehearsal) == 9
    other, temperature = policy, 1.0
    if change == "weights":
        other = make_policy(tmp_path / "other", seed=8)
    elif change == "tokenizer":
        other = make_policy(tmp_path / "other")
        (other / "tokenizer.json").write_text((other / "tokenizer.json").read_text().replace('"w2": 2', '"v2": 2'))
    else:
        temperature = 0.7
    with pytest.raises(RehearsalError, match=r"run the presample stage again"):
        read_presampled(tmp_path / "p", other, temperature)


def test_a_rehearsal_without_stored_rows_is_refused_unless_told_otherwise(policy, tmp_path):
    params = options()
    empty = to_table("rehearsal", [])
    with pytest.raises(RehearsalError, match="holds no answer to rehearse"):
        add_rehearsal(batch_of(params), empty, params)
    allowed = params.model_copy(update={"presample": params.presample.model_copy(update={"when_empty": "explore"})})
    batch = batch_of(allowed)
    assert add_rehearsal(batch, empty, allowed).equals(batch)
    found = update(policy, None, batch, allowed, out=tmp_path / "a", scratch=tmp_path / "s")
    update(policy, None, batch, with_training(allowed, rehearsal=None), out=tmp_path / "b", scratch=tmp_path / "t")
    assert files_of(tmp_path / "a/policy") == files_of(tmp_path / "b/policy")
    assert found.updates["rehearsal_sum"].null_count == len(found.updates)
