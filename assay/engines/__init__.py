"""Sampling: vLLM in process, a vLLM or OpenAI-compatible server, transformers. The only room that imports vLLM."""

from assay.engines.base import Completion, Engine, EngineError, EngineMistake, Progress, Request
from assay.engines.open import open_engine
from assay.engines.rendering import PLAIN_TEMPLATE, TEXT_TEMPLATE, Renderer, given_template, load_renderer
from assay.engines.tokenizer import load_tokenizer

__all__ = [
    "PLAIN_TEMPLATE", "TEXT_TEMPLATE", "Completion", "Engine", "EngineError", "EngineMistake", "Progress", "Renderer", "Request",
    "given_template", "load_renderer", "load_tokenizer", "open_engine",
]  # fmt: skip
