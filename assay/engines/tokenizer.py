"""The tokenizer of a policy folder: one way to load it for sampling, training and supervision."""

from pathlib import Path
from typing import Any

from assay.engines.base import EngineMistake


def load_tokenizer(policy: Path) -> Any:
    """The tokenizer as transformers' own class. Raises EngineError."""
    import transformers

    # Where Mistral's `tekken.json` lies, transformers would give a tokenizer of mistral_common, which takes no chat template; and the
    # tokenizer.json beside it may split text in another way than tekken.json says.
    options = {"fix_mistral_regex": True} if (policy / "tekken.json").is_file() else {}
    try:
        return transformers.AutoTokenizer.from_pretrained(str(policy), local_files_only=True, mistral_format=False, **options)
    except Exception as error:  # ValueError, OSError, KeyError ...: the folder is not what transformers expects
        raise EngineMistake(
            f"{policy}: transformers cannot load its tokenizer ({type(error).__name__}: {error})"
        ) from error
