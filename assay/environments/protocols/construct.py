"""SciRecipe's construction by a language model (C.1.4 of the method file): raw text -> structure -> question and answer -> review.

Whatever comes out is held to what every gold is held to: the format, key and orc that agree, SCORE of the gold against itself, and, where
the text comes with a bench, the executor. A reply that fails is told so and repaired, at most twice (`Asker`). Reviews are asked of a
second model, or of the same one in another conversation; one aspect that it objects to is enough to drop a question.
"""

from dataclasses import dataclass
from random import Random
from typing import Any

from assay.environments.asking import Asker, StageDropped, need
from assay.environments.protocols.accept import read_question, read_structure
from assay.environments.protocols.records import SYSTEM, Record
from assay.environments.protocols.sources import Source
from assay.params.protocols import Protocols, ProtocolType, ScoreOptions
from assay.trajectories import content_hash, seed_from

NO_ISSUE = "no issue"
ASPECTS: dict[str, str] = {
    "accuracy": "every material, step and amount is in the text or follows from it, and nothing that matters is missing",
    "safety": "the note warns of what is dangerous, and no step is dangerous without need",
    "coherence": "question and answer belong together, and the steps are in an order in which they can be done",
    "clarity": "the question has one answer, and no step can be misunderstood",
    "generality": "the question can be understood without the text",
    "efficiency": "no step is idle or done twice",
}
"""What a review looks at; all six must be without fault."""
KINDS: dict[ProtocolType, str] = {
    "overview": "the protocol as a whole, in its main steps, without amounts",
    "specific": "one section of the protocol, with its amounts",
    "retrieval": "a part of the protocol whose parameters the question itself gives, in other words, among others that are not needed",
    "planning": "the way from what is at hand to a goal, neither of which names the steps",
    "troubleshooting": "the right protocol, given one that fails because a step is missing or in the wrong place",
    "constraint": "the protocol without a reagent or device that is forbidden, with a usual substitute",
    "scaling": "the protocol with all amounts multiplied by a number that the question gives",
    "safety": "the protocol with a note that lists the hazard of everything that is used",
}


@dataclass(frozen=True)
class Built:
    """A question that passed."""

    record: Record
    title: str
    """Of the protocol that it is about."""


def write(asker: Asker, topic: str, variation: int) -> Source:
    """A raw text about a topic. Raises StageDropped."""
    text = asker.ask("write", _WRITE, {"topic": topic, "variation": variation}, lambda reply: need(reply, "text", str).strip())
    return Source(content_hash(topic, variation), text)


def build(
    asker: Asker, reviewer: Asker, options: Protocols, reward: ScoreOptions, source: Source, kind: ProtocolType, number: int, seed: int
) -> Built:
    """A question of a type about a text, the `number`-th of this type. reward: the SCORE of the run. Raises StageDropped where a stage
    gives nothing that passes."""
    structure = asker.ask("structure", _STRUCTURE, {"text": source.text}, read_structure)
    identity = f"{source.identity}/{kind}/{number}"
    distractors = Random(seed_from(seed, "distractors", identity)).randint(*options.distractors)
    payload = {
        "protocol": structure, "type": kind, "asks for": KINDS[kind], "steps": list(options.steps), "distractors": distractors,
        "variation": number,
    } | ({} if source.bench is None else {"bench": source.bench})  # fmt: skip

    def read(reply: Any) -> Record:
        return read_question(reply, identity, kind, options.steps, distractors, source.bench, reward)

    record = asker.ask("question", _QUESTION, payload, read)
    review(reviewer, source, record)
    return Built(record, structure["name"])


def review(reviewer: Asker, source: Source, record: Record) -> None:
    """Raises StageDropped with the first aspect that the reviewer objects to, or where it gives no review."""
    payload = {"text": source.text, "question": record.question, "answer": record.gold, "actions": list(record.actions)}
    opinions = reviewer.ask("review", _REVIEW, payload, lambda reply: {aspect: need(reply, aspect, str) for aspect in ASPECTS})
    for aspect, opinion in opinions.items():
        if opinion.strip().strip(".").lower() != NO_ISSUE:
            raise StageDropped("review", f"{aspect}: {opinion.strip()}")


_WRITE = """Write the text of a laboratory protocol about the topic, as a method section has it: materials, devices, numbered procedures
with amounts, times, temperatures and speeds, and cautions. 150 to 400 words. Other variations are other protocols.
Reply: {"text": text}"""
_STRUCTURE = """Take the protocol in the text apart. Say nothing that the text does not say.
Reply: {"name": text, "abstract": one sentence, "materials": [texts], "equipment": [texts], "procedures": [one text a step, with all its
amounts, times and temperatures], "notes": [texts]}; lists may be empty, but for the procedures."""
_QUESTION = f"""Make one question about the protocol, and its answer. The question asks for what "asks for" says, stands on its own (who
reads it does not see the protocol) and states all amounts that the answer needs. The answer is in four blocks. {SYSTEM}
In the key each step has exactly the fields action (one verb), objects and parameters (lists of texts), all in lowercase; parameters apply
to all objects of their step. The sentence of a step in the orc has every action, object and parameter of that step, word for word, in at
most 30 words. The number of steps lies within "steps". "distractors": so many different actions as "distractors" says that might be
taken for steps of the protocol, and that the key does not use. Where there is a bench, the answer must lead to its goal on it.
Reply: {{"question": text, "think": text, "key": [{{"action": verb, "objects": [texts], "parameters": [texts]}}, ...], "orc": ["Step 1:
...", ...], "note": text, "distractors": [verbs]}}"""
_REVIEW = (
    "Review the question and its answer against the text. Say of each aspect what is wrong, in one sentence, or exactly "
    f'"{NO_ISSUE}".\n' + "\n".join(f"{name}: {meaning}." for name, meaning in ASPECTS.items())
    + f"\nReply: {{{', '.join(f'{chr(34)}{name}{chr(34)}: text' for name in ASPECTS)}}}"
)  # fmt: skip
