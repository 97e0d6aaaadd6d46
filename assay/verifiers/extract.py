r"""The answer within a completion, and the form that it is written in.

Searched in this order: the last `\boxed{...}` (or `\fbox{...}`), `<answer>...</answer>`, the line after the last
`answer:` or `####`, and else the whole text. Every step takes time proportional to the text, and of long texts only
the end is searched.
"""

import re

from assay.rewards.boxes import closed_boxes

WINDOW = 20_000
"""Characters at the end of a text in which an answer is searched."""

# Repetitions are bounded: two unbounded ones side by side take quadratic time on a long run of spaces.
_MARKER = re.compile(r"\banswer\b(?:[ \t]{1,3}is)?[ \t]{0,3}(?:\*\*|__)?[ \t]{0,3}:|####", re.IGNORECASE)
_FORMULA = re.compile(r"[ \t]{0,3}[-+$\\(\[{.\d]")
_TAG_START, _TAG_END = re.compile(r"<answer>", re.IGNORECASE), re.compile(r"</answer>", re.IGNORECASE)

_DIGITS = r"(?:\d{1,3}(?:,\d{3})+|\d+)"
_FORMATS = (
    ("integer", re.compile(rf"[+-]?{_DIGITS}")),
    ("decimal", re.compile(rf"[+-]?(?:{_DIGITS}?\.\d+|{_DIGITS}\.)(?:[eE][+-]?\d+)?|[+-]?\d+[eE][+-]?\d+")),
    ("fraction", re.compile(rf"[+-]?(?:\d+\s+)?{_DIGITS}\s*/\s*[+-]?{_DIGITS}")),
)


def extract_answer(text: str) -> str:
    """The answer that a completion gives, stripped; empty where it gives none."""
    text = text[-WINDOW:] if len(text) > WINDOW and _is_marked(text[-WINDOW:]) else text
    if len(text) <= WINDOW:
        for search in (_boxed, _tagged, _marked):
            answer = search(text)
            if answer is not None:
                return answer
    return text.strip()


def answer_format(answer: str) -> str:
    """integer, decimal, fraction, latex, text or empty, by its looks alone."""
    answer = answer.strip()
    if not answer:
        return "empty"
    if len(answer) <= 200:
        for name, pattern in _FORMATS:
            if pattern.fullmatch(answer):
                return name
    return "latex" if "\\" in answer or "$" in answer else "text"


def _is_marked(text: str) -> bool:
    return "boxed" in text or "fbox" in text or "####" in text or "answer" in text.lower()


def _boxed(text: str) -> str | None:
    """Content of the closed box that begins last."""
    boxes = closed_boxes(text)
    return boxes[-1].content if boxes else None


def _tagged(text: str) -> str | None:
    ends = [match.start() for match in _TAG_END.finditer(text)]
    starts = [match.end() for match in _TAG_START.finditer(text) if ends and match.end() <= ends[-1]]
    return text[starts[-1] : ends[-1]].strip() if starts else None


def _marked(text: str) -> str | None:
    if "####" not in text and "answer" not in text.lower():
        return None
    # `####` marks an answer (GSM8K), but also a heading of Markdown: it counts before a number or formula, or in the last line.
    last_line = text.rstrip().rfind("\n")
    ends = [
        match.end()
        for match in _MARKER.finditer(text)
        if match.group() != "####" or match.start() > last_line or _FORMULA.match(text, match.end())
    ]
    if not ends:
        return None
    line = text[ends[-1] :].strip().split("\n", 1)[0].strip()
    for mark in ("**", "__"):
        line = line.removeprefix(mark).removesuffix(mark).strip()
    return line[:-1].rstrip() if line.endswith(".") and not line.endswith("..") else line
