"""From messages to token ids and back: chat template, system prompt, end tokens. What is sampled and trained on is made
here.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from assay.engines.base import EngineMistake
from assay.engines.tokenizer import load_tokenizer
from assay.params.policy import PolicyParams

Message = Mapping[str, str]
MARK = "\ue000{}\ue001"
"""Stands for a message's content where the template's own words are sought."""
_SHOWN = 5  # tasks named in an error
TAG = re.compile(r"[<\[{|].*\w.*[>\]}|]", re.DOTALL)
"""An added token that is no plain text."""

PLAIN_END = "<|im_end|>"
PLAIN_TEMPLATE = (
    "{%- for message in messages -%}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}"
)
"""ChatML, for tokenizers that know its two tokens (among them the one that is made from scratch) but have no template.
"""

TEXT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'system' -%}{{ message['content'] + '\\n\\n' }}"
    "{%- else -%}{{ message['role'] | capitalize + ': ' + message['content'] + '\\n' }}{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ 'Assistant:' }}{%- endif -%}"
)
"""Plain text, for base models whose tokenizers know no chat tokens: ChatML's would be cut into meaningless pieces."""


@dataclass(frozen=True)
class Renderer:
    """Prompts of one policy. Made by `load_renderer`."""

    tokenizer: Any
    template: str
    template_arguments: Mapping[str, str | int | float | bool]
    system_prompt: str | None
    stop_ids: tuple[int, ...]
    max_prompt_tokens: int
    prefix_ids: tuple[int, ...] = ()
    """Put before every prompt: the start token, where the template does not write it and the tokenizer would."""
    _frames: dict[tuple[str, ...], tuple[tuple[int, ...], ...]] = field(default_factory=dict, repr=False, compare=False)

    def rendered(self, messages: Sequence[Message]) -> str:
        """The prompt as the policy reads it, up to where its answer begins. Raises EngineError where the template
        refuses.
        """
        return self._rendered(messages, add_generation_prompt=True)

    def _rendered(self, messages: Sequence[Message], add_generation_prompt: bool) -> str:
        conversation = [dict(message) for message in messages]
        # A prompt with its own system message (tool environments) keeps it.
        if self.system_prompt is not None and not any(message["role"] == "system" for message in conversation):
            conversation.insert(0, {"role": "system", "content": self.system_prompt})
        import jinja2

        try:
            return self.tokenizer.apply_chat_template(
                conversation,
                chat_template=self.template,
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
                **self.template_arguments,
            )
        except (jinja2.TemplateError, TypeError, KeyError) as error:
            raise EngineMistake(
                f"the chat template cannot render {json.dumps(conversation)[:200]}: {error}; "
                "change policy.system_prompt or policy.chat_template_arguments, or give a template in "
                "policy.chat_template"
            ) from error

    def prompt_ids(self, messages: Sequence[Message], task_id: str | None = None) -> tuple[int, ...]:
        """Token ids of the rendered prompt. Raises EngineError naming `task_id` where it is longer than
        policy.max_prompt_tokens.
        """
        text = self.rendered(messages)
        ids = self.encoded(text)
        if len(ids) > self.max_prompt_tokens:
            raise EngineMistake(
                f"task {task_id or '(unnamed)'}: its prompt has {len(ids)} tokens, policy.max_prompt_tokens is "
                f"{self.max_prompt_tokens}; "
                f"raise it or remove the task. The prompt begins: {text[:120]!r}"
            )
        return ids

    def continuation_ids(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """Token ids of what follows a turn of the policy that has ended (its end token was sampled): messages of others, as tools, up to
        where the policy's next turn begins. They are appended to what was sampled, which is never encoded again.

        Special tokens that a message spells out stay text: a tool cannot end a turn. Raises EngineError where the template refuses.
        """
        roles = tuple(message["role"] for message in messages)
        if roles not in self._frames:
            self._frames[roles] = self._frame(roles)
        first, *others = self._frames[roles]
        ids = list(first)
        for message, after in zip(messages, others, strict=True):
            ids += self.tokenizer(message["content"], add_special_tokens=False, split_special_tokens=True)["input_ids"]
            ids += after
        return tuple(ids)

    def _frame(self, roles: tuple[str, ...]) -> tuple[tuple[int, ...], ...]:
        """Token ids of what the template writes around messages of these roles: before the first, then after each."""
        marks = [MARK.format(index) for index in range(len(roles) + 1)]
        sampled = {"role": "assistant", "content": marks[0]}
        others = [{"role": role, "content": mark} for role, mark in zip(roles, marks[1:], strict=True)]
        rest = self.rendered([{"role": "user", "content": "?"}, sampled, *others])
        parts = []
        for mark in marks:
            before, found, rest = rest.partition(mark)
            if not found:
                raise EngineMistake(
                    f"the chat template does not show messages of the roles {', '.join(roles)} as they are: give another one in "
                    "policy.chat_template"
                )
            parts.append(before)
        parts = [*parts[1:], rest]
        parts[0] = next((parts[0].removeprefix(end) for end in self._ends() if parts[0].startswith(end)), parts[0])
        return tuple(tuple(self.tokenizer(part, add_special_tokens=False)["input_ids"]) for part in parts)

    def _ends(self) -> list[str]:
        return [text for token in self.stop_ids if (text := self.tokenizer.decode([token]))]

    def end_of_turn(self) -> str:
        """The end token that the template writes after a turn of the policy; where it writes none, the tokenizer's own."""
        _, _, rest = self.rendered([{"role": "user", "content": "?"}, {"role": "assistant", "content": MARK}]).partition(MARK)
        return next((end for end in self._ends() if rest.startswith(end)), self.tokenizer.eos_token or self._ends()[0])

    def special_end(self) -> int | None:
        """The token of its own meaning that the template writes after a turn of the policy, whatever the tokenizer calls its end token:
        base models often have a chat template, and a document's end as end token. None where it writes none, or refuses such a turn."""
        try:
            shown = self._rendered([{"role": "user", "content": "?"}, {"role": "assistant", "content": MARK}], add_generation_prompt=False)
        except EngineMistake:  # a template for single turns
            return None
        rest = shown.partition(MARK)[2].lstrip()
        end = next((text for text in self.control_texts if rest.startswith(text)), None)
        return None if end is None else self.tokenizer.get_vocab()[end]

    def encoded(self, text: str) -> tuple[int, ...]:
        """Token ids of a rendered prompt, of any length."""
        return (*self.prefix_ids, *self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def check_prompts(self, tasks: Iterable[Mapping[str, Any]]) -> None:
        """Render the prompt of every row of `tasks`. Raises EngineError for one that cannot be, and for all that are too long."""
        found = [(task["task_id"], self.excess(task["prompt"])) for task in tasks]
        long = [f"task {task_id} has {tokens} tokens" for task_id, tokens in found if tokens is not None]
        if long:
            raise EngineMistake(
                f"{len(long)} of {len(found)} prompts are longer than policy.max_prompt_tokens ({self.max_prompt_tokens}), first: "
                f"{', '.join(long[:_SHOWN])}; raise it or remove the tasks"
            )

    def excess(self, messages: Sequence[Message]) -> int | None:
        """Tokens of the rendered prompt where they are more than policy.max_prompt_tokens. Raises EngineError."""
        tokens = len(self.encoded(self.rendered(messages)))
        return tokens if tokens > self.max_prompt_tokens else None

    @cached_property
    def control_texts(self) -> tuple[str, ...]:
        """Strings that the tokenizer reads as single tokens of their own meaning, longest first: special ones, and other added ones in
        brackets (<think>, [INST]). Added tokens that only shorten text, such as runs of blanks, mean what they say."""
        tokenizer = self.tokenizer
        special = {str(token.content) for token in tokenizer.added_tokens_decoder.values() if token.special}
        tags = {token for token in tokenizer.get_added_vocab() if TAG.fullmatch(token)}
        return tuple(sorted({*tokenizer.all_special_tokens, *special, *tags}, key=lambda token: (-len(token), token)))

    def text(self, ids: Sequence[int]) -> str:
        """Text of token ids, without special tokens."""
        return self.tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)


def load_renderer(policy: Path, params: PolicyParams) -> Renderer:
    """The renderer of a policy folder. Raises EngineError where the folder has no tokenizer or no end token is known.
    """
    if not policy.is_dir():
        raise EngineMistake(f"{policy}: no such policy folder; run the stage that makes it")
    if not any(
        (policy / name).is_file()
        for name in ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json")
    ):
        raise EngineMistake(
            f"{policy}: a model without tokenizer (no tokenizer.json); copy the tokenizer of its base model into the "
            "folder"
        )
    tokenizer = load_tokenizer(policy)
    template, plain = choose_template(tokenizer, params)
    renderer = Renderer(
        tokenizer=tokenizer,
        template=template,
        template_arguments=dict(params.chat_template_arguments),
        system_prompt=params.system_prompt,
        stop_ids=(),
        max_prompt_tokens=params.max_prompt_tokens,
        prefix_ids=start_ids(tokenizer) if plain else (),
    )
    return replace(renderer, stop_ids=find_stop_ids(tokenizer, policy, params.stop_tokens, renderer.special_end()))


def given_template(params: PolicyParams) -> str | None:
    """The template that the parameters give, as text or as a file's name. Raises EngineMistake for a missing file."""
    if params.chat_template_text is not None or params.chat_template is None:
        return params.chat_template_text
    file = Path(params.chat_template)
    if not file.is_file():
        raise EngineMistake(f"policy.chat_template is {params.chat_template!r}, but there is no such file")
    return file.read_text(encoding="utf-8")


def choose_template(tokenizer: Any, params: PolicyParams) -> tuple[str, bool]:
    """(template, whether it is one of ours): policy.chat_template, else the tokenizer's, else ChatML or plain text."""
    given = given_template(params)
    if given is not None:
        return given, False
    own = tokenizer.chat_template
    if isinstance(own, dict):
        own = own.get("default")
    if own:
        return own, False
    known = set(tokenizer.all_special_tokens) | set(tokenizer.get_added_vocab())
    return (PLAIN_TEMPLATE, True) if {"<|im_start|>", PLAIN_END} <= known else (TEXT_TEMPLATE, True)


def find_stop_ids(tokenizer: Any, policy: Path, stop_tokens: Iterable[str], special_end: int | None) -> tuple[int, ...]:
    """End tokens of the tokenizer, of generation_config.json, of `stop_tokens`, and what the template ends a turn with; sorted."""
    found = set() if special_end is None else {special_end}
    if tokenizer.eos_token_id is not None:
        found.add(int(tokenizer.eos_token_id))
    file = policy / "generation_config.json"
    if file.is_file():
        eos = json.loads(file.read_text(encoding="utf-8")).get("eos_token_id")
        found |= {int(token) for token in ([eos] if isinstance(eos, int) else eos or [])}
    vocabulary = tokenizer.get_vocab()
    for token in stop_tokens:
        if token not in vocabulary:
            raise EngineMistake(
                f"policy.stop_tokens names {token!r}, which is no single token of the tokenizer in {policy}; name "
                "tokens of its vocabulary"
            )
        found.add(vocabulary[token])
    if not found:
        raise EngineMistake(
            f"{policy}: neither tokenizer nor generation_config.json names an end token; name one in policy.stop_tokens"
        )
    return tuple(sorted(found))


def start_ids(tokenizer: Any) -> tuple[int, ...]:
    """The start token, where the tokenizer itself puts it before every text."""
    alone = tokenizer("")["input_ids"]
    return (tokenizer.bos_token_id,) if tokenizer.bos_token_id is not None and tokenizer.bos_token_id in alone else ()
