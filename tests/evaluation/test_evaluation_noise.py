"""Estimates of the rule's errors as people see them: coverage counted by hand, warnings first, many rounds that stay readable."""

import csv
import re
from itertools import pairwise

import duckdb
import pytest
from synthetic_run import ByteRenderer, Shape, make_run

from assay.evaluation import evaluate, evaluate_run
from assay.evaluation.charts import FEW
from assay.evaluation.definitions import APPEALS, queries
from assay.evaluation.figures_noise import noise_figures
from assay.evaluation.noise import (
    MAX_ROWS,
    MAX_WARNINGS,
    coverage,
    covers,
    judged,
    left_out,
    noise_grid,
    noise_sentences,
    noise_warnings,
    warning_lines,
)
from assay.evaluation.report import report_html
from assay.trajectories import schema, to_table


def row(iteration: int = 0, round_: int = 0, truth: float | None = 0.25, **values) -> dict:
    """An estimate of 0.3 [0.2, 0.4] from 40 of 160 rejected answers."""
    found = dict.fromkeys(schema("noise_estimates").names) | {
        "iteration": iteration, "round": round_, "environment": "rational", "verifier": "string_match", "against": "judge", "n": 40,
        "rule_positives": 80, "rule_negatives": 160, "examined_negatives": 40, "upheld_negatives": 9, "false_negatives": 36.0,
        "false_negative_rate": 0.3, "false_negative_low": 0.2, "false_negative_high": 0.4, "smoothed_rate": 0.31,
        "carried_rate": 0.311, "true_false_negative_rate": truth, "false_positive_rate": 0.02, "false_positive_source": "assumed",
        "smoothed_false_positive_rate": 0.02, "appeal_probability": 0.25, "examined_positives": 0, "judge": "math_verify",
        "judge_calls": 38, "judge_tokens": 1200, "judge_abstentions": 1, "enough": True,
    }  # fmt: skip
    return found | values


@pytest.fixture(scope="module")
def appeals(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("appeals"), Shape(appeals=True))


@pytest.fixture(scope="module")
def rounds(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("rounds"), Shape(appeals=True, rounds=100))


def page_of(record, params):
    table = evaluate(record.tasks, record.trajectories, record.verdicts, params.evaluation)
    return report_html(record, table, params, ByteRenderer())


def test_an_interval_covers_the_truth_of_its_batch_or_not():
    rows = [row(0, truth=0.25), row(1, truth=0.41), row(2, truth=0.4), row(3, truth=None), row(4, against="oracle", judge=None)]
    assert [covers(one) for one in rows] == [True, False, True, None, None]
    assert coverage(rows) == (2, 3) and coverage(rows, "false_positive") == (0, 0)
    # At q = 1 the interval is a point and may differ from the truth in the last digit alone.
    assert covers(row(truth=0.1 + 0.2, false_negative_low=0.3, false_negative_high=0.3))
    assert noise_sentences(rows) == [
        "The interval covers the true false-negative rate in 2 of 3 estimates.",
        "math_verify was asked 152 times (4,800 tokens) and did not decide 4 answers.",
    ]


def test_an_estimate_by_the_oracle_is_not_counted_as_covered(record):
    estimates = record.noise_estimates.to_pylist()
    assert not judged(record.noise_estimates)
    oracle = [one | {"against": "oracle"} for one in estimates]
    assert noise_sentences(oracle) == []
    grid = noise_grid(oracle)
    assert grid is not None and not {"smoothed", "covered", "calls", "warning", "round"} & set(grid.header)
    assert grid.rows[0][grid.header.index("false negatives")] == "0.300 [0.250, 0.360]"


def test_the_table_says_what_an_estimate_rests_on():
    audit = {"false_positive_source": "audit", "false_positive_low": 0.0, "false_positive_high": 0.05, "examined_positives": 20}
    grid = noise_grid([row(truth=0.5), row(1, enough=False, warning="odd"), row(2, residual_false_negative_rate=0.2, **audit)])
    assert grid is not None and "round" not in grid.header
    cells = [dict(zip(grid.header, line, strict=True)) for line in grid.rows]
    assert [one["covered"] for one in cells] == ["no", "yes", "yes"]
    assert [one["false negatives"] for one in cells] == ["0.300 [0.200, 0.400]", "0.300 [0.200, 0.400], too few", "0.300 [0.200, 0.400]"]
    assert [one["false positives"] for one in cells] == ["0.020, assumed", "0.020, assumed", "0.020 [0.000, 0.050], audit"]
    assert [one["warning"] for one in cells] == ["–", "yes", "–"]
    assert [one["left after recovery"] for one in cells] == ["–", "–", "0.200"]
    assert {one["examined"] for one in cells} == {"40 of 160"} and cells[2]["audited"] == "20 of 80"
    assert cells[0] | {"smoothed": "0.310", "truth": "0.500", "calls": "38", "tokens": "1,200"} == cells[0]


