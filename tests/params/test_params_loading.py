"""params.yaml and presets: precedence, and errors that name file and key."""

import json
from pathlib import Path

import pytest
import torch
import yaml

from assay.objectives.lp_reg import penalty
from assay.params import STAGE_SECTIONS, ParameterError, Params, load_params, read_stage_view, with_abstain_limit, write_stage_views
from assay.params.loading import resolve_params
from assay.params.stage_views import UNSEEN, stage_view

ROOT = Path(__file__).parents[2]


def project(tmp_path: Path, own: dict, **presets: dict) -> Path:
    """A project folder with the given params.yaml; presets are written as conf/KIND/p.yaml."""
    for kind in ("scale", "environment", "method"):
        folder = tmp_path / "conf" / kind
        folder.mkdir(parents=True)
        (folder / "p.yaml").write_text(yaml.safe_dump(presets.get(kind, {})))
    whole = {"scale": "p", "environment": "p", "method": "p", "iterations": [{"k": 0, "next": 1}], "last_policy": 1, **own}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(whole))
    return tmp_path


def test_own_keys_win_over_presets_and_method_over_scale(tmp_path):
    root = project(
        tmp_path,
        {"sampling": {"group_size": 4}},
        scale={"sampling": {"group_size": 2, "max_tokens": 7}, "training": {"learning_rate": 1.0}},
        method={"training": {"learning_rate": 2.0}, "sampling": {"group_size": 3}},
    )
    params = load_params(root)
    assert (params.sampling.group_size, params.sampling.max_tokens, params.training.learning_rate) == (4, 7, 2.0)


def test_null_means_as_the_presets_say(tmp_path):
    root = project(tmp_path, {"sampling": {"max_tokens": None}}, scale={"sampling": {"max_tokens": 7}})
    assert load_params(root).sampling.max_tokens == 7


def test_a_union_member_of_another_type_replaces_the_preset_s_as_a_whole(tmp_path):
    root = project(
        tmp_path,
        {"training": {"advantage": {"type": "leave_one_out"}}},
        method={"training": {"advantage": {"type": "group_zscore", "divide_by_std": False}}},
    )
    assert load_params(root).training.advantage.type == "leave_one_out"


def test_lp_reg_s_preset_has_the_ceiling_of_the_code_that_it_names(tmp_path):
    """Without it a token that left its target far behind, off-policy, would outweigh all others: its pull is as large as the ratio."""
    logprobs = torch.tensor([0.001, 0.02], dtype=torch.float64).log().requires_grad_()
    preset = yaml.safe_load((ROOT / "conf/method/lp_reg.yaml").read_text())
    option = load_params(project(tmp_path, {}, method=preset)).training.lp_reg
    assert (option.form, option.ceiling) == ("sampled_k3", 10)
    penalty(logprobs, torch.full((2,), 0.021).log(), torch.ones(2, dtype=torch.bool), ceiling=option.ceiling).sum().backward()
    assert logprobs.grad.tolist() == pytest.approx([0, 1 - 0.021 / 0.02], rel=1e-5)


