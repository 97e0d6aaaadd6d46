"""Rounds of one iteration in one process: what a stopped one does when it goes on."""

import pytest

from assay.trajectories import read_table


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
