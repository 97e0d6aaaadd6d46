"""Draws the README's picture from a finished run: python docs/make_picture.py [data/evaluate/plots/pass_at_k.csv]"""

import csv
import sys
from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

SOURCE = Path("data/evaluate/plots/pass_at_k.csv")
TARGET = Path(__file__).with_name("images") / "default_run.svg"


def main() -> None:
    with Path(sys.argv[1] if len(sys.argv) > 1 else SOURCE).open(encoding="utf-8") as stream:
        rows = [row for row in csv.DictReader(stream) if row.get("split", "eval") == "eval" and row.get("environment", "all") == "all"]
    x = [int(row["policy"]) for row in rows]
    plt.rcParams.update({"svg.hashsalt": "assay", "font.size": 10, "axes.spines.top": False, "axes.spines.right": False})
    figure, axes = plt.subplots(figsize=(7, 3.2), layout="constrained")
    for name, colour in (("pass@1", "#b85c00"), ("pass@8", "#0f766e")):
        value, low, high = ([float(row[f"{name}{end}"]) for row in rows] for end in ("", "_low", "_high"))
        axes.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)
        axes.plot(x, value, color=colour, marker="o", label=f"{name}, 95 % interval")
    axes.set(xlabel="policy", ylabel="share of held-out tasks", xticks=x, ylim=(0, 1))
    axes.grid(axis="y", alpha=0.3)
    axes.legend(frameon=False, loc="lower right")
    TARGET.parent.mkdir(exist_ok=True)
    figure.savefig(TARGET, metadata={"Date": None})


if __name__ == "__main__":
    main()
