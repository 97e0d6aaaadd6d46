"""A vLLM engine in a process of its own: `python fresh_start.py REQUESTS.pickle POLICY COMPLETIONS.pickle`."""

import pickle
import sys
from pathlib import Path

from assay.engines import open_engine
from assay.params.execution import ExecutionParams
from assay.params.sampling import VllmEngine

if __name__ == "__main__":
    requests = pickle.loads(Path(sys.argv[1]).read_bytes())
    # Another cache size than the tests' engine: it must not change a bit.
    execution = ExecutionParams(vllm_memory_gib=0.2)
    engine = open_engine(
        VllmEngine(), Path(sys.argv[2]), stop_ids=(2,), dtype="float32", max_model_tokens=80, execution=execution
    )
    Path(sys.argv[3]).write_bytes(pickle.dumps(engine.generate(requests)))
    engine.close()
