"""A tiny chat model that was taught by heart what to reply to a few appeals: what it says is known, how it is run is not pretended."""

from pathlib import Path

from assay.engines import PLAIN_TEMPLATE
from assay.params.execution import ExecutionParams
from assay.params.noise import AppealsParams
from assay.params.verification import VerificationParams
from assay.rewards.self_verification import critique_prompt
from assay.verifiers.judges import Case, open_judge
from assay.verifiers.judges.prompt import messages

QUESTION, GOLD = "What is 1/4 + 1/4?", "1/2"
REPLIES = {"0.5": "True", "0.7": "False.", "3/6": "<think>3/6 is 1/2</think>\nTrue", "one": "True or False"}
SCORES = {"1/4 is 0.25, twice is 0.5": r"\boxed{1}", "it is 0.7": r"I see: \boxed{-0.5}", "who knows": "fine", "0.9": r"\boxed{3}"}
"""What it says of whole solutions, asked as a policy that judges itself is."""
SPECIAL = ("<|pad|>", "<|im_start|>", "<|im_end|>")


def case(answer: str, **changes) -> Case:
    return Case(**{"trajectory_id": answer, "question": QUESTION, "gold": GOLD, "answer": answer} | changes)


def opened(judge, *, urls=(), seed=0, concurrency=16, **execution):
    """A judge as verification opens it, without workers of others."""
    settings = ExecutionParams(judge={"urls": urls, "concurrency": concurrency}, verifier_workers=1, **execution)
    return open_judge(AppealsParams(judge=judge), VerificationParams(), settings, None, seed)


def make_tokenizer():
    """Byte-level pairs of the prompt's own text, with ChatML's tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=700, special_tokens=list(SPECIAL), initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([messages(case("0.5"))[0]["content"]] * 4, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=SPECIAL[0], eos_token=SPECIAL[2])
    fast.chat_template = PLAIN_TEMPLATE
    return fast


def save_judge(folder: Path, steps: int = 300) -> Path:
    """Train until greedy decoding gives each reply, and save. Raises AssertionError where it does not come to that."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    tokenizer = make_tokenizer()
    config = Qwen3Config(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, head_dim=32, max_position_embeddings=2048, tie_word_embeddings=False,
        eos_token_id=2, pad_token_id=0, bos_token_id=None,
    )  # fmt: skip
    rows, starts = [], []
    asked_for = [(messages(case(answer)), reply) for answer, reply in REPLIES.items()]
    asked_for += [([{"role": "user", "content": critique_prompt(QUESTION, text, boxed=False)}], reply) for text, reply in SCORES.items()]
    for conversation, reply in asked_for:
        text = tokenizer.apply_chat_template(conversation, tokenize=False, add_generation_prompt=True)
        asked = tokenizer(text)["input_ids"]
        starts.append(len(asked))
        rows.append(asked + tokenizer(reply)["input_ids"] + [2])
    width = max(map(len, rows))
    ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
    labels = torch.tensor([[-100] * s + row[s:] + [-100] * (width - len(row)) for s, row in zip(starts, rows, strict=True)])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Qwen3ForCausalLM(config).float()
        optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
        for _ in range(steps):
            loss = model(ids, attention_mask=(ids != 0).long(), labels=labels).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            if loss.item() < 2e-3:
                break
    assert loss.item() < 0.02, f"the judge has not learned its replies: {loss.item()}"
    model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
