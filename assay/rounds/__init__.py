"""sample, verify, assemble and update composed: the bodies of the stages, and the fused loop of many rounds."""

from assay.rounds.assemble import assemble, stored_critic
from assay.rounds.finish import finish
from assay.rounds.first_policy import first_policy
from assay.rounds.generate import generate_tasks, make_tasks
from assay.rounds.presample import presample
from assay.rounds.pretrained_policy import pretrained_policy
from assay.rounds.record import FUSED, STAGED, read_record
from assay.rounds.sample import Sampler, open_sampler, plan_samples, sample, sample_into
from assay.rounds.scratch import scratch_folder
from assay.rounds.update import update
from assay.rounds.verify import Bench, Verified, describe, open_bench, verify

__all__ = [
    "FUSED", "STAGED", "Bench", "Sampler", "Verified", "assemble", "describe", "finish", "first_policy", "generate_tasks", "make_tasks",
    "open_bench", "open_sampler", "plan_samples", "presample", "pretrained_policy", "read_record",
    "sample", "sample_into", "scratch_folder", "stored_critic", "update", "verify",
]  # fmt: skip