@pytest.mark.parametrize(
    ("own", "fragments"),
    [
        ({"sampling": {"groupsize": 8}}, ["params.yaml", "unknown parameter sampling.groupsize: did you mean sampling.group_size"]),
        ({"sampling": {"top_p": 1.5}}, ["params.yaml", "sampling.top_p is 1.5", "less than or equal to 1"]),
        ({"training": {"advantage": {"type": "zscore"}}}, ["training.advantage", "group_zscore"]),
        ({"iterations": [{"k": 0, "next": 1}, {"k": 2, "next": 3}]}, ["iterations[1] is {k: 2, next: 3}", "{k: 1, next: 2}"]),
        ({"iterations": [{"k": 0, "next": 1}], "last_policy": 2}, ["last_policy is 2, expected 1"]),
        ({"sampling": {"group_size": 1}}, ["sampling.group_size is 1", "reinforce_plus_plus"]),
        ({"sampling": {"top_p": 0.9}}, ["sampling.top_p is 0.9", "importance"]),
        ({"training": {"schedule": "linear"}}, ["training.total_steps"]),
        ({"scale": "huge"}, ["scale is 'huge'", "presets present: p"]),
        ({"training": {"steps_per_iteration": 2000}}, ["steps_per_iteration is 2000", "tasks_per_iteration"]),
        ({"training": {"schedule": "linear", "total_steps": 7}}, ["total_steps is 7", "1 iterations of 8", "before the end"]),
        ({"training": {"adam_betas": [0.9, 1.5]}}, ["training.adam_betas.1 is 1.5", "less than 1"]),
        ({"policy": {"shape": {"heads": 4, "key_value_heads": 3}}}, ["policy.shape: heads is 4", "key_value_heads 3"]),
        ({"policy": {"chat_template": "none.jinja"}}, ["policy.chat_template is 'none.jinja'", "No such file"]),
        ({"verification": {"rule": "none"}}, ["verification.rule is 'none'", "math_verify"]),
        ({"fused": {"max_staleness": 1}, "training": {"importance": {"mode": "off"}}}, ["fused.max_staleness is 1", "importance.mode"]),
        ({"fused": {"tasks_per_round": 2, "steps_per_round": 3}}, ["3 optimizer steps but only 2 groups", "fused.steps_per_round"]),
        ({"iterations": [], "last_policy": 0}, ["iterations is empty"]),
        ({"last_policy": None}, ["last_policy is missing", "set it to 1"]),
        ({"sampling": {"engine": {"type": "server"}}}, ["execution.server.urls is empty"]),
        ({"sampling": {"engine": {"type": "server", "urls": []}}}, ["unknown parameter sampling.engine.urls"]),
        ({"environments": {"mine": {"type": "dataset", "path": "a", "pathh": "b"}}}, ["unknown parameter environments.mine.pathh"]),
        ({"environments": {"mine": {"type": "dataset"}}}, ["environments.mine.path is missing"]),
        ({"environments": {"all": {"type": "rational_arithmetic"}}}, ["environments has the name 'all'", "choose another"]),
        ({"verification": {"timeout": float("inf")}}, ["verification.timeout is inf", "finite"]),
        ({"method": "m" * 5000}, ["there is no", "presets present: p"]),
    ],
)
def test_a_mistake_gets_one_clear_sentence(tmp_path, own, fragments):
    with pytest.raises(ParameterError) as caught:
        load_params(project(tmp_path, own))
    for fragment in fragments:
        assert fragment in str(caught.value)
    assert "pydantic" not in str(caught.value)


def test_a_mistake_in_a_preset_names_the_preset(tmp_path):
    with pytest.raises(ParameterError, match=r"conf/method/p\.yaml: .*learning_rate"):
        load_params(project(tmp_path, {}, method={"training": {"learning_rate": -1}}))


def test_a_mistake_between_keys_names_the_file_that_wrote_one_of_them_last(tmp_path):
    root = project(tmp_path, {"policy": {"shape": {"heads": 4}}}, method={"policy": {"shape": {"key_value_heads": 3}}})
    with pytest.raises(ParameterError, match=r"^\S*/params\.yaml: policy\.shape: heads is 4"):
        load_params(root)


def test_a_key_that_is_given_twice_is_a_mistake(tmp_path):
    root = project(tmp_path, {})
    (root / "conf/scale/p.yaml").write_text("tasks: {train: 64}\nsampling: {}\ntasks: {eval: 8}\n")
    with pytest.raises(ParameterError, match=r"conf/scale/p\.yaml: .*the key tasks is given twice.*line 3"):
        load_params(root)
    (root / "conf/scale/p.yaml").write_text("x: &x {train: 64}\n".replace("x: &x", "tasks: &x") + "sampling: {}\n")
    assert load_params(root).tasks.train == 64


