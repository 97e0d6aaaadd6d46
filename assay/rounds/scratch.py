"""Where unfinished work of a stage lies: outside DVC's outputs (DVC deletes those before a run), keyed by the stage's inputs.

A stage that is killed and started again with the same inputs finds its finished parts; other inputs have another key. Work of other code is
not gone on with unasked: DVC would record it as made by the new code. It is not removed either: it may have taken days.
"""

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from assay.trajectories import tree_digest

RESUME, ANYWAY = "ASSAY_RESUME", "anyway"
"""Environment variable, and its value, with which unfinished work of other code is gone on with."""
NAMED = 3
"""Changed files that a message names."""


class ScratchError(ValueError):
    """Unfinished work that other code made."""


def is_main_process() -> bool:
    """Whether this is the first of the processes that `accelerate launch` or `torchrun` started; also where none did."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def scratch_folder(base: Path, stage: str, inputs: Iterable[Path], code: Mapping[str, str] | None = None) -> Iterator[Path]:
    """The scratch folder of one stage run. Removed when the body succeeds, kept for the next try when it does not.

    code: digest of each file that the stage's results come from; None: what is found does not depend on code. Folders of the same stage
    with other inputs are removed at entry: they belong to runs that were given up. Of several processes that run one stage together, the
    main one alone removes or records anything. Raises ScratchError where there is unfinished work of other code.
    """
    key = tree_digest(inputs)
    parent = base / stage
    folder, record = parent / key, parent / f"{key}.json"
    if parent.is_dir() and is_main_process():
        for other in parent.iterdir():
            if other.is_dir() and other.name != key:
                shutil.rmtree(other, ignore_errors=True)
            elif not other.is_dir() and other.name != record.name:
                other.unlink()
    folder.mkdir(parents=True, exist_ok=True)
    if code is not None:
        _same_code(folder, record, code)
    yield folder
    if not is_main_process():
        return
    # Rename first: a kill during the removal must not leave half a folder under the valid key.
    gone = parent / f".{key}.done"
    shutil.rmtree(gone, ignore_errors=True)
    os.replace(folder, gone)
    record.unlink(missing_ok=True)
    shutil.rmtree(gone, ignore_errors=True)


def _same_code(folder: Path, record: Path, code: Mapping[str, str]) -> None:
    """Whether what lies in `folder` may be gone on with. record: the code of each run that worked in it, from the first on."""
    main, found = is_main_process(), any(file.is_file() for file in folder.rglob("*"))
    known: list[Mapping[str, str]] = json.loads(record.read_text(encoding="utf-8")) if found and record.is_file() else []
    unknown = found and main and not known  # of several processes the main one is the first that knows
    if unknown or any(earlier != code for earlier in known):
        what = f"{folder} holds unfinished work of other code{_changed(known, code)}"
        agreed = bool(known) and known[-1] == code
        if not agreed and os.environ.get(RESUME) != ANYWAY:
            raise ScratchError(
                f"{what}, which would be recorded as made by the present code: remove that folder to begin anew, or set the environment "
                f"variable {RESUME}={ANYWAY} to go on with it"
            )
        if main:
            print(f"warning: {what}; it stays as that code made it, and is gone on with ({RESUME}={ANYWAY})", flush=True)
    if main and (not known or known[-1] != code):
        draft = record.with_name(f".{record.name}.draft")
        draft.write_text(json.dumps([*known, dict(code)]), encoding="utf-8")
        os.replace(draft, record)


def _changed(known: Iterable[Mapping[str, str]], code: Mapping[str, str]) -> str:
    names = sorted({name for earlier in known for name in earlier.keys() | code.keys() if earlier.get(name) != code.get(name)})
    if not names:
        return ""
    more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    return f" (other since: {', '.join(names[:NAMED])}{more})"
