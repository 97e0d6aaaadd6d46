"""vLLM on a card that a trainer in the same process wants too. Needs CUDA; says so where there is none."""

import pytest
import torch

from assay.engines import open_engine
from assay.params.execution import ExecutionParams
from assay.params.sampling import VllmEngine


@pytest.mark.engine
def test_a_paused_engine_gives_memory_back_and_samples_the_same_afterwards(policy, other_policy, requests_mixed):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device: sleep mode is not tested here")
    engine = open_engine(
        VllmEngine(), policy, stop_ids=(2,), dtype="float32", max_model_tokens=80,
        execution=ExecutionParams(gpu_memory_share=0.3), shares_device=True,
    )  # fmt: skip
    before = engine.generate(requests_mixed)
    held = torch.cuda.mem_get_info()[0]
    engine.pause()
    assert torch.cuda.mem_get_info()[0] > held + 2**30
    engine.resume()
    assert [c.ids for c in engine.generate(requests_mixed)] == [c.ids for c in before]
    engine.pause()
    engine.resume()
    engine.load_policy(other_policy)
    assert [c.ids for c in engine.generate(requests_mixed)] != [c.ids for c in before]
    engine.close()
