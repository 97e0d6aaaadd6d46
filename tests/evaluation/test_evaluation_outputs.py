"""What a run leaves behind: metrics, plots, cards, the printed table; read by the tools that people use."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
import yaml
from hand_made import sample_tables, tasks_table
from synthetic_run import ByteRenderer, Shape, make_run

from assay.evaluation import RunRecord, cards, console_summary, evaluate, evaluate_run, model_card
from assay.evaluation import record as run_record
from assay.evaluation.cards import Common, tasks_hash
from assay.evaluation.definitions import queries
from assay.evaluation.metrics import Lookup
from assay.params import Params
from assay.params.sampling import EvaluationParams
from assay.params.self_verification import SelfVerification
from assay.rounds import STAGED, read_record
from assay.trajectories import read_table, write_shard

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def out(record, params, tmp_path_factory):
    folder = tmp_path_factory.mktemp("out")
    evaluate_run(record, params, folder, None, ByteRenderer())
    return folder


def files(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def test_equal_inputs_give_equal_bytes(out, tmp_path, params):
    evaluate_run(make_run(tmp_path / "run", Shape()), params, tmp_path / "out", None, ByteRenderer())
    again = files(tmp_path / "out")
    assert again.keys() == files(out).keys()
    for name, content in files(out).items():
        assert again[name].replace(str(tmp_path).encode(), b"") == content, name


def evaluated(record, params, folder):
    evaluate_run(record, params, folder, None, ByteRenderer())
    return {name: content.replace(str(folder).encode(), b"") for name, content in files(folder).items()}


@pytest.mark.parametrize("reasoning", [False, True])
def test_tokens_that_no_section_looks_at_are_not_read_and_nothing_is_other_without_them(tmp_path, params, reasoning):
    """Also where a policy was to judge its samples, of which the report says how many prompts left something out."""
    whole = make_run(tmp_path / "run", Shape(iterations=1, reasoning=reasoning))
    empty = ("turns", "tool_calls", *(() if reasoning else ("states", "steps")))
    for name in empty:
        write_shard(tmp_path / "run/rollout/0" / f"{name}.parquet", name, [])
    stages = STAGED | dict.fromkeys(empty, "rollout")
    read = read_record(tmp_path / "run/tasks/tasks.parquet", tmp_path / "run", stages, 1)
    assert read.batches.column_names == ["iteration", "round", "kept", "drop_reason", "reward", "rehearsal"]
    assert ("prompt_ids" in read.trajectories.column_names) == reasoning
    whole = replace(read, batches=whole.batches, trajectories=whole.trajectories)
    judging = params.model_copy(update={"self_verification": SelfVerification(share=1.0, evaluation=1)})
    assert evaluated(read, judging, tmp_path / "a") == evaluated(whole, judging, tmp_path / "b")


def test_the_order_of_rows_does_not_matter(out, tmp_path, record, params):
    turned = replace(
        record,
        **{
            name: table.take(pa.array(range(len(table) - 1, -1, -1)))
            for name in ("trajectories", "verdicts", "batches", "updates", "noise_estimates")
            if (table := getattr(record, name)) is not None
        },
    )
    evaluate_run(turned, params, tmp_path, None, ByteRenderer())
    assert (tmp_path / "metrics.json").read_bytes() == (out / "metrics.json").read_bytes()
    assert (tmp_path / "report.html").read_bytes() == (out / "report.html").read_bytes()


def test_metrics_json_nests_first_last_gain_and_every_policy(out, evaluations):
    metrics = json.loads((out / "metrics.json").read_text())
    assert list(metrics) == ["first", "last", "gain", "policies"]
    assert list(metrics["policies"]) == [f"policy_{k}" for k in range(4)]
    assert metrics["last"] == metrics["policies"]["policy_3"]
    rows = {(r["iteration"], r["split"], r["metric"]): r for r in evaluations.to_pylist() if r["environment"] == "all"}
    row = rows[3, "eval", "pass@8"]
    found = metrics["last"]["eval"]
    assert [found["pass@8"], found["pass@8_low"], found["pass@8_high"]] == pytest.approx(
        [row["value"], row["low"], row["high"]], rel=1e-5
    )
    assert found["accuracy_n"] == rows[3, "eval", "accuracy_rule"]["n"] == rows[3, "eval", "accuracy_oracle"]["n"]
    assert metrics["gain"]["eval"]["pass@1"] == pytest.approx(rows[3, "eval", "pass@1_gain"]["value"], rel=1e-5)


def test_dvc_reads_metrics_and_plots(out, tmp_path, monkeypatch):
    """The real DVC on the real files: a broken metric or plot is only an exit code away."""
    import logging

    from dvc.repo import Repo

    # Where another test imported DVC first, its log goes to that test's captured output, which is closed.
    monkeypatch.setattr(logging.getLogger("dvc"), "handlers", [])

    evaluate = tmp_path / "data/evaluate"
    for name, content in files(out).items():
        (evaluate / name).parent.mkdir(parents=True, exist_ok=True)
        (evaluate / name).write_bytes(content)
    declared = yaml.safe_load((ROOT / "dvc.yaml").read_text())
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump({key: declared[key] for key in ("metrics", "plots")}))
    repo = Repo.init(str(tmp_path), no_scm=True)
    shown = repo.metrics.show()[""]["data"]["data/evaluate/metrics.json"]["data"]
    assert shown["last"]["eval"]["pass@1"] > shown["first"]["eval"]["pass@1"]
    drawn = repo.plots.show()["workspace"]["sources"]["data"]
    assert not any("error" in value for value in drawn.values())
    assert drawn.keys() == {f"data/evaluate/plots/{file.name}" for file in (evaluate / "plots").iterdir()}
    for plot in declared["plots"]:
        for options in plot.values():
            for file, columns in options["y"].items():
                assert {options["x"], *columns} <= drawn[file]["data"][0].keys()
    assert drawn["data/evaluate/plots/pass_at_k.csv"]["data"][3]["pass@largest"] == str(shown["last"]["eval"]["pass@8"])


def test_plots_have_a_row_per_policy_or_step(out):
    def rows(name):
        return list(csv.DictReader((out / "plots" / f"{name}.csv").open()))

    assert [row["policy"] for row in rows("pass_at_k")] == ["0", "1", "2", "3"]
    assert [row["global_step"] for row in rows("learning")] == [str(i) for i in range(12)]
    assert float(rows("learning")[0]["mismatch_mean"]) == 2e-7
    assert rows("noise")[0]["true_false_negative_rate"] == "0.31"


def test_console_table_speaks_of_every_policy(evaluations):
    text = console_summary(evaluations, "data/evaluate/report.html")
    lines = text.splitlines()
    assert (
        lines[0].startswith("held-out tasks (40), 95% intervals") and lines[-1] == "report: data/evaluate/report.html"
    )
    assert [line[0] for line in lines[2:6]] == ["0", "1", "2", "3"]
    assert "policy 3 minus policy 0, paired by task: pass@1 +0." in text and "out-of-distribution tasks (12)" in text
    assert max(map(len, lines)) <= 110
    assert "rule says: over the tasks that every verifier decided, 30 at policy 3" in text  # chain_sum has no oracle


def test_console_table_of_a_run_that_decided_nothing():
    tables = sample_tables([(0, "a", {"rule": "?"}), (1, "a", {"rule": "?"})])
    table = evaluate(tasks_table({"a": ("sums", "eval")}), *tables, EvaluationParams(samples=1, pass_at=(1,)))
    text = console_summary(table)
    assert "100.0%" in text and " - " in text and "nan" not in text


def test_queries_of_the_report_give_its_numbers(record, evaluations):
    database = duckdb.connect()
    for name in ("tasks", "trajectories", "verdicts"):
        database.register(name, getattr(record, name))
    for environment, role in (("rational", "oracle"), ("chain_sum", "rule")):
        first, *others = queries(environment, role, "eval", 3).values()
        value, count = database.execute(first).fetchone()
        row = next(
            r
            for r in evaluations.to_pylist()
            if (r["iteration"], r["environment"], r["split"], r["metric"]) == (3, environment, "eval", "pass@1")
        )
        assert (value, count) == (pytest.approx(row["value"]), row["n"])
        assert len(database.execute(others[0]).fetchall()) == 20
        assert database.execute(others[1]).fetchone()[0] == "fraction"
        some = record.trajectories.slice(0, 1).to_pylist()[0]
        tokens = database.execute(others[2].replace("ID", some["trajectory_id"])).fetchall()
        assert [token for token, _ in tokens] == some["completion_ids"]


def test_cards_of_every_policy_name_data_verifiers_noise_and_results(out, record, evaluations):
    assert sorted(path.name for path in (out / "cards").iterdir()) == [
        "dataset.md",
        *(f"policy-{k}.md" for k in range(4)),
    ]
    card = (out / "cards" / "policy-3.md").read_text()
    front = yaml.safe_load(card.split("---")[1])
    assert front["library_name"] == "transformers" and "base_model" not in front
    for words in (
        tasks_hash(record.tasks),
        "| rule | string_match | 1 |",
        "0.260 [0.210, 0.320]",
        "true rate, by the oracle, 0.270",
        "3 iterations of grpo, 12 optimizer steps",
    ):
        assert words in card
    row = next(
        r
        for r in evaluations.to_pylist()
        if (r["iteration"], r["environment"], r["split"], r["metric"]) == (3, "rational", "eval", "pass@1")
    )
    assert f"| rational | eval | 30 | {row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]" in card
    assert "No reinforcement learning yet" in (out / "cards" / "policy-0.md").read_text()
    dataset = (out / "cards" / "dataset.md").read_text()
    assert "| evaluation | 4 | 1,664 |" in dataset and "| rule | abstain | timeout |" in dataset


def test_cards_without_training_tables_and_with_a_base_model(record, evaluations):
    bare = RunRecord(record.tasks, record.trajectories, record.verdicts)
    params = Params.model_validate({"policy": {"base": "some/model"}})
    card = model_card(bare, Lookup(evaluations), params, 2, Common.of(bare))
    assert yaml.safe_load(card.split("---")[1])["base_model"] == "some/model"
    assert "No estimate of the false-negative rate" in card


def test_the_record_is_joined_and_counted_once_whatever_the_number_of_policies(record, params, tmp_path, monkeypatch):
    calls = []
    counted = [(cards, name) for name in ("tasks_hash", "task_counts", "verifiers", "noise_rows")]
    for module, name in (*counted, (run_record, "gather")):
        plain = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *given, plain=plain, name=name: calls.append(name) or plain(*given))
    evaluate_run(replace(record), params, tmp_path, None, ByteRenderer())
    assert len(list((tmp_path / "cards").iterdir())) == 5
    assert sorted(calls) == ["gather", "noise_rows", "task_counts", "tasks_hash", "verifiers"]


def test_task_hash_depends_on_the_set_alone(record):
    turned = record.tasks.take(pa.array(range(len(record.tasks) - 1, -1, -1)))
    assert tasks_hash(turned) == tasks_hash(record.tasks) != tasks_hash(record.tasks.slice(1))


def test_evaluations_shard_is_the_table(out, evaluations):
    assert read_table("evaluations", out).to_pylist() == evaluations.to_pylist()
