"""The report's section on self-verification and steps: what it counts, what it shows of a run, and that traces are only text."""

import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from synthetic_run import ByteRenderer, Shape, make_run

from assay.evaluation import EvaluationError, evaluate
from assay.evaluation.charts import Stop, path_chart
from assay.evaluation.critique_prompts import prompt_grid
from assay.evaluation.critiques import judged_samples
from assay.evaluation.figures_self_verification import confusion_grid, token_figure, verification_figures, verification_sentence, vote_grid
from assay.evaluation.figures_steps import ReasoningSteps
from assay.evaluation.figures_training import critic_figures
from assay.evaluation.metrics import Lookup
from assay.evaluation.report import report_html
from assay.evaluation.section_self_verification import self_verification_section
from assay.evaluation.step_traces import LONGEST_STEP, MARKS, MOST_STEPS, step_traces
from assay.params.self_verification import SelfVerification
from assay.rewards.critiques import OMISSION
from assay.trajectories import schema, to_table

LEVELS = (1.0, -0.5, -1.0)
STEP = {
    "iteration": 0, "round": 0, "marker": "wait", "first_token": 0, "last_token": 0, "decided_before": 5, "decided_after": 5,
    "distance": None, "reward": 0.0, "oracle_effect": None,
}  # fmt: skip


def step(name, number, before, after, start=0, end=0, **changes):
    effect = "helpful" if after > before else "harmful" if after < before else "ineffective"
    accuracies = {"accuracy_before": before, "accuracy_after": after, "difference": after - before}
    return STEP | accuracies | {"trajectory_id": name, "step": number, "char_start": start, "char_end": end, "effect": effect} | changes


def traces(*texts, task="a"):
    empty = dict.fromkeys(schema("trajectories").names)
    return to_table("trajectories", [
        empty | {
            "trajectory_id": f"t{i}", "iteration": 0, "round": 0, "policy": "0", "task_id": task, "group_id": task, "sample_index": i,
            "kind": "solution", "prompt_ids": [1], "completion_ids": [2, 3], "loss_mask": [True] * 2, "sampled_logprobs": [-1.0] * 2,
            "finish_reason": "stop", "text": text, "sampling": {
                "temperature": 1.0, "top_p": 1.0, "max_tokens": 9, "seed": 0, "engine": "e", "engine_version": "0"},
        }
        for i, text in enumerate(texts)
    ])  # fmt: skip


def states(*names, iteration=0):
    empty = dict.fromkeys(schema("states").names)
    base = {"iteration": iteration, "round": 0, "state": 0, "tokens": 0, "closed": True, "continuations": 5, "complete": True}
    return to_table("states", [empty | base | {"trajectory_id": name} for name in names])


def shown(*steps, text="", tasks=None, verdicts=None):
    return step_traces(
        to_table("steps", list(steps)), traces(text), to_table("tasks", tasks or []), to_table("verdicts", verdicts or [])
    )  # fmt: skip


@pytest.fixture(scope="module")
def table(reasoning_evaluations):
    return Lookup(reasoning_evaluations)


def test_shares_leave_out_steps_of_which_nothing_is_known_and_traces_without_steps_count():
    rows = [step("t0", 0, 0.2, 0.4), step("t0", 1, 0.4, 0.4), step("t0", 2, 0.4, 0.4, decided_after=0), step("t1", 0, 0.5, 0.0)]
    found = ReasoningSteps(to_table("steps", rows), states("t0", "t1", "t2"), traces("", "", ""))
    assert (len(found), found.undecided) == (3, 1)
    shares = [found.shares(effect)[0] for effect in ("helpful", "ineffective", "harmful")]
    assert [share.value for share in shares] == pytest.approx([1 / 3] * 3) and all(s.low < 1 / 3 < s.high for s in shares)
    assert found.per_trace(np.ones(3, dtype=bool))[0].value == pytest.approx(1.0)
    assert found.mean(found.difference)[0].value == pytest.approx((0.2 + 0.0 - 0.5) / 3)
    figures = found.figures()
    assert [figure.title for figure in figures] == ["What steps change", "Steps of a trace", "Reward of steps"]
    assert "1 step of which nothing was decided" in figures[0].note
    assert found.sentence() == "Of the 3 steps of policy 0, 33.3% help, 33.3% change nothing, 33.3% harm."
    without = ReasoningSteps(to_table("steps", rows), None, traces("", "", ""))
    assert without.per_trace(np.ones(3, dtype=bool))[0].value == pytest.approx(1.5)


