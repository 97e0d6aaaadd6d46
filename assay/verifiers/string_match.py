"""The strictest rule: the answer is the gold, letter by letter. Rejects equal answers that are written differently."""

from assay.verifiers.verdicts import Finding, abstain, correct, wrong


def same(answer: str, gold: str) -> bool:
    """Equal but for white space at the ends and its amount within."""
    return answer == gold or " ".join(answer.split()) == " ".join(gold.split())


def judge(answer: str, gold: str) -> Finding:
    """Correct or wrong; abstains only where the gold is empty."""
    if not gold.strip():
        return abstain("gold_unparseable")
    if same(answer, gold):
        return correct()
    return wrong("different" if answer.strip() else "unparseable")
