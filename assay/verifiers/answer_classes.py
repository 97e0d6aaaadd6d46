"""Answers that a verifier takes for equal, as equal text: what votes are counted over."""

from assay.environments.oracles import parse_rational
from assay.verifiers import numeric


def answer_class(verifier: str, answer: str) -> str:
    """A cheap canonical form: 7 and 7.0 are one number where the verifier compares numbers.

    numeric: the value of whatever that verifier reads; math_verify: of plain numbers and fractions, which its own cheap step compares;
    formulas, and answers to string_match, count as they are written, but for white space; those to other verifiers as they are written.
    Equal text never means answers that the verifier tells apart; it does tell more formulas equal than are equal here.
    """
    written = " ".join(answer.split())
    if verifier == "numeric":
        value = parse_rational(answer)
        return written if value is None else str(value)
    if verifier == "math_verify":
        literal = numeric.read(answer)
        return written if literal is None else str(literal.value)
    return written if verifier == "string_match" else answer.strip()  # in SQL white space has a meaning
