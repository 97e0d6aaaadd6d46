"""The report: whole in itself, deaf to what models write, the same for the same tables, content with few tables."""

import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from hand_made import sample_tables
from synthetic_run import ByteRenderer, Shape, make_run

from assay.evaluation import EvaluationError, RunRecord, evaluate
from assay.evaluation.entropy import entropy_lines, trained_entropies
from assay.evaluation.metrics import Lookup
from assay.evaluation.report import SIZE_LIMIT, report_html
from assay.evaluation.samples import gather
from assay.evaluation.selection import CATEGORIES, categories, choose, coloured, visible
from assay.trajectories import to_table

HOSTILE = (
    "<script>alert(1)</script><img src=x onerror=alert(2)>\"'></article>{{ 7 * 7 }}\u202egnp.exe\x00\x1b[31m</style>"
)
VOID = {"meta", "input", "br", "link", "img"}


class Page(HTMLParser):
    """Tags, text by element, and whether every element is closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)
        else:
            self.text += data

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def page(record, evaluations, params):
    return report_html(record, evaluations, params, ByteRenderer())


def hostile_report(tmp_path, params, renderer):
    record = make_run(tmp_path, Shape(eval_tasks=8, ood_tasks=4, iterations=1, hostile=HOSTILE))
    table = evaluate(record.tasks, record.trajectories, record.verdicts, params.evaluation)
    return report_html(record, table, params, renderer)


def test_nothing_is_loaded_from_anywhere(page):
    parsed = Page(page)
    assert not parsed.open
    assert not {"link", "img", "iframe", "object", "embed", "base"} & {tag for tag, _ in parsed.tags}
    for _, attributes in parsed.tags:
        assert not {"src", "srcset", "data", "action", "background", "poster"} & attributes.keys()
        assert attributes.get("href", "#").startswith("#")
        assert not any(name.startswith("on") for name in attributes)
    assert not re.search(r"https?:|url\(|@import|file:|fetch\(|XMLHttpRequest|import\(", page)


def test_the_policy_lets_only_the_own_script_run(page):
    parsed = Page(page)
    assert len(parsed.scripts) == 1
    digest = base64.b64encode(hashlib.sha256(parsed.scripts[0].encode()).digest()).decode()
    rule = next(a["content"] for a in parsed.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert f"script-src 'sha256-{digest}'" in rule and "default-src 'none'" in rule


@pytest.mark.parametrize("renderer", [ByteRenderer(), None])
def test_what_a_model_wrote_is_only_text(tmp_path, params, renderer):
    page = hostile_report(tmp_path, params, renderer)
    parsed = Page(page)
    assert len(parsed.scripts) == 1 and not parsed.open and not parsed.all("img")
    assert len(parsed.all("article")) == 2 * params.evaluation.sampled_trajectories
    assert "{{ 7 * 7 }}" in parsed.text and "<script>alert(1)</script>" in parsed.text
    assert "\x00" not in page and "\x1b" not in page and "\u202e" not in page
    assert "⟨U+202E⟩" in page and "␀" in page


def test_numbers_of_the_table_are_on_the_page(page, evaluations):
    for row in evaluations.to_pylist():
        if row["environment"] == "all" and row["metric"] == "pass@1":
            assert f"{row['value']:.3f} <span class=\"ci\">[{row['low']:.3f}, {row['high']:.3f}]</span>" in page
    assert "On held-out tasks, pass@1 rose from" in page
    assert "0.260" in page and "[0.210, 0.320] on rational; true rate 0.270" in page


def test_every_figure_has_a_picture_with_words(page):
    parsed = Page(page)
    labels = [a["aria-label"] for a in parsed.all("svg")]
    assert len(labels) == len(parsed.all("figure")) >= 14
    starts = (
        "pass@k by policy",
        "pass@k by k",
        "Kept and newly",
        "Length",
        "Entropy",
        "Cut off",
        "Accuracy by verifier: rational",
    )
    starts += (
        "False negatives of the rule",
        "Rows offered",
        "Reward",
        "Loss",
        "Gradient norm",
        "Clipped",
        "Sampler",
        "Divergence",
    )
    for start in starts:
        assert any(label.startswith(start) for label in labels), start
    assert not re.search(r"\bnan\b", re.sub(r"<script>.*</script>", "", page.lower()))


def test_deterministic(page, record, evaluations, params):
    assert report_html(record, evaluations, params, ByteRenderer()) == page


def test_only_the_needed_tables(record, evaluations, params):
    page = report_html(RunRecord(record.tasks, record.trajectories, record.verdicts), evaluations, params)
    assert "This run has no training tables." in page and "Messages before the chat template" in page
    assert not Page(page).open
    assert report_html(replace(record, token_statistics=None), evaluations, params, ByteRenderer()).count("<svg") >= 14


def test_entropy_lines_say_of_which_rows_and_at_which_temperature(record, evaluations, params):
    warm = params.model_copy(update={
        "evaluation": params.evaluation.model_copy(update={"temperature": 0.6}),
        "sampling": params.sampling.model_copy(update={"temperature": 1.2}),
    })  # fmt: skip
    lines = entropy_lines(record, Lookup(evaluations), "eval", warm)
    assert [line.name for line in lines] == ["evaluation samples, temperature 0.6", "kept training rows, temperature 1.2"]
    assert list(lines[1].x) == [0, 1, 2] and lines[1].y == pytest.approx([0.8, 0.7, 0.6])


def test_entropy_of_training_rows_is_of_tokens_that_bear_loss():
    """Tool output has an entropy too, but the policy did not write it."""
    trajectories, _ = sample_tables([(0, "a", {"rule": "+"}), (1, "a", {"rule": "+"})], loss_mask=[True, False, True])
    rows = [
        {"trajectory_id": name, "iteration": k, "round": 0, "logprobs": [-1.0] * 3, "entropies": entropies}
        for name, k, entropies in (("t0", 0, [1.0, 9.0, 2.0]), ("t1", 1, [0.0, 9.0, 1.0]), ("unknown", 1, [7.0]))
    ]
    statistics = to_table("token_statistics", rows)
    assert trained_entropies(statistics, trajectories) == {0: 1.5, 1: 0.5}
    assert trained_entropies(statistics, trajectories.slice(0, 1)) == {0: 1.5, 1: None}
    rows[0]["entropies"] = [1.0]
    with pytest.raises(EvaluationError, match="t0: its token statistics have another length"):
        trained_entropies(to_table("token_statistics", rows), trajectories)


@pytest.mark.parametrize("shape", [
    Shape(eval_tasks=8, ood_tasks=0, iterations=1),
    Shape(eval_tasks=8, ood_tasks=4, iterations=2, solve=(0.0, 0.0, 0.0), oracle=False),
    Shape(eval_tasks=1, ood_tasks=1, iterations=1, samples=8),
])  # fmt: skip
def test_unusual_runs(tmp_path, params, shape):
    record = make_run(tmp_path, shape)
    table = evaluate(record.tasks, record.trajectories, record.verdicts, params.evaluation)
    page = report_html(record, table, params, ByteRenderer())
    assert not Page(page).open
    assert ("out-of-distribution" in page) == (shape.ood_tasks > 0)


def test_only_policy_0(tmp_path, params):
    record = make_run(tmp_path, Shape(eval_tasks=8, iterations=1))
    first = replace(record, trajectories=record.trajectories.filter(record.trajectories["iteration"].to_numpy() == 0))
    table = evaluate(first.tasks, first.trajectories, first.verdicts, params.evaluation)
    page = report_html(
        replace(first, batches=None, updates=None, token_statistics=None, noise_estimates=None), table, params
    )
    assert "at the first try" in page and "Kept and newly solved" not in page


def test_long_texts_are_cut_until_the_page_is_small(tmp_path, params):
    text = "<&>" * 20_000
    record = make_run(tmp_path, Shape(eval_tasks=30, ood_tasks=0, iterations=1, hostile=text, samples=1))
    wide = params.model_copy(
        update={"evaluation": params.evaluation.model_copy(update={"sampled_trajectories": 30, "pass_at": (1,)})}
    )
    table = evaluate(record.tasks, record.trajectories, record.verdicts, wide.evaluation)
    page = report_html(record, table, wide, ByteRenderer())
    assert len(page.encode()) <= SIZE_LIMIT
    assert "more characters" in page


def test_no_trajectories_shown(record, evaluations, params):
    none = params.model_copy(update={"evaluation": params.evaluation.model_copy(update={"sampled_trajectories": 0})})
    page = report_html(record, evaluations, none)
    assert "evaluation.sampled_trajectories is 0" in page and "<article" not in page


def test_choice_covers_every_kind_of_verdict_of_every_policy(record, params):
    samples = gather(record.tasks, record.trajectories, record.verdicts)
    rows = choose(samples, 12)
    kind = categories(samples)
    assert len(rows) == len(set(rows.tolist())) == 12 * 4
    for policy in range(4):
        here = rows[samples.policy[rows] == policy]
        assert len(here) == 12
        assert set(kind[here]) == set(kind[samples.policy == policy])
    assert set(CATEGORIES) >= {"rule_rejects", "abstained", "truncated", "correct", "wrong"}


def test_tokens_are_coloured_by_probability():
    ids = [*"é!".encode(), 0]
    row = {"text": "é!", "completion_ids": ids, "sampled_logprobs": [-0.01, -4.0, -1.0, -0.1]}
    assert [(p.text, p.level) for p in coloured(row, ByteRenderer(), 100)] == [("é", 4), ("!", 2)]
    assert [(p.text, p.level) for p in coloured(row, None, 100)] == [("é!", 0)]
    assert [(p.text, p.level) for p in coloured(row, ByteRenderer(), 1)] == [("é", 4)]


def test_visible_keeps_lines_and_shows_what_hides():
    assert visible("a\n\tb\x07\u2066\ud800") == "a\n\tb␇⟨U+2066⟩\ufffd"
