"""Episodes in a real vLLM session: stored ids are the engine's own, turn by turn, and equal sessions give equal bytes."""

import pytest
from memorised import make_params, make_tasks, save_policy
from recorded import Recorded, check_ids
from teacher import forced_logprobs

from assay.engines import Request, load_renderer, open_engine
from assay.environments import tasks_to_table
from assay.params.execution import ExecutionParams
from assay.params.sampling import VllmEngine
from assay.rollouts import make_plan
from assay.rollouts.episodes import Stage, open_executor, play_episodes

pytestmark = pytest.mark.engine


def test_stored_ids_are_vllms_own_turn_by_turn_and_likelihoods_are_of_the_whole_context(tmp_path):
    from transformers import AutoModelForCausalLM

    params, tasks = make_params(), make_tasks()
    folder = save_policy(tmp_path / "policy", tasks, params)
    renderer = load_renderer(folder, params.policy)
    plan = make_plan(tasks_to_table(tasks.values()), params, 0, ("solution", "evaluation"))
    with open_executor(params, 2) as executor:  # before the engine: nobody may mind the order
        engine = open_engine(
            VllmEngine(), folder, stop_ids=renderer.stop_ids, dtype="float32", max_model_tokens=params.sampling.episodes.max_tokens,
            execution=ExecutionParams(vllm_memory_gib=0.05),
        )  # fmt: skip
        try:
            recorded = Recorded(engine)
            tables = play_episodes(Stage(recorded, renderer, executor, params), tasks, plan)
            again = play_episodes(Stage(engine, renderer, executor, params), tasks, plan)
        finally:
            engine.close()
    assert check_ids(tables, recorded, renderer) > 5
    for name in ("trajectories", "turns", "tool_calls"):
        assert getattr(again, name) == getattr(tables, name)
    assert {"answered"} < set(tables.turns["stop"].to_pylist()) | {"answered", None}

    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    several = [row for row in tables.trajectories.to_pylist() if not all(row["loss_mask"])]
    assert len(several) > 5
    for row in several:
        request = Request(tuple(row["prompt_ids"]), 0, 1.0, 1.0, 1)
        forced = forced_logprobs(model, request, row["completion_ids"])
        for own, stored, sampled in zip(forced, row["sampled_logprobs"], row["loss_mask"], strict=True):
            assert stored == pytest.approx(own, abs=2e-3) if sampled else stored == 0.0
