"""What each stage sees of the parameters: one file for each, so that DVC runs a stage again only for what it reads."""

import json
from pathlib import Path
from typing import Any

from assay.params.base import ParameterError
from assay.params.data import UserDataset
from assay.params.policy import WarmStartParams
from assay.params.schema import PARTIAL, STAGE_SECTIONS, Params
from assay.params.training import TrainingParams
from assay.params.verification import VerificationParams

_LIMIT = ("verification", "abstain_limit")
_TRAINED_ALONE = (("verification", "noise"), ("verification", "appeals"))
_NOT_THE_MODEL = tuple(("training", key) for key in TrainingParams.model_fields if key != "grpo")
"""Of `training` only how a model is loaded concerns its fine-tuning."""
_BUT_FUNCTIONS = tuple(("verification", key) for key in VerificationParams.model_fields if key != "functions")
_FORWARD_PASS = ("grpo", "micro_batch_size")
"""Of `training`: what log-probabilities are computed with."""
UNSEEN: dict[str, tuple[tuple[str, str], ...]] = {
    "generate": (*_TRAINED_ALONE, ("verification", "tool_use"), _LIMIT),
    "pretrain": (*(("warm_start", key) for key in WarmStartParams.model_fields if key != "pretraining"), *_NOT_THE_MODEL),
    "warm_start": (("warm_start", "pretraining"), *_NOT_THE_MODEL, *_BUT_FUNCTIONS),
    "rollout": _BUT_FUNCTIONS,
    "verify": (_LIMIT,),
    "train": (_LIMIT,),
    "finish": (*_TRAINED_ALONE, _LIMIT),
    "evaluate": (_LIMIT,),
    "presample": (
        *_TRAINED_ALONE,
        _LIMIT,
        ("verification", "tool_use"),
        *(("sampling", key) for key in ("group_size", "tasks_per_iteration", "episodes")),
        *(("training", key) for key in TrainingParams.model_fields if key not in _FORWARD_PASS),
    ),
}
"""Keys of sections that a stage does read, which say nothing to it: to turn on appeals makes no task and samples nothing anew. `train`,
`presample` and `finish` do look at the limit, but read it directly (`with_abstain_limit`)."""

SEEN_BY: dict[tuple[str, str], tuple[str, ...]] = {
    ("policy", "too_long"): ("generate",),
    ("policy", "revision"): ("generate", "pretrain", "warm_start", "evaluate"),  # the report shows it
}
"""Keys that say something to these stages alone, of sections that others read too."""


def stage_view(params: Params, stage: str) -> dict[str, Any]:
    """The JSON-able part of the parameters that a stage may read."""
    whole = params.model_dump(mode="json")
    for (section, key), stages in SEEN_BY.items():
        if stage not in stages:
            del whole[section][key]
    for section, key in UNSEEN.get(stage, ()):
        del whole[section][key]
    if stage in ("pretrain", "warm_start") and not params.policy.fine_tune:
        del whole["training"]["grpo"]
    if stage in ("warm_start", "rollout"):
        functions = whole["verification"]["functions"]
        whole["verification"]["functions"] = {name: functions[name] for name in _asked_for(params, stage) if name in functions}
    return {section: whole[section] for section in STAGE_SECTIONS[stage]}


def _asked_for(params: Params, stage: str) -> list[str]:
    """Verifiers of data sets that a stage asks before anything is verified: pass@1 of the warm start, levels of a stratified selection."""
    own = params.self_verification
    starts = params.supervises and (params.warm_start.max_steps or params.policy.base is None)
    asks = starts if stage == "warm_start" else own.chooses_by_verdicts
    return sorted({section.verifier for section in params.environments.values() if isinstance(section, UserDataset)}) if asks else []


def write_stage_views(params: Params, folder: Path) -> None:
    """One file per stage: STAGE.json, sorted keys, so equal parameters give equal bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    for stage in STAGE_SECTIONS:
        text = json.dumps(stage_view(params, stage), indent=1, sort_keys=True) + "\n"
        (folder / f"{stage}.json").write_text(text, encoding="utf-8")


def read_stage_view(path: Path) -> Params:
    """The file that `write_stage_views` wrote, as Params; sections that the stage may not read hold their defaults."""
    if not path.is_file():
        raise ParameterError(f"{path}: missing; run `dvc repro configure` first")
    try:
        return Params.model_validate(json.loads(path.read_text(encoding="utf-8")), context=PARTIAL)
    except ValueError as error:  # of JSON or of pydantic: it was written by another version of the code
        raise ParameterError(f"{path}: cannot be read ({' '.join(str(error).split())[:300]}); run `dvc repro configure` again") from error
