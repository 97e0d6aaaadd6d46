"""One update: policy k and a stored batch become policy k + 1, its trainer state, and a record of every step."""

import errno
import re
import shutil
from pathlib import Path

import pyarrow as pa
from safetensors import SafetensorError

from assay.params import Params
from assay.training.session import Report, UpdateResult, UpdateSession, draft_of

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""A full disk, a full quota, a file above the limit. Any other error of the system (a file that another user owns, a
lost network folder) is shown as it is: advice to free space would mislead."""

TORCH_CANNOT_WRITE = ("PytorchStreamWriter", "inline_container", "iostream error")
"""Signs of a full disk in the errors of torch.save, which have no type of their own."""


class UpdateError(RuntimeError):
    """An update that the machine did not allow to finish: run it again once there is room."""


def update(
    policy: Path,
    trainer_state: Path | None,
    batches: pa.Table,
    params: Params,
    *,
    out: Path,
    scratch: Path,
    live: Path | None = None,
    progress: Report = lambda line: None,
) -> UpdateResult:
    """Train on the kept rows of `batches` and publish out/policy (complete, adapter merged) and out/trainer.

    policy: folder of policy k. trainer_state: the `trainer` folder published with it, None at the first update.
    scratch: where checkpoints lie; a killed update that is called again with the same inputs goes on from the last.
    live: folder of DVCLive's files. Under `accelerate launch` it is called by every process; only the main one
    writes. Raises the errors of this room: a batch without kept rows, a folder without model or tokenizer, a state of
    another policy, a loss that is not finite. UpdateError where there is no room to write.
    """
    session = UpdateSession(policy, trainer_state, params, scratch=scratch, live=live, progress=progress)
    try:
        result = session.run(batches)
        session.publish(out)
    except (OSError, SafetensorError, RuntimeError) as error:
        shutil.rmtree(draft_of(out), ignore_errors=True)
        if not _no_room(error):
            raise
        raise UpdateError(
            f"{out}: weights or checkpoints could not be written ({error}); free disk space, then run the update again: "
            "it goes on from its last complete checkpoint"
        ) from error
    session.forget_checkpoints()
    return result


def _no_room(error: Exception) -> bool:
    """Whether a write failed for want of space."""
    if isinstance(error, OSError):
        return error.errno in NO_ROOM
    if isinstance(error, SafetensorError):  # which tells the number in its text only
        return any(int(number) in NO_ROOM for number in re.findall(r"os error (\d+)", str(error)))
    return any(sign in str(error) for sign in TORCH_CANNOT_WRITE)
