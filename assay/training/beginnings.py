"""What a supervised phase starts from: a small model made from scratch, or another causal language model that is fine-tuned."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assay.engines import PLAIN_TEMPLATE, Renderer, given_template, load_renderer
from assay.engines.rendering import start_ids
from assay.params import Params
from assay.params.policy import SupervisedParams
from assay.training.base import set_config_dtype
from assay.training.demonstrations import Limit, continued, rendered
from assay.training.model import load_policy, make_model, make_tokenizer, save_policy
from assay.training.tokenizer import END_OF_TEXT, MESSAGE_END
from assay.trajectories import seed_from


@dataclass(frozen=True)
class Beginning:
    """A model in training with what renders for it."""

    model: Any
    """Trainable; with an adapter, peft's wrapper."""
    renderer: Renderer
    limit: Limit
    """Of tokens in a row."""
    end: str = MESSAGE_END
    """Closes what the policy writes."""
    end_of_text: str = END_OF_TEXT
    start_ids: tuple[int, ...] = ()
    """Before every plain text."""
    source: Path | None = None
    """Folder of the model that is fine-tuned; None: made from scratch."""
    mixed: str | None = None
    """Type of mixed-precision arithmetic."""

    def prompts(self, params: Params, rows: Sequence[Mapping[str, Any]]) -> list[str]:
        """Of demonstrations, rendered as for sampling; from scratch many at once."""
        if self.source is None:
            return rendered(params, self.renderer.template, rows)
        return [self.renderer.rendered(row["prompt"]) for row in rows]

    def seed(self, *parts: str | int) -> None:
        """Of the model's own dropout in one step, so that a resumed run has the same; a policy made from scratch has none."""
        if self.source is not None:
            import torch

            torch.manual_seed(seed_from(*parts))

    @property
    def tokenizer(self) -> Any:
        return self.renderer.tokenizer

    @property
    def network(self) -> Any:
        """The model as transformers knows it."""
        return self.model.get_base_model() if hasattr(self.model, "peft_config") else self.model

    def save(self, folder: Path, dtype: str) -> None:
        """A complete policy folder. dtype: of the weights; a fine-tuned model keeps its own if that is shorter, and all its other files."""
        if self.source is None:
            save_policy(self.model, self.tokenizer, folder, dtype)
            return
        from assay.training.policies import config_dtype, merged_weights, publish_policy, shorter_dtype

        weights = self.network.state_dict() if self.network is self.model else merged_weights(self.model)
        dtype = shorter_dtype(self.source, dtype)
        publish_policy(self.network, weights, self.source, folder, dtype)
        if dtype != config_dtype(self.source):
            set_config_dtype(folder, dtype)


def from_scratch(
    params: Params, rows: Sequence[Mapping[str, Any]], texts: Sequence[str] = (), pretrained: Path | None = None
) -> Beginning:  # fmt: skip
    """rows: of `demonstrations`; texts: others that the tokenizer must write. pretrained: folder of a policy to go on from."""
    template = given_template(params.policy) or PLAIN_TEMPLATE
    if pretrained is None:
        prompts = rendered(params, template, rows)
        tokenizer = make_tokenizer(params.policy, template, prompts, continued(params, template, rows, prompts), texts)
        model = make_model(params.policy, tokenizer, params.seed)
    else:
        tokenizer, model = load_policy(pretrained)
    return Beginning(model, renderer_of(tokenizer, params), Limit(params.policy.shape.max_positions, "policy.shape.max_positions"))


def renderer_of(tokenizer: Any, params: Params) -> Renderer:
    """The renderer that sampling will use, over a tokenizer that is not on disk yet."""
    return Renderer(
        tokenizer=tokenizer,
        template=tokenizer.chat_template,
        template_arguments=dict(params.policy.chat_template_arguments),
        system_prompt=params.policy.system_prompt,
        stop_ids=(tokenizer.eos_token_id,),
        max_prompt_tokens=params.policy.max_prompt_tokens,
    )


def from_base(params: Params, source: Path, phase: str, options: SupervisedParams) -> Beginning:
    """The model in a folder, in float32, on the device; in bfloat16 arithmetic as in reinforcement. phase: key of the options. Raises
    EngineError or PolicyError for a folder that holds none."""
    import torch

    from assay.training.policies import add_adapter, load_model, precision, shorter_dtype

    renderer = load_renderer(source, params.policy)
    model = load_model(source, params)
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if options.lora is not None:
        model = add_adapter(model, options.lora, params.seed, None, f"{phase}.lora")
    on_device = torch.cuda.is_available()
    mixed = precision(source, params, shorter_dtype(source, params.policy.dtype)) if on_device else None
    end = renderer.end_of_turn()
    return Beginning(
        model.to("cuda" if on_device else "cpu"), renderer, Limit(positions, "max_position_embeddings of the base model"), end,
        renderer.tokenizer.eos_token or end, start_ids(renderer.tokenizer), source, mixed,
    )  # fmt: skip
