"""Who does the five stages: templates (seeded, no model) or a language model. Both give the same kinds of things, checked alike."""

from random import Random
from typing import Protocol

from assay.environments.asking import Asker
from assay.environments.tools import decompose, deploy, documents, integrate, scale
from assay.environments.tools.config import ToolConfig
from assay.environments.tools.execution import ToolExecutor
from assay.environments.tools.record import Decomposition, Deployment, Document, Scenario, SubQuestion
from assay.trajectories import seed_from


class Backend(Protocol):
    """The stages. Raises ToolError (templates) or StageDropped (a model) where a stage gives nothing sound."""

    def decompose(self, scenario: Scenario, seed: int) -> Decomposition: ...

    def document(self, decomposition: Decomposition, node: SubQuestion, seed: int) -> Document: ...

    def integrate(self, decomposition: Decomposition, found: list[Document], seed: int) -> list[Document]: ...

    def scale(self, decomposition: Decomposition, found: list[Document], seed: int) -> list[Document]: ...

    def extend(self, decomposition: Decomposition, found: list[Document], seed: int) -> list[Document]:
        """The distractors alone."""
        ...

    def deploy(self, decomposition: Decomposition, document: Document) -> Deployment: ...

    def stop(self) -> None:
        """A draw has failed: those that other threads are at need not be finished."""
        ...


class TemplateBackend:
    """Pure in (config, seed)."""

    def __init__(self, config: ToolConfig) -> None:
        self.config = config

    def decompose(self, scenario: Scenario, seed: int) -> Decomposition:
        return decompose.from_template(self.config, scenario, seed)

    def document(self, decomposition: Decomposition, node: SubQuestion, seed: int) -> Document:
        return documents.from_template(self.config, node, seed)

    def integrate(self, decomposition: Decomposition, found: list[Document], seed: int) -> list[Document]:
        return integrate.from_template(self.config, decomposition, found, seed)

    def scale(self, decomposition: Decomposition, found: list[Document], seed: int) -> list[Document]:
        return scale.from_template(self.config, decomposition, found, seed)

    def extend(self, decomposition: Decomposition, found: list[Document], seed: int) -> list[Document]:
        return scale.extend_template(self.config, decomposition, found, seed)

    def deploy(self, decomposition: Decomposition, document: Document) -> Deployment:
        return deploy.from_template(self.config, decomposition, document)

    def stop(self) -> None:
        """Its draws take no time."""


class ModelBackend:
    """Pure in (config, seed, the model's replies)."""

    def __init__(self, config: ToolConfig, asker: Asker, executor: ToolExecutor) -> None:
        """executor: for the intended calls, which must give the sub-answers."""
        self.config, self._asker, self._executor = config, asker, executor

    def decompose(self, scenario: Scenario, seed: int) -> Decomposition:
        return decompose.from_model(self._asker, self.config, scenario, seed)

    def document(self, decomposition: Decomposition, node: SubQuestion, seed: int) -> Document:
        return documents.from_model(self._asker, decomposition, node)

    def integrate(self, decomposition: Decomposition, found: list[Document], seed: int) -> list[Document]:
        return integrate.from_model(self._asker, decomposition, found)

    def scale(self, decomposition: Decomposition, found: list[Document], seed: int) -> list[Document]:
        return [scale.from_model(self._asker, decomposition, document) for document in found]

    def extend(self, decomposition: Decomposition, found: list[Document], seed: int) -> list[Document]:
        count = self.config.shapes[decomposition.scenario].distractors.draw(Random(seed_from(seed, "extend")))
        return scale.extend_model(self._asker, decomposition, found, count)

    def deploy(self, decomposition: Decomposition, document: Document) -> Deployment:
        return deploy.from_model(self._asker, decomposition, document, self._executor)

    def stop(self) -> None:
        self._asker.stop()