def test_of_many_rounds_the_table_shows_a_spread_with_both_ends():
    rows = [row(k, r, environment=name) for k in range(2) for r in range(150) for name in ("a", "b")]
    grid = noise_grid(rows[::-1])
    assert grid is not None and len(grid.rows) <= MAX_ROWS
    shown = [(line[0], int(line[3]), int(line[4])) for line in grid.rows]
    assert shown == sorted(shown) and {("a", 0, 0), ("a", 1, 149), ("b", 0, 0), ("b", 1, 149)} <= set(shown)
    gaps = [150 * (k2 - k1) + r2 - r1 for (e1, k1, r1), (e2, k2, r2) in pairwise(shown) if e1 == e2]
    assert max(gaps) - min(gaps) <= 1
    assert left_out(rows) == ["Shown are 24 of 600 estimates, of evenly spread moments; noise_estimates has all."]
    assert left_out(rows[:MAX_ROWS]) == [] and len(noise_sentences(rows)) == 2


def test_a_warning_is_said_once_for_iteration_environment_and_verifier():
    rows = [row(0, 3, warning="drift of 0.2"), row(0, 1, warning="drift of 0.1"), row(0, 2), row(1, 0, warning="little left"),
            row(0, 0, environment="sums", warning="down")]  # fmt: skip
    assert noise_warnings(rows) == [
        (0, "rational", "string_match", "drift of 0.2 (round 3, and 1 earlier round)"),
        (0, "sums", "string_match", "down"),
        (1, "rational", "string_match", "little left"),
    ]
    assert warning_lines(rows)[0] == "Iteration 1, string_match on rational: little left."
    many = warning_lines([row(k, warning="odd") for k in range(20)])
    assert len(many) == MAX_WARNINGS + 1 and many[0].startswith("Iteration 19") and many[-1] == "8 more are in noise_estimates."


def test_the_report_shows_estimate_smoothed_rate_and_truth(appeals, params):
    page = page_of(appeals, params)
    estimates = appeals.noise_estimates.to_pylist()
    known = [one for one in estimates if one["true_false_negative_rate"] is not None]
    held = sum(one["false_negative_low"] <= one["true_false_negative_rate"] <= one["false_negative_high"] for one in known)
    assert len(known) == 3 and f"The interval covers the true false-negative rate in {held} of 3 estimates." in page
    for one in known:
        around = f'<span class="ci">[{one["false_negative_low"]:.3f}, {one["false_negative_high"]:.3f}]</span>'
        numbers = [f"{one['false_negative_rate']:.3f} {around}"]
        numbers += [f"{one['smoothed_rate']:.3f}", f"{one['true_false_negative_rate']:.3f}", "yes" if covers(one) else "no"]
        assert "".join(f'<td class="n">{cell}</td>' for cell in numbers) in page
    # Text of a judge is only text, and it stands before the pictures.
    line = "Iteration 2, reasoning_gym on chain_sum: the false-negative rate is &lt;far&gt; away from the average."
    section = page[page.index('<section id="verifier">') : page.index('<section id="training">')]
    assert section.index(line) < section.index("<figure>")
    assert "realised rate" in section and APPEALS.split(":")[0] in section.replace("&#39;", "'")


def test_few_estimates_are_points_with_whiskers_and_the_truth_is_a_dashed_line(appeals):
    figures = {figure.title: figure for figure in noise_figures(appeals.noise_estimates)}
    assert list(figures) == [f"False {kind} of the rule: {name}" for kind, name in
                             (("negatives", "rational"), ("positives", "rational"), ("negatives", "chain_sum"))]  # fmt: skip
    figure = figures["False negatives of the rule: rational"]
    assert [(name, dashed) for name, _, dashed in figure.legend] == [
        ("estimate against judge", False), ("smoothed", False), ("truth, by the oracle", True),
    ]  # fmt: skip
    (whiskers,) = re.findall(r'class="whisker s1" d="([^"]*)"', figure.svg)
    assert whiskers.count("M") == whiskers.count("L") == 3
    assert 'class="band' not in figure.svg and "thin" not in figure.svg
    assert figure.svg.count('class="line') == 2 and figure.svg.count("dashed") == 1
    assert "put before math_verify" in figure.note and "means over" not in figure.note
    # chain_sum has neither oracle nor audit: no truth, and no picture of a rate that nobody measured.
    assert [name for name, _, _ in figures["False negatives of the rule: chain_sum"].legend] == ["estimate against judge", "smoothed"]


