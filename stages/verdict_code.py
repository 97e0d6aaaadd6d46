"""Code that says what is sampled only where a run chooses by verdicts what to sample next (`SelfVerification.chooses_by_verdicts`).

All other runs judge stored rollouts again when a verifier is corrected, and sample nothing: so `rollout` depends on this code by way of a
file that `configure` writes, which is empty for them.
"""

import json
from pathlib import Path

from assay.params import ParameterError, Params
from stages import CONFIG, code_digests

FILE = "rollout.code"
"""In data/config. No .json: those are parameters, and the warehouse keeps them as such."""
VERDICT_CODE = (
    "assay/environments/oracles.py",
    "assay/environments/protocols/executor.py",
    "assay/environments/protocols/laboratory.py",
    "assay/environments/reasoning_gym.py",
    "assay/environments/reasoning_gym_answers.py",
    "assay/environments/text_to_sql",
    "assay/isolation",
    "assay/rewards/protocol",
    "assay/verifiers",
)


def write_verdict_code(params: Params, folder: Path = CONFIG) -> None:
    """Digest of each file of that code where verdicts choose what is sampled, else nothing."""
    found = code_digests(VERDICT_CODE) if params.self_verification.chooses_by_verdicts else {}
    (folder / FILE).write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def read_verdict_code(folder: Path = CONFIG) -> dict[str, str]:
    """What `write_verdict_code` wrote. Raises ParameterError where it did not."""
    file = folder / FILE
    if not file.is_file():
        raise ParameterError(f"{file}: missing; run `dvc repro configure` first")
    found: dict[str, str] = json.loads(file.read_text(encoding="utf-8"))
    return found
