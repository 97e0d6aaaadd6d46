"""Whether the judge of appeals can do its work, before a run is started: nothing is started, asked or fetched."""

import json
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from assay.environments import Task
from assay.params import ParameterError, Params
from assay.params.noise import EndpointJudge, LocalJudge, SimulatedJudge, SymbolicJudge, turns_verdicts
from assay.verifiers.spec import fits
from assay.verifiers.verify import verifier_name

_JUDGE = "verification.appeals.judge"


@dataclass(frozen=True)
class Doubt:
    """What the judge cannot do for some of the tasks that train."""

    sentence: str
    everywhere: bool
    """For all of them."""


def check_judge(params: Params, root: Path = Path()) -> str | None:
    """One line about the judge; None where appeals are off. Raises ValueError (ParameterError, VerifierError), with the key, for a judge
    that could not be opened: addresses that are none, a model folder that is missing or incomplete."""
    if not params.verification.appeals.enabled:
        return None
    judge = params.verification.appeals.judge
    if isinstance(judge, EndpointJudge):
        from assay.verifiers.judges.endpoint import check_urls

        urls = params.execution.judge.urls
        check_urls(urls)
        return f"judge: {judge.model or 'the model that is served'} at {', '.join(urls)} (not asked now; one that is down abstains)"
    if isinstance(judge, LocalJudge):
        return f"judge: {_check_local(judge, root)}"
    if isinstance(judge, SymbolicJudge):
        return f"judge: the verifier {judge.verifier}"
    return f"judge: simulated, true-positive rate {judge.true_positive_rate:g}, false-positive rate {judge.false_positive_rate:g}"


def doubts(tasks: Iterable[Task], params: Params) -> list[Doubt]:
    """Where the judge is the rule itself of tasks that train, cannot read their answers, or needs an oracle that they lack: it would uphold
    nothing there."""
    appeals, total = params.verification.appeals, 0
    if not appeals.enabled:
        return []
    by_itself: Counter[str] = Counter()
    without_oracle: Counter[str] = Counter()
    unfit: Counter[str] = Counter()
    for task in tasks:
        if task.split != "train":
            continue
        total += 1
        by_itself[task.environment] += _is_rule_of(task, params)
        unfit[task.environment] += isinstance(appeals.judge, SymbolicJudge) and not fits(appeals.judge.verifier, task.verifier)
        without_oracle[task.environment] += verifier_name("oracle", task, params.verification) is None
    found = []
    if isinstance(appeals.judge, SymbolicJudge) and by_itself.total():
        what = f"{_JUDGE}.verifier is {appeals.judge.verifier}, the rule itself of"
        found.append(_doubt(by_itself, total, what, "it would uphold no appeal of theirs; choose another judge"))
    if isinstance(appeals.judge, SymbolicJudge) and unfit.total():
        what = f"{_JUDGE}.verifier is {appeals.judge.verifier}, which reads numbers and formulas, but answers are queries or protocols in"
        found.append(_doubt(unfit, total, what, "it abstains on them; choose another judge"))
    if isinstance(appeals.judge, SimulatedJudge) and without_oracle.total():
        what = f"{_JUDGE}.type is simulated, but there is no oracle for"
        found.append(_doubt(without_oracle, total, what, "it abstains on them; choose another judge"))
    elif appeals.judge_rates == "measured" and without_oracle.total():
        what = "verification.appeals.judge_rates is measured, but there is no oracle for"
        found.append(_doubt(without_oracle, total, what, "the judge's errors are not seen there; give them as numbers"))
    return found


def _is_rule_of(task: Task, params: Params) -> bool:
    judge = params.verification.appeals.judge
    if not isinstance(judge, SymbolicJudge) or turns_verdicts(params.verification.noise):
        return False
    return verifier_name("rule", task, params.verification) == judge.verifier


def _doubt(counts: Counter[str], total: int, what: str, then: str) -> Doubt:
    names = [name for name, count in sorted(counts.items()) if count]
    number = counts.total()
    which = f"all {total:,} training tasks" if number == total else f"{number:,} of {total:,} training tasks ({', '.join(names)})"
    return Doubt(f"{what} {which}: {then}", number == total)


