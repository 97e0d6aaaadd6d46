"""Pictures and tables of self-verification: how well each policy judges its own samples, and what accuracy costs in tokens."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from assay.evaluation.breakdown import Grid, interval
from assay.evaluation.charts import Stop, path_chart, short
from assay.evaluation.critiques import Judged
from assay.evaluation.evaluate import ALL
from assay.evaluation.figures import Figure, chart, metric_line
from assay.evaluation.metrics import Lookup
from assay.rewards.critiques import Levels, score_text
from assay.rewards.self_verification_metrics import confusion

VOTES = {
    "majority": "most frequent answer (maj@k)",
    "weighted": "weighted by critiques, mean score of an answer",
    "weighted_constant": "weighted by critiques, over all k samples",
}

JUDGING = {
    "balanced": "verification_balanced_accuracy",
    "binary": "verification_accuracy",
    "majority class": "verification_majority_accuracy",
    "exact": "verification_exact_accuracy",
    "most frequent level": "verification_majority_exact_accuracy",
    "recall, right": "verification_recall",
    "precision, right": "verification_precision",
    "recall, others": "verification_specificity",
    "precision, others": "verification_negative_precision",
    "Matthews": "verification_matthews",
}
BEHAVIOUR = {
    "right called right, as a judge": "verification_true_positive_rate",
    "wrong called right, as a judge": "verification_false_positive_rate",
    "samples without a critique": "verification_unjudged_share",
    "samples that speak of checking": "verification_frequency",
    "right among these": "self_verified_accuracy",
    "reflecting words a sample": "reflection_rate",
}
OVERTHINKING = {
    "idle or harmful": "overthinking_rate",
    "re-checks an answer": "rechecks",
    "helpful ones": "rechecks_helpful",
    "harmful ones": "rechecks_harmful",
    "whole think block": "think_block_share",
}
"""Column -> metric of `evaluations`."""


def metric_grid(table: Lookup, split: str, columns: Mapping[str, str]) -> Grid | None:
    """A row for each policy that has any of these metrics; None where none has."""
    rows = []
    for policy in table.iterations:
        found = [table.get(policy, split, metric) for metric in columns.values()]
        if any(row is not None for row in found):
            rows.append((str(policy), *(interval(row) for row in found)))
    return Grid(("policy", *columns), tuple(rows), 1) if rows else None


def verification_figures(table: Lookup, split: str) -> list[Figure]:
    """Accuracy of critiques over policies beside what a judge that looks at nothing reaches, and its two parts."""
    majority = metric_line(table, split, "verification_majority_accuracy", "binary, of naming the majority class", 3)
    accuracy = [
        metric_line(table, split, "verification_balanced_accuracy", "balanced", 2),
        metric_line(table, split, "verification_accuracy", "binary", 1),
        replace(majority, dashed=True, dots=False),
    ]
    parts = [
        metric_line(table, split, "verification_recall", "right samples called right (recall)", 4),
        metric_line(table, split, "verification_specificity", "others not called right (specificity)", 5),
        replace(metric_line(table, split, "verification_unscored_share", "critiques without a score", 3), dashed=True),
    ]
    figures = [
        chart(
            "Verification accuracy",
            "Critiques of held-out samples against the truth. A judge that looks at nothing has a balanced accuracy of 0.5, and reaches "
            "the dashed line in the binary one.",
            accuracy, "policy", "share of critiques", unit=True,
        ),
        chart("Recall and specificity", "Balanced accuracy is their mean.", parts, "policy", "share of critiques", unit=True),
    ]  # fmt: skip
    return [figure for figure in figures if figure.svg]


def verification_sentence(table: Lookup, split: str) -> str:
    """How well the last policy judges itself, in numbers; "" where it was not asked."""
    last = table.iterations[-1]
    balanced, binary = (table.get(last, split, f"verification_{name}accuracy") for name in ("balanced_", ""))
    majority = table.value(last, split, "verification_majority_accuracy")
    if binary is None or majority is None:
        return ""
    if balanced is None:
        return f"The samples of policy {last} are all right or all not right: how well it judges them cannot be told."
    return (
        f"Policy {last} judges its own samples with a balanced accuracy of {interval(balanced)}; one that looks at nothing has 0.5. "
        f"Its binary accuracy is {interval(binary)}, that of always naming the more frequent class {majority:.3f}."
    )


def vote_grid(table: Lookup) -> Grid | None:
    """Share of tasks whose winning answer is right, by rule of the vote, for the last policy; None where no critique weighs votes."""
    last = table.iterations[-1]
    sizes: dict[str, int] = {}
    for policy, environment, split, metric in sorted(table.rows):
        if (policy, environment) == (last, ALL) and metric.startswith("vote_majority@"):
            sizes[split] = int(metric.partition("@")[2])
    splits = [split for split in table.splits if split in sizes]
    if not splits:
        return None
    rows = []
    for vote, words in VOTES.items():
        cells = (interval(table.get(last, split, f"vote_{vote}@{sizes[split]}")) for split in splits)
        rows.append((words, *cells))
    one = table.pass_at[0]
    rows.append((f"pass@{one}, for comparison", *(interval(table.get(last, split, f"pass@{one}")) for split in splits)))
    return Grid(("vote", *(f"{split}, k = {sizes[split]}" for split in splits)), tuple(rows), 1)


def confusion_grid(samples: Sequence[Judged], levels: tuple[float, float, float], policies: Sequence[int]) -> Grid | None:
    """Level that critiques give against the level that their sample earned, as counts; a block of rows for each policy."""
    scale = Levels(*levels)
    meanings = {scale.unanswered: "no answer", scale.wrong: "wrong", scale.right: "right"}
    if scale.wrong == scale.unanswered:
        meanings[scale.wrong] = "wrong or no answer"
    names = {level: f"{meanings[level]} ({score_text(level)})" for level in scale.values}
    rows = []
    for policy in policies:
        pairs = [(said, one.truth) for one in samples if one.iteration == policy for said in one.says]
        counts, earned = confusion([said for said, _ in pairs], [truth for _, truth in pairs]), Counter(truth for _, truth in pairs)
        for level in scale.values:
            if earned[level]:
                cells = (f"{counts.get((said, level), 0):,}" for said in (*scale.values, None))
                agree = counts.get((level, level), 0) / earned[level]
                rows.append((str(policy), names[level], *cells, f"{agree:.1%}"))
    header = ("policy", "earned", *(f"said {names[level]}" for level in scale.values), "no score", "said what was earned")
    return Grid(header, tuple(rows), 2) if rows else None


def token_figure(table: Lookup, split: str) -> Figure | None:
    """What accuracy costs: tokens of a completion against pass@k of the smallest k, a point for each policy. None for one policy."""
    k = table.pass_at[0]
    stops, numbers = [], []
    for policy in table.iterations:
        tokens, passes = table.get(policy, split, "length_mean"), table.get(policy, split, f"pass@{k}")
        if tokens is not None and passes is not None:
            ends = ((row["low"], row["high"]) for row in (tokens, passes))
            stops.append(Stop(f"policy {policy}", tokens["value"], passes["value"], *ends))
            numbers.append((str(policy), interval(tokens, 1), interval(passes)))
    if len(stops) < 2:
        return None
    first, last = stops[0], stops[-1]
    label = f"Tokens against accuracy. From {short(first.x)} tokens and {short(first.y)} to {short(last.x)} tokens and {short(last.y)}"
    svg = path_chart(stops, 1, label=label, x_label="tokens of a completion, mean", y_label=f"pass@{k}")
    note = "Policies in their order, from the ring on. Up and to the left is better: more is right, of fewer tokens."
    return Figure("Tokens against accuracy", note, svg, (), (("policy", "tokens", f"pass@{k}"), *numbers))
