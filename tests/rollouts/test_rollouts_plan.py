from collections import Counter
from itertools import pairwise
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rollout_setup import make_params, make_tasks

from assay.rollouts import RolloutError, make_plan, split_shards
from assay.rollouts.plan import PlannedFrom, draw, stream_shards

KINDS = ("solution", "evaluation")


@given(names=st.integers(1, 40), count=st.integers(1, 60), seed=st.integers(0, 5))
def test_the_walk_visits_every_task_once_an_epoch(names, count, seed):
    names = [f"t{index:02d}" for index in range(names)]
    epochs = 3
    walked = [
        name for position in range(-(-epochs * len(names) // count)) for name in draw(names, count, position, seed)
    ]
    for epoch in range(epochs):
        assert sorted(walked[epoch * len(names) : (epoch + 1) * len(names)]) == names
    assert draw(names, count, 2, seed) == draw(names, count, 2, seed)
    assert len(draw(names, count, 2, seed)) == count


def test_a_plan_of_what_was_read_once_is_the_plan_of_the_table():
    tasks, params = make_tasks(), make_params()
    read = PlannedFrom.of(tasks)
    for number in range(3):
        assert make_plan(read, params, 0, KINDS, round=number, rounds=3) == make_plan(tasks, params, 0, KINDS, round=number, rounds=3)


def test_epochs_and_seeds_have_orders_of_their_own():
    names = [f"t{index:02d}" for index in range(40)]
    orders = [draw(names, 40, position, seed) for position in range(3) for seed in range(3)]
    assert len({tuple(order) for order in orders}) == 9


@given(sizes=st.lists(st.integers(1, 9), max_size=30), shard_rows=st.integers(1, 20), border=st.integers(0, 30))
def test_shards_hold_the_plan_in_order_with_groups_whole_and_kinds_apart(sizes, shard_rows, border):
    plan = [
        SimpleNamespace(group_id=str(group), kind="solution" if group < border else "evaluation")
        for group, size in enumerate(sizes)
        for _ in range(size)
    ]
    shards = split_shards(plan, shard_rows)
    assert [row for shard in shards for row in shard] == plan
    homes = [{row.group_id for row in shard} for shard in shards]
    assert sum(len(home) for home in homes) == len(sizes)
    for shard, home in zip(shards, homes, strict=True):
        assert len(shard) <= shard_rows or len(home) == 1
        assert len({row.kind for row in shard}) == 1
    for left, right in pairwise(shards):
        next_group = sizes[int(right[0].group_id)]
        assert (
            left[0].kind != right[0].kind or len(left) + next_group > shard_rows
        )  # no shard is smaller than it must be


def test_a_plan_that_is_made_as_it_is_sampled_is_never_held_as_a_whole():
    made = []

    def rows():
        for number in range(1000):
            made.append(number)
            yield SimpleNamespace(group_id=str(number // 4), kind="solution")

    for number, shard in enumerate(stream_shards(rows(), 16, lambda row: row), 1):
        assert len(shard) == 16 or number == 63
        assert len(made) <= 16 * number + 4 + 1  # beyond the shard a group, and the row that ends it


def test_training_rows_are_groups_of_train_tasks(tasks, params):
    plan = make_plan(tasks, params, 0, ["solution"])
    assert len(plan) == 5 * 4
    assert len({row.task_id for row in plan}) == len({row.group_id for row in plan}) == 5
    assert all(row.task_id.startswith("train-") for row in plan)
    assert [row.sample_index for row in plan] == [0, 1, 2, 3] * 5
    assert {(row.temperature, row.top_p, row.max_tokens, row.kind) for row in plan} == {(1.0, 1.0, 8, "solution")}
    assert plan[0].messages[0]["content"].endswith("=?")


def test_evaluation_rows_are_every_held_out_task(tasks, params):
    plan = make_plan(tasks, params, 3, ["evaluation"])
    counted = Counter(row.task_id for row in plan)
    assert set(counted) == {name for name in tasks["task_id"].to_pylist() if not name.startswith("train-")}
    assert set(counted.values()) == {3}
    assert {row.temperature for row in plan} == {0.8}
    assert {(row.iteration, row.round, row.policy) for row in plan} == {(3, 0, "3")}


def test_iterations_walk_on_and_rounds_are_positions_of_the_same_walk(tasks, params):
    first_epoch = [row.task_id for k in range(3) for row in make_plan(tasks, params, k, ["solution"])][: 12 * 4]
    assert set(Counter(first_epoch).values()) == {4} and len(set(first_epoch)) == 12
    staged = [[row.task_id for row in make_plan(tasks, params, k, ["solution"])] for k in range(4)]
    fused = [
        [row.task_id for row in make_plan(tasks, params, k, ["solution"], round=r, rounds=2)]
        for k in range(2)
        for r in range(2)
    ]
    assert fused == staged
    assert make_plan(tasks, params, 1, ["solution"], round=0, rounds=1) == make_plan(tasks, params, 1, ["solution"])
    rounds = make_plan(tasks, params, 1, ["solution"], round=1, rounds=2)
    assert {(row.iteration, row.round, row.policy) for row in rounds} == {(1, 1, "1.1")}


@given(st.integers(0, 6), st.sampled_from([1, 5, 12, 30]), st.integers(1, 5))
def test_no_two_rows_share_seed_identity_or_group(iteration, per_iteration, group_size):
    params = make_params(tasks_per_iteration=per_iteration, group_size=max(group_size, 2))
    plan = make_plan(make_tasks(), params, iteration, KINDS)
    assert len({row.seed for row in plan}) == len(plan)
    assert len({(row.task_id, row.kind, row.sample_index) for row in plan}) == len(plan)
    groups = Counter(row.group_id for row in plan)
    assert set(groups.values()) == {params.sampling.group_size, params.evaluation.samples}
    assert all(0 <= row.seed < 2**31 for row in plan)
    assert plan == make_plan(make_tasks(), params, iteration, KINDS)


def test_seeds_hang_on_run_policy_task_kind_and_index_alone(tasks, params):
    plan = {(row.task_id, row.sample_index): row.seed for row in make_plan(tasks, params, 0, KINDS)}
    wider = make_params(tasks_per_iteration=12, group_size=6, shard_rows=3)
    again = {(row.task_id, row.sample_index): row.seed for row in make_plan(tasks, wider, 0, KINDS)}
    assert all(again[key] == seed for key, seed in plan.items())
    later = {(row.task_id, row.sample_index): row.seed for row in make_plan(tasks, wider, 1, KINDS)}
    assert not set(later.values()) & set(again.values())
    other = params.model_copy(update={"seed": 8})
    assert not {row.seed for row in make_plan(tasks, other, 0, KINDS)} & set(plan.values())


def test_the_order_of_the_tasks_table_does_not_matter(tasks, params):
    reversed_tasks = tasks.take(list(range(len(tasks) - 1, -1, -1)))
    assert make_plan(reversed_tasks, params, 1, KINDS) == make_plan(tasks, params, 1, KINDS)


def test_what_cannot_be_planned_is_said_so(tasks, params):
    with pytest.raises(RolloutError, match="no plan for rows of kind 'dream'; known: solution, evaluation"):
        make_plan(tasks, params, 0, ["dream"])
    with pytest.raises(RolloutError, match=r"no task of split train to sample for solution; raise tasks\.train"):
        make_plan(make_tasks(train=0), params, 0, ["solution"])


def test_an_older_policy_that_samples_again_is_named_and_samples_anew():
    """fused.max_staleness: the engine holds the policy of round 2 in rounds 2 and 3."""
    tasks, params = make_tasks(), make_params(tasks_per_iteration=12)  # all tasks in every round
    own = make_plan(tasks, params, 0, ("solution",), round=2, rounds=4)
    lagging = make_plan(tasks, params, 0, ("solution",), round=3, rounds=4, policy_round=2)
    assert {(row.round, row.policy) for row in own} == {(2, "0.2")}
    assert {(row.round, row.policy) for row in lagging} == {(3, "0.2")}
    assert {row.task_id for row in own} == {row.task_id for row in lagging}
    assert not {row.seed for row in own} & {row.seed for row in lagging}
    assert not {row.group_id for row in own} & {row.group_id for row in lagging}
    assert own == make_plan(tasks, params, 0, ("solution",), round=2, rounds=4, policy_round=2)
