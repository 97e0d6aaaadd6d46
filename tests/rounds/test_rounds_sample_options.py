"""What an engine is opened with: room for everything that will be sampled, and a prefix cache where it pays."""

from types import SimpleNamespace

from assay.params import Params
from assay.rounds.sample import engine_params, longest_sequence

PLUS = {"training": {"steps_per_iteration": 1, "advantage": {"type": "reinforce_plus_plus"}}}
RENDERER = SimpleNamespace(tokenizer=lambda text, add_special_tokens: {"input_ids": list(text)})


def params_with(**sections) -> Params:
    base = {"policy": {"max_prompt_tokens": 40}, "sampling": {"max_tokens": 60}} | PLUS
    return Params.model_validate(base | sections)


def test_there_is_room_for_the_longest_of_all_kinds():
    assert longest_sequence(params_with(), RENDERER) == 100
    judging = {"share": 0.5, "max_prompt_tokens": 90}
    assert longest_sequence(params_with(self_verification=judging), RENDERER) == 150
    assert longest_sequence(params_with(self_verification=judging | {"max_tokens": 5}), RENDERER) == 100
    assert longest_sequence(params_with(self_verification={"evaluation": 1, "max_prompt_tokens": 90}), RENDERER) == 150
    steps = {"continuations": 5, "max_tokens": 7, "close_tag": "</t>"}
    assert longest_sequence(params_with(stepwise=steps), RENDERER) == 100 + 4 + 7


def test_continuations_and_critiques_share_their_beginnings_unless_told_otherwise():
    assert engine_params(params_with()).arguments == {}
    steps = {"continuations": 5}
    assert engine_params(params_with(stepwise=steps)).arguments == {"enable_prefix_caching": True}
    for judging, cached in (({"share": 0.5}, {"enable_prefix_caching": True}), ({"evaluation": 1}, {})):
        assert engine_params(params_with(self_verification=judging | {"max_prompt_tokens": 90})).arguments == cached
    told = {"max_tokens": 60, "engine": {"type": "vllm", "arguments": {"enable_prefix_caching": False, "max_num_seqs": 8}}}
    assert engine_params(params_with(stepwise=steps, sampling=told)).arguments == told["engine"]["arguments"]
    plain = {"max_tokens": 60, "engine": {"type": "transformers"}}
    assert engine_params(params_with(stepwise=steps, sampling=plain)).type == "transformers"