def test_accuracies_of_steps_stand_beside_what_the_oracle_says():
    rows = [
        step("t0", 0, 0.2, 0.4, oracle_effect="helpful"), step("t0", 1, 0.4, 0.4, oracle_effect="harmful"),
        step("t1", 0, 0.4, 0.4, oracle_effect="ineffective"), step("t1", 1, 0.4, 0.2),
    ]  # fmt: skip
    found = ReasoningSteps(to_table("steps", rows), states("t0", "t1"), traces("", ""))
    grid = found.agreement()
    assert grid is not None and grid.rows == (
        ("helpful", "1", "0", "0"), ("changes nothing", "0", "1", "0"), ("harmful", "0", "1", "0"),
    )  # fmt: skip
    assert found.agreement_sentence().startswith("Of 3 steps that the oracle reads, accuracies of continuations say the same of 66.7% [")
    without = ReasoningSteps(to_table("steps", rows[3:]), states("t1"), traces("", ""))
    assert without.agreement() is None and without.agreement_sentence() == ""


def test_rounds_are_moments_of_their_own_and_many_are_drawn_as_means():
    rows = [step(f"t{i}", 0, 0.0, float(i % 2), round=i) for i in range(130)]
    known = states(*(f"t{i}" for i in range(130))).set_column(2, "round", pa.array(range(130), pa.int32()))
    found = ReasoningSteps(to_table("steps", rows), known, traces(*[""] * 130))
    assert found.unit == "round" and len(found.places) == 130
    figure = found.figures()[0]
    assert "means over 3 rounds" in figure.note and figure.svg.count('class="dot f4"') == 44
    assert found.sentence() == "Of the 1 step of round 129 of iteration 0, 100.0% help, 0.0% change nothing, 0.0% harm."


def test_shares_of_a_run_are_those_of_its_table(reasoning_record, table, params):
    section = self_verification_section(reasoning_record, table, "eval", params)
    figures = {figure.title: figure for figure in section.figures}
    known = [row for row in reasoning_record.steps.to_pylist() if row["decided_before"] and row["decided_after"]]
    for row in figures["What steps change"].table[1:]:
        own = Counter(r["effect"] for r in known if r["iteration"] == int(row[0]))
        shares = [own[effect] / own.total() for effect in ("helpful", "ineffective", "harmful")]
        assert [float(cell.split()[0]) for cell in row[1:]] == pytest.approx(shares, abs=1e-4)
    first = [r for r in reasoning_record.states.to_pylist() if (r["iteration"], r["state"]) == (0, 0)]
    expected = sum(r["iteration"] == 0 for r in known) / len(first)
    assert float(figures["Steps of a trace"].table[1][1].split()[0]) == pytest.approx(expected, abs=1e-3)


def test_verification_lines_are_the_metrics_beside_the_majority_class(table):
    accuracy, parts = verification_figures(table, "eval")
    assert [(name, dashed) for name, _, dashed in accuracy.legend] == [
        ("balanced", False), ("binary", False), ("binary, of naming the majority class", True),
    ]  # fmt: skip
    for row in accuracy.table[1:]:
        names = ("verification_balanced_accuracy", "verification_accuracy", "verification_majority_accuracy")
        found = [float(cell.split()[0]) for cell in row[1:]]
        assert found == pytest.approx([table.value(int(row[0]), "eval", name) for name in names], abs=1e-4)
    assert float(parts.table[-1][1].split()[0]) > float(parts.table[1][1].split()[0])
    assert verification_sentence(table, "eval").startswith("Policy 3 judges its own samples with a balanced accuracy of 0.")
    for row in (rows := Lookup(to_table("evaluations", list(table.rows.values())))).rows.values():
        row["value"] = None if row["metric"] == "verification_balanced_accuracy" else row["value"]
    assert verification_sentence(rows, "eval") == (
        "The samples of policy 3 are all right or all not right: how well it judges them cannot be told."
    )


