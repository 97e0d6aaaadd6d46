import base64
import json
from pathlib import Path

import pytest
from tiny_policies import make_tokenizer, save_policy

from assay.engines import PLAIN_TEMPLATE, EngineError, load_renderer, load_tokenizer
from assay.params.policy import PolicyParams

QUESTION = [{"role": "user", "content": "1+1=?"}]
BRACKETS = "{% for message in messages %}[{{ message['content'] }}]{% endfor %}{{ suffix }}"


def saved(folder, **options):
    make_tokenizer(**options).save_pretrained(folder)
    return folder


def test_a_tokenizer_without_template_gets_chatml_where_it_knows_its_tokens(tmp_path):
    renderer = load_renderer(saved(tmp_path), PolicyParams())
    assert renderer.template == PLAIN_TEMPLATE
    assert renderer.rendered(QUESTION) == "<|im_start|>user\n1+1=?<|im_end|>\n<|im_start|>assistant\n"
    ids = renderer.prompt_ids(QUESTION)
    assert ids[0] == 1 and ids.count(2) == 1  # its tokens are single ones
    assert renderer.stop_ids == (2,)


def test_without_chat_tokens_it_gets_plain_text(tmp_path):
    renderer = load_renderer(saved(tmp_path, special=("<pad>", "<end>")), PolicyParams(system_prompt="be brief"))
    assert renderer.rendered(QUESTION) == "be brief\n\nUser: 1+1=?\nAssistant:"
    assert renderer.stop_ids == (1,)


def test_the_example_of_a_template_writes_chatml(tmp_path):
    folder = saved(tmp_path)
    example = PolicyParams(chat_template=str(Path(__file__).parents[2] / "conf/templates/chatml.jinja"), system_prompt="be brief")
    ours = load_renderer(folder, PolicyParams(system_prompt="be brief"))
    assert load_renderer(folder, example).rendered(QUESTION) == ours.rendered(QUESTION)


def test_the_tokenizers_own_template_comes_first_and_a_file_before_it(tmp_path):
    folder = saved(tmp_path / "policy", chat_template=BRACKETS)
    arguments = {"suffix": "x"}
    assert load_renderer(folder, PolicyParams(chat_template_arguments=arguments)).rendered(QUESTION) == "[1+1=?]x"
    (tmp_path / "mine.jinja").write_text("({{ messages[0]['content'] }})")
    given = PolicyParams(chat_template=str(tmp_path / "mine.jinja"))
    assert load_renderer(folder, given).rendered(QUESTION) == "(1+1=?)"
    with pytest.raises(EngineError, match=r"policy\.chat_template is 'absent\.jinja', but there is no such file"):
        load_renderer(folder, PolicyParams(chat_template="absent.jinja"))


def test_the_system_prompt_goes_before_messages_that_have_none(tmp_path):
    renderer = load_renderer(saved(tmp_path, chat_template=BRACKETS), PolicyParams(system_prompt="be brief"))
    assert renderer.rendered(QUESTION) == "[be brief][1+1=?]"
    own = [{"role": "system", "content": "own"}, *QUESTION]
    assert renderer.rendered(own) == "[own][1+1=?]"
    assert own == [{"role": "system", "content": "own"}, *QUESTION]


def test_end_tokens_come_from_tokenizer_generation_config_and_parameters(tmp_path):
    folder = save_policy(tmp_path, chat_template=BRACKETS)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 1]}))
    assert load_renderer(folder, PolicyParams()).stop_ids == (1, 2)
    assert load_renderer(folder, PolicyParams(stop_tokens=("a", "?"))).stop_ids == (1, 2, 5, 72)
    with pytest.raises(EngineError, match=r"policy\.stop_tokens names 'ab', which is no single token"):
        load_renderer(folder, PolicyParams(stop_tokens=("ab",)))


BASE = ("<|im_start|>", "<|im_end|>", "<|endoftext|>")
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>' }}{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def test_what_the_template_ends_a_turn_with_ends_a_completion_though_the_tokenizer_ends_documents(tmp_path):
    """As Qwen's base models: their own ChatML, and <|endoftext|> in the tokenizer and in the generation configuration."""
    folder = saved(tmp_path, special=BASE, chat_template=CHATML)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": 2}))
    renderer = load_renderer(folder, PolicyParams())
    assert renderer.tokenizer.eos_token == "<|endoftext|>" and renderer.stop_ids == (1, 2)
    assert renderer.end_of_turn() == "<|im_end|>"
    said = renderer.tokenizer.decode(renderer.continuation_ids([{"role": "tool", "content": "4"}]))
    assert said == "\n<|im_start|>tool\n4<|im_end|>\n<|im_start|>assistant\n"


@pytest.mark.parametrize("template, ends", [
    (CHATML.replace("'<|im_end|>'", "' <|im_end|>'"), (1, 2)),  # blanks before it
    (CHATML.replace("<|im_end|>", ""), (2,)),  # none: what begins the next prompt ends nothing
    (CHATML.replace("'<|im_start|>' + m.role", "raise_exception('no answers') if m.role == 'assistant' else m.role"), (2,)),
])  # fmt: skip
def test_templates_that_end_turns_in_other_ways(tmp_path, template, ends):
    assert load_renderer(saved(tmp_path, special=BASE, chat_template=template), PolicyParams()).stop_ids == ends


