"""Where unfinished work of a stage lies: outside DVC's outputs (DVC deletes those before a run), keyed by the stage's inputs.

A stage that is killed and started again with the same inputs finds its finished parts; other inputs have another key.
"""

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from assay.trajectories import tree_digest


def is_main_process() -> bool:
    """Whether this is the first of the processes that `accelerate launch` or `torchrun` started; also where none did."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def scratch_folder(base: Path, stage: str, inputs: Iterable[Path]) -> Iterator[Path]:
    """The scratch folder of one stage run. Removed when the body succeeds, kept for the next try when it does not.

    Folders of the same stage with other inputs are removed at entry: they belong to runs that were given up. Of several
    processes that run one stage together, the main one alone removes anything.
    """
    key = tree_digest(inputs)
    parent = base / stage
    folder = parent / key
    if parent.is_dir() and is_main_process():
        for other in parent.iterdir():
            if other.name != key:
                shutil.rmtree(other, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    yield folder
    if not is_main_process():
        return
    # Rename first: a kill during the removal must not leave half a folder under the valid key.
    gone = parent / f".{key}.done"
    shutil.rmtree(gone, ignore_errors=True)
    os.replace(folder, gone)
    shutil.rmtree(gone, ignore_errors=True)
