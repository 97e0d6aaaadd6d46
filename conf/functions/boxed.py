r"""A reward function of your own: 1 for the right answer in a box, 0.1 for another one in a box, 0 without a box.

The convention is that of TRL's GRPOTrainer, so the same file can be used there. In params.yaml:

    verification:
      functions:
        boxed: {path: conf/functions/boxed.py}
      rule: boxed

What is passed, and what comes of the scores: docs/verifiers.md.
"""

import re

BOX = re.compile(r"\\boxed\{([^{}]*)\}")


def boxed(completions: list[str], answer: list[str], **kwargs: object) -> list[float]:
    scores = []
    for completion, right in zip(completions, answer, strict=True):
        boxes = BOX.findall(completion)
        scores.append(0.0 if not boxes else 1.0 if boxes[-1].strip() == right else 0.1)
    return scores