def _check_local(judge: LocalJudge, root: Path) -> str:
    if find_spec("vllm") is None:
        raise ParameterError(f"{_JUDGE}.type is local, which needs vLLM, but vLLM is not installed: install it, or choose another judge")
    folder = root / judge.model
    if folder.is_dir():
        if problem := _problem(folder, judge):
            raise ParameterError(f"{_JUDGE}.model is {judge.model!r}: {problem}; name a complete model folder that is fit to judge")
        return f"the model in {judge.model} (complete)"
    return _check_hub(judge)


def _check_hub(judge: LocalJudge) -> str:
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    missing = f"{_JUDGE}.model is {judge.model!r}: there is no such folder"
    if judge.model.startswith((os.curdir, os.sep, "~")):
        raise ParameterError(f"{missing}; name a model folder, or a model of the Hugging Face hub")
    try:
        problem = _problem(Path(snapshot_download(judge.model, local_files_only=True)), judge)
    except HFValidationError:
        raise ParameterError(f"{missing}, and it is no name of a model on the Hugging Face hub; correct it") from None
    except LocalEntryNotFoundError:
        problem = "it is not in the local cache"
    if problem is None:
        return f"the hub's model {judge.model}, which is in the local cache"
    if constants.HF_HUB_OFFLINE:
        raise ParameterError(f"{missing}, {problem}, and the hub is switched off (HF_HUB_OFFLINE): fetch it before")
    return f"the hub's model {judge.model}, which will be fetched when the first answers are verified ({problem})"


def _problem(folder: Path, judge: LocalJudge) -> str | None:
    """What keeps a model folder from being the judge; None where nothing does."""
    return _config_problem(folder, judge) or _weights_problem(folder) or _renderer_problem(folder, judge)


def _config_problem(folder: Path, judge: LocalJudge) -> str | None:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        positions = config.get("max_position_embeddings")
    except FileNotFoundError:
        return f"no config.json in {folder}"
    except (OSError, ValueError, AttributeError) as error:
        return f"its config.json cannot be read ({error})"
    needed = judge.max_prompt_tokens + judge.max_tokens
    if isinstance(positions, int) and positions < needed and not config.get("rope_scaling"):
        return f"it has {positions} positions, but {_JUDGE}.max_prompt_tokens and max_tokens together are {needed}"
    return None


def _weights_problem(folder: Path) -> str | None:
    """Every file of weights is there, and as long as its own header says."""
    index = folder / "model.safetensors.index.json"
    named: set[str] = set()
    if index.is_file():
        try:
            named = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            return f"its {index.name} cannot be read ({error})"
    files = sorted(named | {file.name for file in folder.glob("*.safetensors")})
    if not files:
        return f"no *.safetensors in {folder}"
    for name in files:
        file = folder / name
        if not file.is_file():
            return f"{name}, which its index names, is missing"
        try:
            with file.open("rb") as stream:
                length = int.from_bytes(stream.read(8), "little")
                size = file.stat().st_size
                header = json.loads(stream.read(length)) if 8 + length <= size else None
            ends = [entry["data_offsets"][1] for key, entry in header.items() if key != "__metadata__"] if header else []
            whole = header is not None and size == 8 + length + max(ends, default=0)
        except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            return f"{name} is no file of weights ({type(error).__name__}: {error})"
        if not whole:
            return f"{name} is cut off or damaged"
    return None


def _renderer_problem(folder: Path, judge: LocalJudge) -> str | None:
    """Its tokenizer and template take the judge's question."""
    from assay.engines import EngineError, load_renderer
    from assay.params.policy import PolicyParams
    from assay.verifiers.judges import Case, prompt

    options = PolicyParams(base=str(folder), system_prompt=judge.system_prompt, max_prompt_tokens=judge.max_prompt_tokens)
    try:
        renderer = load_renderer(folder, options)
        text = renderer.rendered(prompt.messages(Case("", "", "", "")))
    except EngineError as error:
        return str(error)
    empty = len(renderer.prefix_ids) + len(renderer.tokenizer(text, add_special_tokens=False)["input_ids"])
    if empty >= judge.max_prompt_tokens:
        return f"the question alone has {empty} tokens, but {_JUDGE}.max_prompt_tokens is {judge.max_prompt_tokens}"
    return None