def test_votes_stand_beside_the_first_try(table):
    grid = vote_grid(table)
    assert grid is not None and grid.header == ("vote", "eval, k = 8", "ood, k = 8")
    assert [row[0].split()[0] for row in grid.rows] == ["most", "weighted", "weighted", "pass@1,"]
    assert grid.rows[0][1].startswith(f"{table.value(3, 'eval', 'vote_majority@8'):.3f} [")
    assert grid.rows[1][2].startswith(f"{table.value(3, 'ood', 'vote_weighted@8'):.3f} [")


def test_confusion_counts_every_critique_once(reasoning_record):
    samples = judged_samples(reasoning_record.trajectories, reasoning_record.verdicts, SelfVerification())
    grid = confusion_grid(samples, LEVELS, (0, 3))
    assert grid is not None and grid.header[2:6] == ("said right (1)", "said wrong (-0.5)", "said no answer (-1)", "no score")
    counts = {row[:2]: [int(cell.replace(",", "")) for cell in row[2:6]] for row in grid.rows}
    own = [(one, said) for one in samples if one.iteration == 3 for said in one.says]
    assert sum(map(sum, (counts["3", "right (1)"], counts["3", "wrong (-0.5)"]))) == len(own)
    assert counts["3", "right (1)"][3] == sum(said is None and one.truth == 1.0 for one, said in own) > 0
    assert counts["3", "right (1)"][0] > counts["3", "right (1)"][1]
    binary = confusion_grid([replace(samples[0], iteration=0, truth=1.0, says=(0.0, 1.0))], (1.0, 0.0, 0.0), (0,))
    assert binary is not None and binary.rows == (("0", "right (1)", "1", "1", "0", "50.0%"),)
    assert binary.header[3] == "said wrong or no answer (0)"
    assert confusion_grid([], LEVELS, (0,)) is None


def test_solutions_that_were_not_judged_and_those_without_their_beginning_are_counted():
    text = f"Solution:\n> {OMISSION}\n> 4"
    solutions = traces("", "", "", task="a").to_pylist()
    base = {"kind": "critique", "parent_id": "t0", "prompt_ids": list(text.encode())}
    critiques = [solutions[0] | base | {"trajectory_id": f"c{n}"} for n in range(2)]
    held = [solutions[0] | {"kind": "evaluation", "trajectory_id": f"e{n}"} for n in range(2)]
    critiques += [held[0] | {"kind": "evaluation_critique", "parent_id": "e0", "trajectory_id": "d"}]
    for row, group in zip(solutions, "abc", strict=True):
        row["group_id"] = group
    table = to_table("trajectories", [*solutions, *held, *critiques])
    grid = prompt_grid(table, SelfVerification(share=1.0, evaluation=1), ByteRenderer())
    assert grid is not None and grid.rows == (("that train", "3", "1", "2", "1"), ("of held-out samples", "2", "1", "1", "0"))
    without = prompt_grid(table.drop_columns(["prompt_ids"]), SelfVerification(share=1.0), ByteRenderer())
    assert without is not None and without.rows == (("that train", "3", "1", "2", "–"),)
    assert prompt_grid(table, SelfVerification(), ByteRenderer()) is None


def test_tokens_against_accuracy_is_a_path_through_the_policies(table):
    figure = token_figure(table, "eval")
    assert figure is not None and [row[0] for row in figure.table] == ["policy", "0", "1", "2", "3"]
    assert figure.svg.count("<circle") == 4 and figure.svg.count('class="ring') == 1 and figure.svg.count('class="cross') == 8
    assert re.findall(r">(policy \d)</text>", figure.svg)[:2] == ["policy 0", "policy 3"]
    points = re.search(r'class="line s1" d="M([^"]*)"', figure.svg)[1].split("L")
    across = [float(point.split()[0]) for point in points]
    assert across == sorted(across, reverse=True)  # later policies are shorter here


