"""`assay params`: every value with its origin, one parameter with its meaning, and nearest names for what there is not."""

from pathlib import Path

import pytest
import yaml

from assay.cli import main
from assay.params import Params

HERE = Path(__file__).parents[2]


@pytest.fixture
def said(tmp_path, capsys):
    """Output and errors of `assay params` with the repository's presets."""
    own = {"method": "rloo", "scale": "micro", "iterations": [{"k": 0, "next": 1}], "last_policy": 1, "training": {"learning_rate": 0.5}}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(own))
    (tmp_path / "conf").symlink_to(HERE / "conf")

    def call(*arguments: str, code: int = 0) -> str:
        assert main(["params", *arguments, "--root", str(tmp_path)]) == code
        out, err = capsys.readouterr()
        return err if code else out

    return call


def origin(line: str) -> str:
    return line.split("  # ")[1]


def test_every_parameter_has_a_value_and_an_origin(said):
    lines = dict(line.split(": ", 1) for line in said().splitlines())
    assert {key.split(".")[0] for key in lines} == set(Params.model_fields)
    assert origin(lines["training.learning_rate"]) == "params.yaml" and lines["training.learning_rate"].startswith("0.5 ")
    assert origin(lines["sampling.group_size"]) == "conf/scale/micro.yaml"
    assert origin(lines["environments.rational.type"]) == "conf/environment/arithmetic.yaml"
    assert origin(lines["training.advantage.type"]) == "conf/method/rloo.yaml"
    assert origin(lines["training.weight_decay"]) == "default"


def test_a_section_shows_what_is_below_it_alone(said):
    out = said("training.advantage")
    assert out.splitlines()[0].startswith('training.advantage.type: "leave_one_out"') and "weight_decay" not in out


def test_a_parameter_shows_type_default_meaning_and_stages(said):
    out = said("filter.denominator")
    assert "type: kept, all\n" in out and 'default: "kept"\n' in out and "meaning: Rows that the loss is divided by" in out
    assert "stages that see it: filter, train\n" in out
    assert "runs nothing again" in said("execution.threads")
    assert "verify" in said("verification.noise.type") and "rollout" not in said("verification.noise.type")


def test_a_parameter_that_this_run_has_not_says_where_it_is(said):
    out = said("training.advantage.lam")
    assert out.startswith("training.advantage.lam: not in this run\nwhere training.advantage has the type generalized:\n")
    assert "default: 16" in said("training.lora.rank")


def test_of_several_forms_the_one_that_the_run_has_is_shown(said):
    assert said("environments.rational.terms").count("type:") == 1
    assert said("environments.another.path").count("\nwhere environments.NAME has the type ") == 4


@pytest.mark.parametrize(("wrong", "right"), [
    ("training.lerning_rate", "training.learning_rate"),
    ("group_size", "sampling.group_size"),
    ("learning_rat", "training.learning_rate"),
    ("trainin", "training"),
])  # fmt: skip
def test_an_unknown_key_names_the_nearest(said, wrong, right):
    message = said(wrong, code=2)
    assert message.startswith(f"error: there is no parameter {wrong}: did you mean ") and right in message
    assert message.count("\n") == 1
