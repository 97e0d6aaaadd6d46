"""What a published policy holds beside its weights."""

from trainer_fixtures import files_of, make_params, make_policy

from assay.training.policies import load_model, publish_policy


def test_the_readme_of_the_source_does_not_describe_what_was_trained_from_it(tmp_path):
    source = make_policy(tmp_path / "source")
    (source / "README.md").write_text("# A model of somebody else's\n")
    (source / "LICENSE").write_text("theirs\n")
    model = load_model(source, make_params())
    publish_policy(model, model.state_dict(), source, tmp_path / "next")
    assert files_of(source).keys() - files_of(tmp_path / "next").keys() == {"README.md"}
    assert (tmp_path / "next/LICENSE").read_text() == "theirs\n"