def test_a_path_of_one_point_or_of_equal_ones_is_drawn_and_names_are_text():
    words = {"label": "<l>", "x_label": "x", "y_label": "y"}
    assert path_chart([], 1, **words) == "" and path_chart([Stop("p", float("nan"), 1.0)], 1, **words) == ""
    same = path_chart([Stop("<p>", 5.0, 0.5), Stop("q", 5.0, 0.5)], 1, **words)
    assert "<p>" not in same and "&lt;p&gt;" in same and "nan" not in same
    assert path_chart([Stop("p", 0.0, 0.0)], 1, **words).count('class="dot') == 1


def test_critic_figures_show_what_the_updates_hold(reasoning_record, record):
    loss, explained, values = critic_figures(reasoning_record.updates)
    assert [figure.title for figure in (loss, explained, values)] == ["Value loss", "Explained variance", "Values and returns"]
    assert explained.table[1][1] == "-1" and "below -1 is drawn there" in explained.note  # -3.1 in the record
    assert loss.table[1][1] == "0.5" and values.table[1][1:] == ("0", "0.4")
    assert critic_figures(record.updates) == [] and critic_figures(None) == []


def test_parts_join_to_the_text_and_steps_say_what_they_change():
    text = "<think>Two. Wait, three. But no.</think>3"
    (trace,) = shown(
        step("t0", 0, 0.2, 0.8, 11, 24, reward=0.6, distance=0), step("t0", 1, 0.8, 0.8, 24, 32, reward=-0.35, distance=2), text=text
    )  # fmt: skip
    assert "".join(part.text for part in trace.parts) == text
    first, second = [part for part in trace.parts if part.effect]
    assert (first.text, first.effect, first.summary) == ("Wait, three.", "helpful", "0.20 → 0.80, reward +0.60")
    assert (second.text, second.effect, second.mark) == ("But no.", "ineffective", "=")
    assert first.details.endswith("Reward +0.600.") and second.details.endswith("Reward -0.350, from a change 2 steps later.")
    assert (trace.steps, trace.left_out, trace.tokens) == (2, 0, 2)


def test_traces_of_rounds_say_which():
    rows = to_table("steps", [step("t0", 0, 0.0, 1.0), step("t1", 0, 0.0, 1.0, round=7)])
    trajectories = traces("", "").set_column(2, "round", pa.array([0, 7], pa.int32()))
    found = step_traces(rows, trajectories, to_table("tasks", []), to_table("verdicts", []))
    assert [trace.moment for trace in found] == ["iteration 0, round 0", "iteration 0, round 7"]


def test_a_step_next_to_an_undecided_state_changes_nobody_knows_what():
    (trace,) = shown(step("t0", 0, 0.4, 0.4, 0, 4, decided_before=0), text="wait")
    assert [(part.effect, part.mark) for part in trace.parts] == [("unknown", MARKS["unknown"])]


def test_long_traces_are_cut():
    text = "x" * 3000 + "y" * 100 * (MOST_STEPS + 5)
    steps = [step("t0", i, 0.0, 0.0, 3000 + 100 * i, 3100 + 100 * i) for i in range(MOST_STEPS + 5)]
    (trace,) = shown(*reversed(steps), text=text)
    assert (trace.steps, trace.left_out) == (MOST_STEPS + 5, 5) and sum(bool(part.effect) for part in trace.parts) == MOST_STEPS
    assert trace.parts[0].text.endswith("(2,400 more characters)")
    (trace,) = shown(step("t0", 0, 0.0, 0.0, 0, 3000), text=text)
    assert trace.parts[0].text.startswith("x" * LONGEST_STEP + "…")


@pytest.mark.parametrize(("spans", "words"), [
    (((0, 9),), "step 0 is characters 0 to 9, expected within 0 to 4"),
    (((0, 3), (2, 4)), "step 1 is characters 2 to 4, expected within 3 to 4"),
])  # fmt: skip
def test_steps_of_another_trace_are_refused(spans, words):
    with pytest.raises(EvaluationError, match=f"trajectory t0: {words}"):
        shown(*(step("t0", i, 0.0, 0.0, *span) for i, span in enumerate(spans)), text="wait")