@pytest.mark.parametrize("content", ["- a\n- b\n", "a: [1\n", "seed: 2024-13-45\n", "a: &a\n  b: *a\n"])
def test_a_file_that_is_no_mapping_is_named(tmp_path, content):
    root = project(tmp_path, {})
    (root / "params.yaml").write_text(content)
    with pytest.raises(ParameterError, match=r"params\.yaml"):
        load_params(root)


@pytest.mark.parametrize("method", sorted(p.stem for p in (ROOT / "conf/method").glob("*.yaml")))
@pytest.mark.parametrize("scale", sorted(p.stem for p in (ROOT / "conf/scale").glob("*.yaml")))
def test_every_shipped_preset_loads_with_every_other(tmp_path, method, scale):
    (tmp_path / "conf").symlink_to(ROOT / "conf")
    own = yaml.safe_load((ROOT / "params.yaml").read_text()) | {"method": method, "scale": scale}
    if scale == "gpu":
        own["policy"] = {"base": "models/base"}  # its lengths are a real model's
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(own))
    assert load_params(tmp_path).iterations


def test_tools_of_full_size_need_a_real_model(tmp_path):
    (tmp_path / "conf").symlink_to(ROOT / "conf")
    own = yaml.safe_load((ROOT / "params.yaml").read_text()) | {"method": "ftrl", "scale": "gpu", "environment": "tools_full"}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(own))
    with pytest.raises(ParameterError, match=r"are 17408, but policy\.shape\.max_positions is \d+: .*set policy\.base to a model"):
        load_params(tmp_path)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(own | {"policy": {"base": "models/base"}}))
    params = load_params(tmp_path)
    assert (params.sampling.episodes.unit, params.tasks.demonstrations, params.policy.max_prompt_tokens) == ("turn", 0, 16384)


def test_stage_views_hold_what_a_stage_may_read_and_nothing_else(tmp_path):
    params = load_params(ROOT)
    write_stage_views(params, tmp_path)
    for stage, sections in STAGE_SECTIONS.items():
        content = json.loads((tmp_path / f"{stage}.json").read_text())
        assert set(content) == set(sections)
        seen = read_stage_view(tmp_path / f"{stage}.json")
        for section, key in UNSEEN.get(stage, ()):
            assert key not in content[section]
            whole = getattr(seen, section).model_copy(update={key: getattr(getattr(params, section), key)})
            seen = seen.model_copy(update={section: whole})
        assert all(getattr(seen, section) == getattr(params, section) for section in sections)


@pytest.mark.parametrize(
    "own",
    [
        {"sampling": {"group_size": 1}, "training": {"advantage": {"type": "reinforce_plus_plus"}}},
        {"sampling": {"top_p": 0.9}, "training": {"importance": {"mode": "off"}}},
        {"sampling": {"tasks_per_iteration": 4}, "training": {"steps_per_iteration": 2}},
        {"sampling": {"engine": {"type": "server"}}, "execution": {"server": {"urls": ["http://127.0.0.1:1/v1"]}}},
    ],
)
def test_every_stage_reads_what_was_valid_as_a_whole(tmp_path, own):
    params = load_params(project(tmp_path, own))
    write_stage_views(params, tmp_path / "views")
    for stage, sections in STAGE_SECTIONS.items():
        back = read_stage_view(tmp_path / "views" / f"{stage}.json")
        whole = [section for section in sections if section not in {name for name, _ in UNSEEN.get(stage, ())}]
        assert all(getattr(back, section) == getattr(params, section) for section in whole)


def test_stages_see_what_a_chat_template_says_and_not_where_it_lies(tmp_path):
    views = []
    for name, text in (("a.jinja", "{{ messages }}"), ("b.jinja", "{{ messages }}"), ("b.jinja", "{{ messages }}!")):
        folder = tmp_path / str(len(views))
        folder.mkdir()
        (folder / name).write_text(text)
        write_stage_views(load_params(project(folder, {"policy": {"chat_template": name}})), folder / "views")
        views.append((folder / "views/rollout.json").read_bytes())
    assert views[0] == views[1] != views[2]


