"""Samples the plan of the tests; with `kill` it kills itself, as hard as can be, while the third shard is sampled.

`python killed_run.py POLICY SCRATCH OUT [kill]`
"""

import os
import signal
import sys
from pathlib import Path

from recorded import Watched
from rollout_setup import make_params, make_tasks, open_tiny

from assay.engines import load_renderer
from assay.rollouts import make_plan, run_plan

if __name__ == "__main__":
    policy, scratch, out = map(Path, sys.argv[1:4])
    params = make_params()
    batches = 0

    def kill_in_the_third_shard(completions, tokens):
        global batches
        batches += 1
        if batches == 3 and sys.argv[4:] == ["kill"]:
            os.kill(os.getpid(), signal.SIGKILL)

    plan = make_plan(make_tasks(), params, 0, ("solution", "evaluation"))
    run_plan(plan, Watched(open_tiny(policy), kill_in_the_third_shard), load_renderer(policy, params.policy), params, out, scratch)
