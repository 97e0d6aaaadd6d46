"""Which engines count as open in this process: bookkeeping alone, vLLM is not imported."""

import gc

from assay.engines.vllm_engine import _OPEN, VllmInProcess


def test_an_engine_that_was_lost_unclosed_is_not_open_and_no_later_one_is_taken_for_it():
    before = len(_OPEN)
    lost, kept = VllmInProcess.__new__(VllmInProcess), VllmInProcess.__new__(VllmInProcess)
    _OPEN.add(lost)
    _OPEN.add(kept)
    assert len(_OPEN) == before + 2
    del lost
    gc.collect()
    later = [VllmInProcess.__new__(VllmInProcess) for _ in range(50)]  # some where the lost one was
    assert len(_OPEN) == before + 1 and kept in _OPEN
    assert not any(engine in _OPEN for engine in later)
    _OPEN.discard(kept)
    assert len(_OPEN) == before
