"""What fits on a card beside a trainer. No card is needed: the arithmetic is pure, and CUDA's calls are two."""

import pytest

from assay.engines import device_memory
from assay.engines.base import EngineError, EngineMistake
from assay.engines.device_memory import GIB, check_room, shared_part, weight_bytes
from assay.engines.vllm_engine import VllmInProcess, share_of
from assay.params.execution import ExecutionParams

CARD = int(79.2 * GIB)
"""What CUDA says of an H100 of 80 GB."""


def part(billions, card=CARD, kept=12, engines=1):
    parameters = int(billions * 1e9)
    return shared_part(card, kept * parameters, weight_bytes(parameters, "bfloat16"), engines)


@pytest.mark.parametrize("billions, share", [(0.01, 0.85), (0.6, 0.85), (1.72, 0.70), (4.02, 0.38)])
def test_the_share_is_what_the_trainer_leaves(billions, share):
    """The table of docs/fused.md."""
    assert part(billions) == share
    assert share * CARD + 12 * billions * 1e9 <= CARD


def test_two_engines_have_half_of_it_each_and_adapters_leave_more():
    assert part(0.6, engines=2) == 0.42 and part(1.72, engines=2) == 0.35
    assert part(8.19, kept=4) == 0.56


def test_a_policy_that_fits_beside_no_trainer_is_told_where_else_it_does():
    with pytest.raises(EngineMistake, match=r"a card of 79\.2 GiB: the trainer keeps 91\.5 GiB .* 15\.3 GiB; .*type: server.*lora.*staged"):
        part(8.19)
    with pytest.raises(EngineMistake, match="do not fit"):
        part(1.72, card=24 * GIB)


def test_an_engine_that_cannot_take_back_what_it_lent_names_a_share_with_which_it_could():
    check_room(0.85, CARD, 60 * GIB, 60 * GIB, 4 * GIB)
    with pytest.raises(EngineMistake, match=r"the 64\.0 GiB that it lent .* 52\.0 of the card's 79\.2 GiB .*share to 0\.69 \(now 0\.85\)"):
        check_room(0.85, CARD, 52 * GIB, 64 * GIB, 4 * GIB)
    assert (0.85 - 0.69) * CARD >= 12 * GIB
    with pytest.raises(EngineMistake, match=r"no lower execution\.gpu_memory_share \(now 0\.85\) would hold the policy"):
        check_room(0.85, CARD, 8 * GIB, 64 * GIB, 15 * GIB)


class Sleeper:
    """vLLM's model, of which half the card is to take back; and the card."""

    def __init__(self, fails=False):
        self.free, self.fails, self.calls = CARD // 4, fails, []

    def sleep(self, level):
        self.calls.append("sleep")
        self.free += CARD // 2

    def wake_up(self):
        self.calls.append("wake up")
        if self.fails:
            raise RuntimeError("CUDA Error: out of memory at cumem_allocator.cpp:139")
        self.free -= CARD // 2


def paused(monkeypatch, llm):
    engine = object.__new__(VllmInProcess)
    engine._llm, engine._sleeps, engine._asleep, engine._lent, engine._weights = llm, True, False, 0, GIB
    engine._execution = ExecutionParams(gpu_memory_share=0.6)
    monkeypatch.setattr(device_memory, "free_and_total", lambda: (llm.free, CARD))
    engine.pause()
    return engine


def test_an_engine_wakes_only_where_there_is_room(monkeypatch):
    llm = Sleeper()
    engine = paused(monkeypatch, llm)
    llm.free -= CARD // 2  # a trainer
    with pytest.raises(EngineMistake, match=r"set execution\.gpu_memory_share to 0\.34 \(now 0\.6\)"):
        engine.resume()
    assert llm.calls == ["sleep"]
    llm.free += CARD // 4
    engine.resume()
    engine.resume()
    assert llm.calls == ["sleep", "wake up"]


def test_a_card_that_runs_out_all_the_same_is_said_in_one_sentence(monkeypatch):
    engine = paused(monkeypatch, Sleeper(fails=True))
    with pytest.raises(EngineError, match=r"not take its memory back .*cumem_allocator.*: 59\.4 GiB were free, 39\.6 GiB lent; lower"):
        engine.resume()


def test_without_a_share_vllm_has_a_card_of_its_own():
    assert share_of(ExecutionParams()) == 0.85 and share_of(ExecutionParams(gpu_memory_share=0.3)) == 0.3
