"""One update: policy k and a stored batch become policy k + 1, its trainer state, and a record of every step."""

import shutil
from pathlib import Path

import pyarrow as pa
from safetensors import SafetensorError

from assay.params import Params
from assay.training.session import Report, UpdateResult, UpdateSession, draft_of

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
    another policy, a loss that is not finite.
    """
    session = UpdateSession(policy, trainer_state, params, scratch=scratch, live=live, progress=progress)
    try:
        result = session.run(batches)
        session.publish(out)
    except (OSError, SafetensorError) as error:
        raise _unwritten(error, out) from error
    except RuntimeError as error:
        if not any(sign in str(error) for sign in TORCH_CANNOT_WRITE):
            raise
        raise _unwritten(error, out) from error
    session.forget_checkpoints()
    return result


def _unwritten(error: Exception, out: Path) -> UpdateError:
    shutil.rmtree(draft_of(out), ignore_errors=True)
    return UpdateError(
        f"{out}: weights or checkpoints could not be written ({error}); free disk space, then run the update again: it "
        "goes on from its last complete checkpoint"
    )
