"""Claims of Lp-Reg, the 80/20 rule and DPH-RL, measured with small language models: each paper's direction, and what was seen.

    python -m benchmarks.claims_exploration --seeds 0 1 2        # fused; about a minute an arm and seed
    python -m benchmarks.claims_exploration --tables             # only write the tables of what there is

Resumable, as benchmarks/study.py says. All arms are judged by rules fixed before: the policy after the last round, 64 answers to each
held-out task, unbiased pass@k. Differences are paired by seed, with 95 % t intervals.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from assay.evaluation.estimators import again_at_k, pass_at_k
from benchmarks.claims_noise import interval
from benchmarks.exploration_arms import ARMS, LEARNING_RATE, OFF, SAMPLES, TASKS_PER_ROUND, parameters, run_arm
from benchmarks.study import EQUAL, READING, Results, Study

NAMES = ("base", *ARMS)
Value = Callable[[dict[str, Any], int], float]
ON_POLICY = ("GRPO", "GRPO + entropy bonus", "Lp-Reg", "Lp-Reg, full KL", "Lp-Reg, no filter", "Lp-Reg, high entropy", "top 20 % entropy")
OFF_POLICY = ("GRPO, off-policy", "Clip-higher, off-policy", "KL-Cov, off-policy", "GSPO, off-policy", "Lp-Reg, off-policy")
TOP = ("DAPO", "top 20 % entropy", "bottom 80 % entropy")
DPH = ("base", "GRPO", "GRPO, exploration tasks", "DPH-F", "DPH-JS", "DPH-alpha", "replay (NLL)", "reverse KL, k3", "reverse KL, k2")


def passes(row: dict[str, Any], k: int, split: str = "eval") -> float:
    """Mean over tasks of the unbiased pass@k."""
    return float(np.mean([pass_at_k(SAMPLES, count, k) for count in row["right"][split].values()]))


def kept(row: dict[str, Any], base: dict[str, Any], k: int = SAMPLES) -> float:
    """Share of the held-out tasks that policy 0 solves within k tries which this one solves too; nan for policy 0 itself, whose
    samples say which are solved: it would be 1 whatever it does (`kept_by_chance` is what to read others beside)."""
    if row["arm"] == "base":
        return float("nan")
    solved = [task for task, count in base["right"]["eval"].items() if count]
    return float(np.mean([pass_at_k(SAMPLES, row["right"]["eval"][task], k) for task in solved]))


def kept_by_chance(base: dict[str, Any], k: int = SAMPLES // 2) -> float:
    """Of what policy 0 solves within k tries, the share that k other tries of its own solve too."""
    counts = list(base["right"]["eval"].values())
    return again_at_k([SAMPLES] * len(counts), counts, k)[0].value


def late(row: dict[str, Any], column: str, rounds: int = 5) -> float:
    """Mean over the last rounds."""
    values = [value for value in row["traces"][column][-rounds:] if value is not None]
    return float(np.mean(values)) if values else float("nan")


def over_seeds(found: Results, arm: str, of: Any, minus: str | None = None) -> str:
    """Mean with a t interval over the seeds that have the arm (and the other one, whose value is subtracted)."""
    values = []
    for (name, seed), row in sorted(found.items()):
        if name == arm and (minus is None or (minus, seed) in found):
            value = of(row, seed) - (0.0 if minus is None else of(found[minus, seed], seed))
            if np.isfinite(value):
                values.append(value)
    return interval(values, signed=minus is not None) if values else "–"


def table(found: Results, arms: tuple[str, ...], columns: dict[str, Any], against: str) -> list[str]:
    """Markdown. columns: head -> function of (row, seed), and for those whose head begins with Δ the difference from `against`."""
    lines = [f"| arm | seeds | {' | '.join(columns)} |", "|---|---:|" + "---|" * len(columns)]
    for arm in arms:
        count = sum(name == arm for name, _ in found)
        if count:
            cells = []
            for head, of in columns.items():
                same = arm == against
                traced = "traces" in next(row for (name, _), row in found.items() if name == arm)
                cells.append("–" if (head.startswith("Δ") and same) or (not traced and "entropy" in head) else over_seeds(
                    found, arm, of, against if head.startswith("Δ") else None))  # fmt: skip
            lines.append(f"| {arm} | {count} | {' | '.join(cells)} |")
    return lines


def tables(found: Results, rounds: int) -> dict[str, str]:
    """File name -> Markdown, one for each paper."""
    seeds = sorted({seed for _, seed in found})
    head = (
        f"{rounds} rounds of {TASKS_PER_ROUND} tasks x 8 completions, learning rate {LEARNING_RATE:g}, seeds "
        f"{', '.join(map(str, seeds))}; {SAMPLES} answers to each held-out task by the last policy. Means with 95 % t intervals over "
        "seeds; differences (Δ) are paired by seed. `python -m benchmarks.claims_exploration`.\n"
    )
    score: dict[str, Any] = {
        "pass@1": lambda row, seed: passes(row, 1), "Δ pass@1": lambda row, seed: passes(row, 1),
        "pass@64": lambda row, seed: passes(row, SAMPLES), "Δ pass@64": lambda row, seed: passes(row, SAMPLES),
    }  # fmt: skip
    entropy: dict[str, Any] = {
        "entropy, last 5 rounds": lambda row, seed: late(row, "entropy"), "Δ entropy": lambda row, seed: late(row, "entropy"),
    }  # fmt: skip

    def keeps(row: dict[str, Any], seed: int) -> float:
        return kept(row, found["base", seed])

    def first(row: dict[str, Any], seed: int) -> float:
        return passes(row, 1)

    def most(row: dict[str, Any], seed: int) -> float:
        return passes(row, SAMPLES)

    def wide(row: dict[str, Any], seed: int) -> float:
        return late(row, "entropy")

    lp_claims = claims(found, [
        ("Lp-Reg keeps more entropy than GRPO", "Lp-Reg", "GRPO", wide, 1),
        ("Lp-Reg is more accurate than GRPO (pass@1)", "Lp-Reg", "GRPO", first, 1),
        ("Lp-Reg is more accurate than the 80/20 rule", "Lp-Reg", "top 20 % entropy", first, 1),
        ("an entropy bonus inflates entropy", "GRPO + entropy bonus", "GRPO", wide, 1),
        ("an entropy bonus costs accuracy", "GRPO + entropy bonus", "GRPO", first, -1),
        ("without its filter Lp-Reg is unstable: less accurate", "Lp-Reg, no filter", "Lp-Reg", first, -1),
        ("without its filter entropy explodes", "Lp-Reg, no filter", "Lp-Reg", wide, 1),
        ("protecting the highest entropies instead brings nothing over GRPO", "Lp-Reg, high entropy", "GRPO", first, 0),
        ("clip-higher raises entropy, off-policy", "Clip-higher, off-policy", "GRPO, off-policy", wide, 1),
        ("Lp-Reg keeps more entropy than GRPO, off-policy", "Lp-Reg, off-policy", "GRPO, off-policy", wide, 1),
    ])  # fmt: skip
    top_claims = claims(found, [
        ("the top 20 % alone are as good as all tokens in a small model", "top 20 % entropy", "DAPO", first, 0),
        ("the bottom 80 % are worse than the top 20 %", "bottom 80 % entropy", "top 20 % entropy", first, -1),
        ("the bottom 80 % are worse than all tokens", "bottom 80 % entropy", "DAPO", first, -1),
        ("the bottom 80 % have less entropy than the top 20 %", "bottom 80 % entropy", "top 20 % entropy", wide, -1),
        ("the top 20 % keep more entropy than all tokens", "top 20 % entropy", "DAPO", wide, 1),
    ])  # fmt: skip
    dph_claims = claims(found, [
        ("GRPO raises pass@1 over policy 0", "GRPO", "base", first, 1),
        ("GRPO lowers pass@64 below policy 0", "GRPO", "base", most, -1),
        ("DPH-F: higher pass@64 than GRPO", "DPH-F", "GRPO", most, 1),
        ("DPH-JS: higher pass@64 than GRPO", "DPH-JS", "GRPO", most, 1),
        ("DPH-F: pass@1 not below GRPO's", "DPH-F", "GRPO", first, 0),
        ("DPH-JS: pass@1 not below GRPO's", "DPH-JS", "GRPO", first, 0),
        ("DPH-F keeps more of what policy 0 solved", "DPH-F", "GRPO", keeps, 1),
        ("the divergence, not the choice of tasks: DPH-F over GRPO on the exploration tasks (pass@64)", "DPH-F", "GRPO, exploration tasks",
         most, 1),
        ("the divergence, not the replay: DPH-F over NLL replay (pass@64)", "DPH-F", "replay (NLL)", most, 1),
        ("DPH-F over the shipped reverse KL (pass@64)", "DPH-F", "reverse KL, k3", most, 1),
        ("a true reverse KL keeps less than k3 (pass@64)", "reverse KL, k2", "reverse KL, k3", most, -1),
    ])  # fmt: skip
    lp = [
        head, *lp_claims, "On-policy, one optimizer step a round; Δ: minus GRPO.", "",
        *table(found, ON_POLICY, score | entropy, "GRPO"), "",
        f"Off-policy, {OFF} optimizer steps a round on different rows; Δ: minus GRPO, off-policy.", "",
        *table(found, OFF_POLICY, score | entropy, "GRPO, off-policy"), "",
        "| Lp-Reg arm | threshold, first and last 5 rounds | rare tokens of negative advantage | of them plausible | gradient norm |",
        "|---|---|---|---|---|", *_protected(found),
    ]  # fmt: skip
    top = [head, *top_claims, "One optimizer step a round; Δ: minus DAPO (all tokens).", "", *table(found, TOP, score | entropy, "DAPO")]
    dph = [
        head, *dph_claims, "One optimizer step a round; Δ: minus GRPO on all tasks. Keep: of the held-out tasks that policy 0 solves",
        "within 64 tries, the share that the last policy solves too. Of the base itself that is 1 by construction and not shown: the other",
        f"arms are to be read beside what a second draw of policy 0 would keep, {_chance(found)} (32 tries beside 32 others).", "",
        *table(found, DPH, score | {"keep@64": keeps, "Δ keep@64": keeps} | entropy, "GRPO"), "",
        "Out of distribution (sums of three numbers, in no training task):", "",
        *table(found, DPH, {
            "pass@1, ood": lambda row, seed: passes(row, 1, "ood"), "Δ pass@1, ood": lambda row, seed: passes(row, 1, "ood"),
            "pass@64, ood": lambda row, seed: passes(row, 64, "ood"), "Δ pass@64, ood": lambda row, seed: passes(row, 64, "ood"),
        }, "GRPO"), "", "pass@k over held-out tasks, mean over seeds:", "", *_curves(found),
    ]  # fmt: skip
    return {name: "\n".join(lines) + "\n" for name, lines in (("lp_reg", lp), ("top_entropy", top), ("dph_rl", dph))}


def claims(found: Results, listed: list[tuple[str, str, str, Value, int]]) -> list[str]:
    """A table of directional claims. listed: the claim, arm, the arm it is compared with, what is compared, and its sign (1: higher,
    -1: lower, 0: equal). A claim is seen where the interval of the paired difference lies on its side of 0, or within EQUAL of it where
    the claim is equality; an interval that holds 0 decides nothing else. Fewer than three seeds decide nothing at all."""
    lines = ["| claim | difference | seen |", "|---|---|---|"]
    for text, arm, other, of, sign in listed:
        both = [seed for name, seed in found if name == arm and (other, seed) in found]
        if len(both) < 3:
            continue
        values = [of(found[arm, seed], seed) - of(found[other, seed], seed) for seed in sorted(both)]
        mean, half = np.mean(values), _half(values)
        side = 0 if abs(mean) <= half else int(np.sign(mean))
        equal = abs(mean) + half <= EQUAL
        if sign == 0:
            seen = "as claimed" if equal else "undecided" if side == 0 else "not equal"
        else:
            seen = "as claimed" if side == sign else "the opposite" if side else "equal" if equal else "undecided"
        lines.append(f"| {text} | {interval(values, signed=True)} | {seen} |")
    return [READING, "", *lines, ""] if len(lines) > 2 else ["Three seeds decide about claims; there are fewer yet.", ""]


def _chance(found: Results) -> str:
    return f"{np.mean([kept_by_chance(row) for (name, _), row in found.items() if name == 'base']):.3f}"


def _half(values: list[float]) -> float:
    from scipy.stats import t

    return float(t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))


def _protected(found: Results) -> list[str]:
    lines = []
    for arm in (name for name in NAMES if name.startswith("Lp-Reg")):
        rows = [row for (name, _), row in sorted(found.items()) if name == arm]
        if not rows:
            continue
        first = np.nanmean([[v if v is not None else np.nan for v in row["traces"]["low_probability_threshold"][:5]] for row in rows])
        last = np.nanmean([late(row, "low_probability_threshold") for row in rows])
        rare, held = (np.mean([np.mean(row["traces"][name]) for row in rows]) for name in ("candidate_count", "protected_count"))
        norm = np.mean([late(row, "gradient_norm") for row in rows])
        shown = "–" if np.isnan(first) else f"{first:.4f}, {last:.4f}"
        lines.append(f"| {arm} | {shown} | {rare:.1f} | {held / max(rare, 1e-9):.0%} | {norm:.2f} |")
    return lines


def _curves(found: Results) -> list[str]:
    ks = [2**power for power in range(7)]
    lines = [f"| arm | {' | '.join(f'k = {k}' for k in ks)} |", "|---|" + "---|" * len(ks)]
    for arm in DPH:
        rows = [row for (name, _), row in found.items() if name == arm]
        if rows:
            lines.append(f"| {arm} | {' | '.join(f'{np.mean([passes(row, k) for row in rows]):.3f}' for k in ks)} |")
    return lines


def line(row: dict[str, Any]) -> str:
    return f"pass@1 {passes(row, 1):.3f}  pass@64 {passes(row, SAMPLES):.3f}  {row.get('seconds', 0):.0f} s"


def of_whole_seeds(found: Results, rounds: int) -> dict[str, str]:
    """The tables of the seeds whose policy 0 was measured."""
    whole = {seed for name, seed in found if name == "base"}
    return tables({key: row for key, row in found.items() if key[1] in whole}, rounds) if whole else {}


STUDY = Study("claims_exploration", NAMES, 50, parameters, run_arm, of_whole_seeds, line)

if __name__ == "__main__":
    STUDY.main(__doc__)