def test_traces_are_those_with_the_most_effects_of_the_first_and_last_policy(reasoning_record):
    args = (reasoning_record.steps, reasoning_record.trajectories, reasoning_record.tasks, reasoning_record.verdicts)
    found = step_traces(*args)
    assert [trace.moment for trace in found] == ["policy 0"] * 3 + ["policy 2"] * 3 and len({trace.trajectory_id for trace in found}) == 6
    effects: dict[str, set] = {}
    for row in reasoning_record.steps.to_pylist():
        if row["iteration"] == 0:
            effects.setdefault(row["trajectory_id"], set()).add(row["effect"])
    assert [len(effects[trace.trajectory_id]) for trace in found[:3]] == sorted(map(len, effects.values()), reverse=True)[:3]
    assert all(trace.verdicts[0]["role"] == "rule" and trace.gold and trace.prompt.startswith("Compute") for trace in found)
    assert found == step_traces(*args)


def test_a_run_without_any_of_it_has_no_section(record, evaluations, params):
    assert self_verification_section(record, Lookup(evaluations), "eval", params) is None
    empty = replace(record, steps=to_table("steps", []), states=to_table("states", []))
    assert self_verification_section(empty, Lookup(evaluations), "eval", params) is None
    assert report_html(empty, evaluations, params, ByteRenderer()) == report_html(record, evaluations, params, ByteRenderer())
    assert 'id="self-verification"' not in report_html(record, evaluations, params)


@pytest.mark.parametrize(("kept", "title", "figures"), [
    (("steps", "states"), "Steps", 4),
    (("updates",), "Critic", 4),
    (("steps", "states", "updates"), "Steps and critic", 7),
])  # fmt: skip
def test_the_section_is_named_after_what_it_has(reasoning_record, evaluations, params, kept, title, figures):
    """`evaluations` is of a run whose samples are not judged."""
    tables = {name: None for name in ("steps", "states", "updates") if name not in kept}
    section = self_verification_section(replace(reasoning_record, **tables), Lookup(evaluations), "eval", params)
    assert section is not None and (section.title, len(section.figures), section.grids) == (title, figures, ())
    assert bool(section.traces) == ("steps" in kept)


def test_the_page_has_the_section(reasoning_record, reasoning_evaluations, params):
    page = report_html(reasoning_record, reasoning_evaluations, params, ByteRenderer())
    assert '<h2>Self-verification, steps and critic</h2>' in page and 'href="#self-verification"' in page
    assert page.count('<div class="trace">') == 6 and page.count('class="e-helpful"') > 2
    assert re.search(r'<i class="e-harmful" title="Step \d, at “\w+”: [01].\d{3} of 4 decided', page)
    assert page == report_html(reasoning_record, reasoning_evaluations, params, ByteRenderer())
    # Verdicts of critiques are about judges, not about answers: the query of false negatives leaves them out.
    assert "t.kind IN (&#39;solution&#39;, &#39;evaluation&#39;, &#39;episode&#39;)" in page


def test_what_a_trace_holds_is_only_text(tmp_path, params):
    hostile = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'></i></div>{{ 7 * 7 }}\u202egnp.exe"
    record = make_run(tmp_path, Shape(eval_tasks=6, ood_tasks=2, iterations=1, reasoning=True, hostile=hostile))
    marked = record.steps.set_column(
        record.steps.column_names.index("marker"), "marker", pa.array(['"><script>alert(3)</script>'] * len(record.steps))
    )  # fmt: skip
    table = evaluate(record.tasks, record.trajectories, record.verdicts, params.evaluation)
    page = report_html(replace(record, steps=marked), table, params, ByteRenderer())
    assert page.count("<script>") == 1 and "<img" not in page and "\u202e" not in page and "7 * 7" in page
    shown = page[page.index('<div class="trace">') :]
    assert "&lt;script&gt;alert(1)" in shown and "at “&#34;&gt;&lt;script&gt;alert(3)" in shown
    assert page.count("<div") == page.count("</div")