def test_a_stage_s_part_that_is_damaged_is_one_clear_sentence(tmp_path):
    (tmp_path / "rollout.json").write_text('{"sampling": {"groupsize": 1}}')
    with pytest.raises(ParameterError, match=r"rollout\.json: cannot be read"):
        read_stage_view(tmp_path / "rollout.json")


def test_execution_settings_are_in_no_stage_view():
    """They change speed, never a result: changing one must run nothing again."""
    assert all("execution" not in sections for sections in STAGE_SECTIONS.values())


def test_every_other_section_is_read_by_some_stage():
    read = {section for sections in STAGE_SECTIONS.values() for section in sections}
    assert set(Params.model_fields) - read == {"execution", "last_policy"}


def test_appeals_and_noise_are_invisible_to_stages_that_verify_no_training_sample(tmp_path):
    root = project(tmp_path, {"verification": {"appeals": {"enabled": True}, "noise": {"type": "independent"}}})
    for stage in ("generate", "finish"):
        view = stage_view(load_params(root), stage)["verification"]
        assert "rule" in view and not {"appeals", "noise"} & set(view)
    assert stage_view(load_params(root), "verify")["verification"]["appeals"]["enabled"]


def test_the_abstention_limit_makes_no_finished_work_stale(tmp_path):
    """It stops a run, and is in no result: raising it must begin no fused iteration anew."""
    root = project(tmp_path, {"verification": {"abstain_limit": 0.3}})
    for stage in ("generate", "presample", "verify", "train", "finish", "evaluate"):
        assert "abstain_limit" not in stage_view(load_params(root), stage)["verification"]
    write_stage_views(load_params(root), tmp_path)
    seen = read_stage_view(tmp_path / "train.json")
    assert with_abstain_limit(seen, root) == seen.model_copy(update={"verification": load_params(root).verification})
    assert with_abstain_limit(seen, root).verification.abstain_limit == 0.3


def test_a_verifier_parameter_is_invisible_to_sampling_and_warm_start():
    """`generate` sees it, because golds are checked by the verifier; its output is the same, so nothing below runs again. The functions
    that tasks of a data set name are the exception (tests/rounds/test_rounds_generate.py)."""
    for stage in ("rollout", "warm_start"):
        assert stage_view(Params(verification={"rule": "numeric", "timeout": 9.0}), stage)["verification"] == {"functions": {}}
    # A policy from scratch is measured at step 0 too, by the function that its tasks name.
    mine = {"mine": {"type": "dataset", "path": "q.csv", "verifier": "f"}, "sums": {"type": "rational_arithmetic"}}
    functions = {"f": {"path": "f.py", "source": "def f(completions, **_): return [1.0]"}}
    params = Params(
        environments=mine, verification={"functions": functions}, tasks={"texts": 9},
        warm_start={"max_steps": 0, "pretraining": {"max_steps": 5}},
    )  # fmt: skip
    assert list(stage_view(params, "warm_start")["verification"]["functions"]) == ["f"]


def test_a_project_of_own_environments_has_no_others(tmp_path):
    mine = {"mine": {"type": "dataset", "path": "data/raw/questions.csv"}}
    root = project(tmp_path, {"environments": mine}, environment=yaml.safe_load((ROOT / "conf/environment/own.yaml").read_text()))
    assert list(load_params(root).environments) == ["mine"]


def test_origins_of_a_section_that_another_replaces_are_forgotten(tmp_path):
    root = project(
        tmp_path,
        {},
        scale={"training": {"advantage": {"type": "group_zscore", "epsilon": 1.0}}},
        method={"training": {"advantage": {"type": "backward_zscored", "false_positive_rate": 0.1, "false_negative_rate": 0.1}}},
    )
    params, origins = resolve_params(root)
    assert params.training.advantage.epsilon != 1.0 and "training.advantage.epsilon" not in origins
    assert origins["training.advantage.type"] == str(root / "conf/method/p.yaml")
