"""What a policy that thinks, judges itself and is trained by a critic leaves behind: thinking with steps, their states and continuations,
critiques of evaluation samples. Accuracies, effects and verdicts are made by the verifiers of the pipeline."""

import numpy as np

from assay.params.self_verification import SelfVerification
from assay.params.stepwise import Stepwise
from assay.rewards.segmentation import Rules, segment
from assay.rewards.stepwise import states, step_tokens
from assay.trajectories import content_hash, to_table
from assay.verifiers.critiques import critique_verdicts, outcomes
from assay.verifiers.steps import step_table

CONTINUATIONS, CRITIQUES = 4, 2
RULES = Rules(opening=0, interval=1)
MARKERS = ("Wait, let me check the sum again", "However, the denominators differ", "Hmm, the parts can be added at once")


def thinking(answer: str, k: int, random: np.random.Generator, aside: str = "") -> str:
    """A completion with up to three steps before its answer, fewer of later policies. aside: text of the first one."""
    steps = [f" {MARKERS[i]}{aside if i == 0 else ''}." for i in range(int(random.binomial(3, 0.8 - 0.2 * k)))]
    return f"<think>First the terms as they are.{''.join(steps)}</think>{answer}"


def stepped(solutions: list[dict], random: np.random.Generator) -> tuple[list[dict], list[dict], list[dict], list[dict]]:
    """Trajectories and verdicts of continuations, and the tables `states` and `steps`. Characters are tokens here."""
    found, made, said = [], [], []
    for row in solutions:
        text = row["text"]
        offsets = [(i, i + 1) for i in range(len(text))]
        segmentation = segment(text, RULES, offsets=offsets)
        spans = step_tokens(text, segmentation, offsets)
        ends = [split.position for split in segmentation.splits[1:]] + [segmentation.end]
        chance = float(random.choice([0.0, 0.5, 1.0]))
        for state, place in enumerate(states(text, segmentation, offsets)):
            step = dict.fromkeys(("marker", "char_start", "char_end", "first_token", "last_token"))
            if state < len(spans):
                split = segmentation.splits[state]
                step = {"marker": split.marker, "char_start": split.position, "char_end": ends[state]}
                step |= dict(zip(("first_token", "last_token"), spans[state], strict=True))
            keys = {"iteration": row["iteration"], "round": 0}
            found.append(keys | step | {
                "trajectory_id": row["trajectory_id"], "state": state, "tokens": place.tokens, "closed": place.close,
                "continuations": CONTINUATIONS, "complete": segmentation.complete,
            })  # fmt: skip
            # Most steps change nothing; the others help or harm.
            chance = chance if random.random() < 0.6 else float(random.choice([0.0, 0.5, 1.0]))
            silent = random.random() < 0.03
            for index in range(state * CONTINUATIONS, (state + 1) * CONTINUATIONS):
                name = content_hash("continuation", row["trajectory_id"], index)
                ids = row["completion_ids"][: place.tokens]
                made.append(row | {
                    "trajectory_id": name, "group_id": content_hash("state", row["trajectory_id"], state), "sample_index": index,
                    "kind": "continuation", "parent_id": row["trajectory_id"], "prompt_ids": row["prompt_ids"] + ids,
                    "completion_ids": [48, 0], "loss_mask": [True, True], "sampled_logprobs": [-0.5, -0.1], "text": "0",
                })  # fmt: skip
                verdict = "abstain" if silent else "correct" if random.random() < chance else "wrong"
                said.append(_verdict(name, keys, verdict))
    empty = to_table("trajectories", [*solutions, *made])
    steps = step_table(to_table("states", found), empty, to_table("verdicts", said), Stepwise(continuations=CONTINUATIONS))
    return made, said, found, steps.to_pylist()


def _verdict(name: str, keys: dict, verdict: str) -> dict:
    score = None if verdict == "abstain" else float(verdict == "correct")
    return keys | {
        "trajectory_id": name, "verifier": "string_match", "verifier_version": "1", "role": "rule", "verdict": verdict,
        "reason": "timeout" if score is None else "equal" if score else "different", "score": score, "answer": "0",
        "answer_format": "integer", "components": None, "appealed": False, "upheld": None, "flipped": False, "observed_reward": score,
    }  # fmt: skip


def judged(samples: list[dict], verdicts: list[dict], k: int, random: np.random.Generator) -> tuple[list[dict], list[dict]]:
    """Critiques of evaluation samples and their verdicts; the later the policy, the better it judges."""
    own = SelfVerification()
    known = outcomes(to_table("trajectories", samples), to_table("verdicts", verdicts), own)
    rows = []
    for row in samples:
        right, wrong, _ = own.levels
        truth = known[row["trajectory_id"]].true_level or known[row["trajectory_id"]].level or wrong
        for index in range(CRITIQUES):
            other = wrong if truth == right else right
            said = truth if random.random() < 0.5 + 0.12 * k else other
            text = "no box" if random.random() < 0.05 else f"It is so. \\boxed{{{said:g}}}"
            ids = [*text.encode(), 0]
            rows.append(row | {
                "trajectory_id": content_hash("critique", row["trajectory_id"], index), "sample_index": index, "text": text,
                "group_id": content_hash("critiques of", row["trajectory_id"]), "kind": "evaluation_critique",
                "parent_id": row["trajectory_id"], "completion_ids": ids, "loss_mask": [True] * len(ids),
                "sampled_logprobs": [-0.5] * len(ids), "finish_reason": "stop",
            })  # fmt: skip
    return rows, critique_verdicts(to_table("trajectories", rows), known, own).to_pylist()


def critic_columns(step: int) -> dict:
    """Of `updates`: a critic that is worse than the mean at first."""
    return {
        "value_loss": 0.5 / (1 + step), "value_clip_share": 0.01, "value_mean": 0.1 * step, "return_mean": 0.4 + 0.01 * step,
        "explained_variance": 0.9 - 4.0 / (1 + step), "critic_gradient_norm": 1.0,
    }  # fmt: skip
