"""Small policies made in seconds: a character tokenizer with chat tokens, and Qwen3-shaped models of random weights."""

from pathlib import Path

CHAT = ("<|pad|>", "<|im_start|>", "<|im_end|>")
CHARACTERS = "\n abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+-*/=?.,:()"


def make_tokenizer(special: tuple[str, ...] = CHAT, chat_template: str | None = None):
    """One token a character. The end token is the last special one."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {token: index for index, token in enumerate((*special, *CHARACTERS))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=special[0]))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens(list(special))
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=special[0], eos_token=special[-1])
    fast.chat_template = chat_template
    return fast


def make_model(seed: int, end_bias: float = 1.0, layers: int = 2, tied: bool = False):
    """Qwen3 of width 32. `end_bias` scales the end token's embedding: sampling then ends now and then."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    config = Qwen3Config(
        vocab_size=96, hidden_size=32, intermediate_size=64, num_hidden_layers=layers, num_attention_heads=2,
        num_key_value_heads=2, head_dim=32, max_position_embeddings=256, tie_word_embeddings=tied,
        eos_token_id=2, pad_token_id=0, bos_token_id=None,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen3ForCausalLM(config).float().eval()
        with torch.no_grad():
            # Random weights give an almost uniform distribution; sharper ones show errors of temperature and of order.
            model.lm_head.weight.mul_(20)
            model.lm_head.weight[2].mul_(end_bias)
    return model


def save_policy(folder: Path, seed: int = 0, chat_template: str | None = None, **options) -> Path:
    """A complete policy folder."""
    make_model(seed, **options).save_pretrained(folder)
    make_tokenizer(chat_template=chat_template).save_pretrained(folder)
    return folder
