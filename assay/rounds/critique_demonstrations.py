"""Critiques for the warm start of a policy made from scratch: it must know their form before it can be rewarded for their content."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from random import Random
from typing import Any

from assay.environments import Task
from assay.params import Params
from assay.rewards.self_verification import Levels, SelfVerificationError, critique_prompt, score_text
from assay.trajectories import seed_from
from assay.verifiers import Verdict
from assay.verifiers.critiques import level_of

KINDS, WEIGHTS = ("own", "near", "other", "cut"), (45, 35, 10, 10)
"""What is judged: the worked answer, the same with another digit, the answer to another task, half of the own one. A policy errs by digits:
where only answers to other tasks were wrong, it would learn to tell what is plausible, and call all of its own solutions right."""
TRIES = 16
"""Further worked answers that are looked through for a right one, to be written before the score."""


def critique_demonstrations(
    demonstrations: Sequence[Mapping[str, Any]], tasks: Mapping[str, Task], params: Params, verdict: Callable[[Task, str], Verdict],
    answer: Callable[[Task, Random], str],
) -> list[dict[str, Any]]:
    """Rows of `demonstrations` that judge a worked answer, so many that they are the share self_verification.demonstrations of all.

    The score is the true one with probability self_verification.demonstrated_accuracy, else another level. tasks: of the demonstrations.
    verdict: on a text. answer: another worked answer to a task. Equal parameters and demonstrations give equal rows. Raises
    SelfVerificationError without demonstrations.
    """
    own = params.self_verification
    if not own.demonstrations:
        return []
    if not demonstrations:
        raise SelfVerificationError(
            "self_verification.demonstrations is above 0, but there is no worked answer to judge: set tasks.demonstrations, or it to 0"
        )
    levels = Levels(*own.levels)
    by_environment: dict[str, list[int]] = defaultdict(list)
    for position, row in enumerate(demonstrations):
        by_environment[row["environment"]].append(position)
    rows = []
    for index in range(round(len(demonstrations) * own.demonstrations / (1 - own.demonstrations))):
        random = Random(seed_from(params.seed, "critique demonstration", index))
        row = demonstrations[random.randrange(len(demonstrations))]
        kind = random.choices(KINDS, WEIGHTS)[0]
        text = row["completion"]
        if kind == "near" and (changed := misread(text, random)) != text:
            text = changed
        elif kind in ("near", "other"):  # what has no digit has no near miss
            text = demonstrations[random.choice(by_environment[row["environment"]])]["completion"]
        elif kind == "cut":
            text = text[: len(text) // 2]
        task = tasks[row["task_id"]]
        found = verdict(task, text)
        level = level_of(found.verdict, found.reason, text, own)
        if level is None or random.random() >= own.demonstrated_accuracy:
            level = random.choice([value for value in levels.values if value != level])
        prompt = critique_prompt(task.question, text, levels=levels, template=own.template, boxed=own.boxed)
        working = ""
        if own.demonstrated_working:  # where answers of demonstrations may be wrong, one that is not
            others = () if row.get("turns") else (answer(task, random) for _ in range(TRIES))  # an episode is no working
            answers = chain([row["completion"]], others)
            working = next((f"{one} " for one in answers if verdict(task, one).verdict == "correct"), f"{row['completion']} ")
        rows.append({
            "task_id": row["task_id"], "environment": row["environment"], "prompt": [{"role": "user", "content": prompt}],
            "completion": f"{working}\\boxed{{{score_text(level)}}}",
        })  # fmt: skip
    return rows


def misread(text: str, random: Random) -> str:
    """The text with one of its digits replaced by another; without digits, as it is."""
    places = [place for place, character in enumerate(text) if character in "0123456789"]
    if not places:
        return text
    place = random.choice(places)
    return text[:place] + random.choice([digit for digit in "0123456789" if digit != text[place]]) + text[place + 1 :]