def save_tekken(folder):
    """A folder as Mistral publishes it: `tekken.json`, and a chat template in the configuration of the tokenizer."""
    folder.mkdir(exist_ok=True)
    special = ("<unk>", "<s>", "</s>", "[INST]", "[/INST]")
    words = [bytes([byte]) for byte in range(256)] + [b"12"]
    (folder / "tekken.json").write_text(json.dumps({
        "config": {
            "pattern": r"\p{N}+|[^\p{N}]+", "num_vocab_tokens": len(words), "default_vocab_size": len(words) + len(special),
            "default_num_special_tokens": len(special), "version": "v3",
        },
        "vocab": [{"rank": n, "token_bytes": base64.b64encode(word).decode(), "token_str": None} for n, word in enumerate(words)],
        "special_tokens": [{"rank": n, "token_str": text, "is_control": True} for n, text in enumerate(special)],
    }))  # fmt: skip
    turn = "{{ '[INST]' + m.content + '[/INST]' if m.role == 'user' else m.content + eos_token }}"
    template = f"{{{{ bos_token }}}}{{% for m in messages %}}{turn}{{% endfor %}}"
    own = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>", "chat_template": template}
    (folder / "tokenizer_config.json").write_text(json.dumps(own))
    (folder / "config.json").write_text(json.dumps({"model_type": "mistral", "vocab_size": len(words) + len(special)}))
    return folder


def test_a_repository_with_tekken_json_is_read_by_transformers_own_tokenizer(tmp_path):
    renderer = load_renderer(save_tekken(tmp_path), PolicyParams())
    ids = renderer.prompt_ids([{"role": "user", "content": "1+12"}])
    assert renderer.tokenizer.convert_ids_to_tokens(ids) == ["<s>", "[INST]", "1", "+", "12", "[/INST]"]
    assert renderer.stop_ids == (2,) and renderer.text(ids) == "1+12"


def test_text_is_split_as_mistral_splits_it_where_tekken_json_lies_and_nowhere_else(tmp_path, monkeypatch):
    """What lies beside tekken.json may split in another way; told so, transformers would split any model's text as Mistral's."""
    import transformers

    asked, option = [], "fix_mistral_regex"
    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", lambda name, **options: asked.append(options.get(option)))
    load_tokenizer(save_tekken(tmp_path / "mistral"))
    load_tokenizer(saved(tmp_path / "other"))
    assert asked == [True, None]


def test_no_end_token_anywhere_is_an_error(tmp_path):
    tokenizer = make_tokenizer(chat_template=BRACKETS)
    tokenizer.eos_token = None
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(EngineError, match=r"names an end token; name one in policy\.stop_tokens"):
        load_renderer(tmp_path, PolicyParams())
    assert load_renderer(tmp_path, PolicyParams(stop_tokens=("<|im_end|>",))).stop_ids == (2,)


def test_the_start_token_is_put_where_the_tokenizer_puts_it(tmp_path):
    from tokenizers.processors import TemplateProcessing

    tokenizer = make_tokenizer(special=("<s>", "<end>"))
    tokenizer.bos_token = "<s>"
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    tokenizer.save_pretrained(tmp_path / "adds")
    saved(tmp_path / "plain", special=("<s>", "<end>"))
    with_start = load_renderer(tmp_path / "adds", PolicyParams()).prompt_ids(QUESTION)
    assert with_start == (0, *load_renderer(tmp_path / "plain", PolicyParams()).prompt_ids(QUESTION))


def test_a_prompt_that_is_too_long_names_its_task(tmp_path):
    renderer = load_renderer(saved(tmp_path), PolicyParams(max_prompt_tokens=24))
    assert len(renderer.prompt_ids(QUESTION, "task-a")) == 24
    longer = [{"role": "user", "content": "1+10=?"}]
    with pytest.raises(EngineError, match=r"task task-b: its prompt has 25 tokens, policy\.max_prompt_tokens is 24"):
        renderer.prompt_ids(longer, "task-b")
    tasks = [{"task_id": f"task-{n}", "prompt": longer if n % 2 else QUESTION} for n in range(20)]
    named = ", ".join(f"task task-{n} has 25 tokens" for n in (1, 3, 5, 7, 9))
    with pytest.raises(EngineError, match=rf"10 of 20 prompts are longer than policy\.max_prompt_tokens \(24\), first: {named}; raise it"):
        renderer.check_prompts(tasks)


def test_text_leaves_special_tokens_out(tmp_path):
    renderer = load_renderer(saved(tmp_path), PolicyParams())
    ids = renderer.tokenizer("1/2, or 0.5")["input_ids"]
    assert renderer.text((1, *ids, 2)) == "1/2, or 0.5"


def test_folders_without_tokenizer_and_templates_that_refuse_are_said_so(tmp_path):
    (tmp_path / "bare").mkdir()
    with pytest.raises(EngineError, match=r"a model without tokenizer \(no tokenizer\.json\)"):
        load_renderer(tmp_path / "bare", PolicyParams())
    with pytest.raises(EngineError, match="no such policy folder"):
        load_renderer(tmp_path / "absent", PolicyParams())
    (tmp_path / "bare" / "tokenizer.json").write_text("{")
    with pytest.raises(EngineError, match="transformers cannot load its tokenizer"):
        load_renderer(tmp_path / "bare", PolicyParams())
    refusing = saved(tmp_path / "refusing", chat_template="{{ raise_exception('System role not supported') }}")
    with pytest.raises(EngineError, match=r"the chat template cannot render .*: System role not supported"):
        load_renderer(refusing, PolicyParams()).rendered(QUESTION)