def test_many_rounds_are_a_band_of_means(rounds):
    first, *_ = noise_figures(rounds.noise_estimates)
    assert 'class="band f1"' in first.svg and "whisker" not in first.svg and "line s1 thin" in first.svg
    assert first.note.endswith("Drawn are means over 5 rounds.")
    rows = [one for one in rounds.noise_estimates.to_pylist() if one["environment"] == "rational"]
    rows.sort(key=lambda one: (one["iteration"], one["round"]))
    assert len(rows) == 300 > FEW
    titles = re.findall(r"<title>estimate against judge: ([\d.]+) at (\d+)</title>", first.svg)
    assert len(titles) == 60 and titles[1][1] == "7"
    assert float(titles[1][0]) == pytest.approx(sum(one["false_negative_rate"] for one in rows[5:10]) / 5, rel=1e-3)
    assert first.svg.count('class="hair"') == 2


def test_an_assumed_rate_is_drawn_as_assumed_and_only_beside_the_truth():
    rows = [row(k, true_false_positive_rate=0.1) for k in range(2)]
    _, figure = noise_figures(to_table("noise_estimates", rows))
    assert figure.title == "False positives of the rule, assumed: rational" and "nothing here measures it" in figure.note
    assert [(name, dashed) for name, _, dashed in figure.legend] == [("assumed, not measured", False), ("truth, by the oracle", True)]
    assert "whisker" not in figure.svg
    assert len(noise_figures(to_table("noise_estimates", [row(0), row(1)]))) == 1


def test_corrected_runs_show_how_far_their_advantages_are_from_the_control(appeals, record, params):
    page, plain = page_of(appeals, params), page_of(record, params)
    titles = ("Corrected advantages against the matched control", "Cosine of corrected advantages and matched control")
    for title in titles:
        assert title in page and title not in plain
    assert "Corrected advantages against the matched control. mean from 0.4 to 0.43; largest from 0.8 to 0.8" in page
    assert "cosine from 0.9 to 0.88" in page


def test_without_appeals_figure_and_columns_of_plots_are_as_before(record, appeals, params, tmp_path):
    (figure,) = noise_figures(record.noise_estimates)
    assert [name for name, _, _ in figure.legend] == ["estimate against reference", "truth, by the oracle"]
    assert 'class="band f1"' in figure.svg and "whisker" not in figure.svg and "thin" not in figure.svg
    lines = {}
    for name, run in (("off", record), ("on", appeals)):
        evaluate_run(run, params, tmp_path / name, None, ByteRenderer())
        lines[name] = list(csv.DictReader((tmp_path / name / "plots" / "noise.csv").open()))
    assert list(lines["off"][0]) == list(lines["on"][0])
    known = {"false_negative_rate": "0.3", "true_false_negative_rate": "0.31", "smoothed_rate": "", "round": "0"}
    assert lines["off"][0] | known == lines["off"][0]
    expected = {(r["iteration"], r["environment"]): r for r in appeals.noise_estimates.to_pylist()}
    for line in lines["on"]:
        mine = expected[int(line["iteration"]), line["environment"]]
        assert float(line["smoothed_rate"]) == pytest.approx(mine["smoothed_rate"], rel=1e-5)
        assert line["false_positive_source"] == mine["false_positive_source"]


def test_cards_name_the_judge_what_it_saw_and_its_warning(appeals, rounds, params, tmp_path):
    evaluate_run(appeals, params, tmp_path / "a", None, ByteRenderer())
    card = (tmp_path / "a" / "cards" / "policy-2.md").read_text()
    mine = next(r for r in appeals.noise_estimates.to_pylist() if (r["iteration"], r["environment"]) == (2, "rational"))
    sentence = next(line for line in card.splitlines() if line.startswith("* string_match on rational"))
    assert sentence.startswith("* string_match on rational, against judge math_verify, iteration 2: ")
    examined = f"({mine['examined_negatives']} of {mine['rule_negatives']} rejected samples examined)"
    assert f"{examined}; smoothed {mine['smoothed_rate']:.3f}" in sentence
    assert "warning: the false-negative rate is &lt;far> away" in card and APPEALS in card
    evaluate_run(rounds, params, tmp_path / "r", None, ByteRenderer())
    card = (tmp_path / "r" / "cards" / "policy-1.md").read_text()
    assert re.findall(r"iteration (\d), round (\d+):", card) == [("1", "99")] * 2  # of 100 rounds the last


def test_the_query_of_appeals_finds_what_the_judge_accepted(appeals):
    database = duckdb.connect()
    for name in ("tasks", "trajectories", "verdicts"):
        database.register(name, getattr(appeals, name))
    plain, asked = queries("rational", "oracle", "eval", 3), queries("rational", "oracle", "eval", 3, appeals=True)
    (added,) = set(asked) - set(plain)
    found = database.execute(asked[added]).fetchall()
    appealed = [one for one in appeals.verdicts.to_pylist() if one["appealed"]]
    assert sum(line[2] for line in found) == len(appealed) > 100
    assert sum(line[3] for line in found) == sum(one["upheld"] for one in appealed) > 10
    assert found[0][:2] == ("rational", "fraction")
