"""Rewards of critiques under a noisy verifier: unbiased, with the rates of the rule that judged their solutions (C2 of the methods)."""

import json
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from assay.objectives.advantages import leave_one_out
from assay.objectives.corrections import backward
from assay.params.training import AdvantageParams, Backward, Corrected
from assay.rewards.self_verification import unbiased_reward
from assay.training.corrected import Rates


@dataclass(frozen=True)
class Critiques:
    """The critiques among the rows of a batch."""

    rows: np.ndarray
    """(rows,) bool."""
    says_right: np.ndarray
    """(rows,) 1 or 0, NaN where there is no score."""
    observed: np.ndarray
    """(rows,) what training sees of the solution's verdict; NaN where the rule abstained."""
    verifiers: list[str]
    """Of each row, for a critique the one of its solution."""

    @staticmethod
    def of(rows: pa.Table, verdicts: pa.Table, verifiers: list[str]) -> "Critiques":
        rule = verdicts.filter(pc.equal(verdicts["role"], "rule"))
        said = dict(zip(rule["trajectory_id"].to_pylist(), rule["components"].to_pylist(), strict=True))
        rule_of = dict(zip(rule["trajectory_id"].to_pylist(), rule["verifier"].to_pylist(), strict=True))
        kinds, names, parents = (rows[name].to_pylist() for name in ("kind", "trajectory_id", "parent_id"))
        says, observed, own = np.full(len(rows), np.nan), np.full(len(rows), np.nan), list(verifiers)
        for row, (kind, name, parent) in enumerate(zip(kinds, names, parents, strict=True)):
            if kind == "critique":
                components = json.loads(said[name])
                own[row] = rule_of.get(parent, own[row])
                if components["says"] is not None:
                    says[row] = components["says_right"]
                if components["observed"] is not None:
                    observed[row] = components["observed"]
        return Critiques(np.asarray(kinds) == "critique", says, observed, own)

    def unbiased(self, rewards: np.ndarray, rates: Rates, option: AdvantageParams) -> np.ndarray:
        """(rows,) the rewards, those of critiques corrected where the rates are known."""
        assert isinstance(option, Corrected)
        use = self.rows & ~np.isnan(self.observed) & rates.known
        if not use.any():
            return rewards
        own = rates.of(use)
        floor = option.minimum_determinant if "estimated" in (option.false_positive_rate, option.false_negative_rate) else 0.0
        truth = backward(self.observed[use], own.false_positive, own.false_negative, minimum_determinant=floor)
        found = rewards.copy()
        found[use] = unbiased_reward(self.says_right[use], truth)
        return found

    def advantages(self, rewards: np.ndarray, groups: np.ndarray, option: AdvantageParams) -> np.ndarray:
        """(rows,) of the critiques among the given rows, each compared with the others of its solution, over the option's scale."""
        assert isinstance(option, Backward) and not isinstance(option.scale, str)
        found = np.full(len(rewards), np.nan)
        use = self.rows & ~np.isnan(rewards)
        found[use] = leave_one_out(rewards[use], groups[use]) / option.scale
        return found
